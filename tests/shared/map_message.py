"""A map response given as a dict, read as the daemon reads it: as bytes."""

import json

from wayhomed.core.map_response import read_response


def take(netmap, fields, now_s=0):
    """Let the netmap have the response; return its Difference. Raises BadWire."""
    return netmap.apply(read_response(json.dumps(fields).encode(), netmap.peers), now_s)


def kept(netmap):
    """Return what of a netmap goes to disk."""
    return b"".join(netmap.json_pieces())


def described(netmap):
    """Return all that a netmap says, to compare."""
    now = [(peer.id, peer.online, peer.last_seen_s) for peer in netmap.peers.values()]
    return kept(netmap), sorted(now), netmap.health, netmap.messages
