"""A netmap of thousands of peers on a small heap: MicroPython runs this with 8 MB, as a board does."""

import gc
import json

from shared.map_message import kept
from wayhomed.core.map_response import ResponseReader
from wayhomed.core.netmap import Netmap

HEAP_BYTES = getattr(gc, "mem_alloc", None)  # MicroPython
BYTES_A_PEER = 1_500  # what a peer below takes is 1,000 to 1,300, the dict's slot included; as a tree of dicts 5,000


def peer(number):
    high, low = number >> 8, number & 255
    addresses = [f"100.64.{high}.{low}/32", f"fd7a:115c:a1e0::{number:x}/128"]
    return {
        "ID": number,
        "StableID": f"n{number}",
        "Name": f"machine-{number}.tail12ab.example.net.",
        "User": 7,
        "Key": f"nodekey:{number:064x}",
        "Machine": f"mkey:{number + 7:064x}",
        "DiscoKey": f"discokey:{number + 9:064x}",
        "Addresses": addresses,
        "AllowedIPs": addresses,
        "Endpoints": [f"203.0.{high}.{low}:41641", f"192.168.1.{low}:41641"],
        "HomeDERP": 900,
        "Hostinfo": {"OS": "linux", "OSVersion": "6.12.20", "Hostname": f"machine-{number}", "Services": None},
        "Created": "2026-10-01T09:00:00Z",
        "Cap": 130,
        "Online": True,
        "MachineAuthorized": True,
        "CapMap": {"https://tailscale.com/cap/file-sharing": None},
    }


def pieces(count):
    """Yield a first response with so many peers; it is nowhere whole."""
    own = peer(count + 1)
    yield b'{"Node":' + json.dumps(own).encode() + b',"Peers":['
    for number in range(1, count + 1):
        text = json.dumps(peer(number)).encode()
        yield text[:300]
        yield text[300:] + (b"," if number < count else b"]}")


def taken_in(netmap, source):
    reader = ResponseReader(netmap.peers)
    for piece in source:
        reader.feed(piece)
    return netmap.apply(reader.close())


def in_use():
    gc.collect()
    return HEAP_BYTES() if HEAP_BYTES else 0


def test_2500_peers_fit_and_take_little_more_each_than_their_keys_and_names():
    before = in_use()
    netmap = Netmap()
    taken_in(netmap, pieces(2500))
    assert len(netmap.peers) == 2500
    assert netmap.peers[2500].hostname == "machine-2500"
    assert in_use() - before < 2500 * BYTES_A_PEER


def test_the_same_peers_in_a_new_stream_take_no_more():
    netmap = Netmap()
    taken_in(netmap, pieces(500))
    before = in_use()
    netmap.new_stream()
    difference = taken_in(netmap, pieces(500))
    assert difference.peers_changed == [] and difference.peers_removed == []
    assert in_use() - before < 60_000


def test_a_netmap_goes_to_disk_and_comes_back_peer_by_peer():
    netmap = Netmap()
    taken_in(netmap, pieces(500))
    before = in_use()
    again = Netmap()
    taken_in(again, netmap.json_pieces())
    assert len(again.peers) == 500
    assert in_use() - before < 500 * BYTES_A_PEER
    largest = 0
    for piece in netmap.json_pieces():
        largest = max(largest, len(piece))
    assert largest < 2000
    if not HEAP_BYTES:
        assert kept(again) == kept(netmap)
