"""What the daemon says of itself when asked: the state in short, and everything. `board` is the daemon.Board."""

from wayhomed.core import netcheck as measuring
from wayhomed.core.endpoints import LOCAL, STUN, STUN4_LOCAL_PORT
from wayhomed.core.netcheck import Nat
from wayhomed.core.path import Reason
from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import monotonic_ms, runtime
from wayhomed.wire import address, keys

from .control_session import PHASE_NAMES
from .missing import waiting_for
from .path_words import REASON_NAMES, why_not_direct

# Where an endpoint of ours is from, by its type (disco.md section 3)
_ENDPOINT_SOURCES = {
    LOCAL: "an address of this machine",
    STUN: "seen from outside (STUN)",
    STUN4_LOCAL_PORT: "outside address with our own port, in case the router forwards it",
}
# What JSON says for each kind of NAT (IPv4), for scripts
_NAT_NAMES = {
    Nat.UNKNOWN: "unknown",
    Nat.NO_NETWORK: "no network",
    Nat.BLOCKED: "UDP blocked",
    Nat.NONE: "none",
    Nat.EASY: "easy",
    Nat.HARD: "hard",
    Nat.UNTOLD: "easy or hard",
}


def summary(board) -> dict:
    """Return the state in short, ready for JSON."""
    session, relays, node = board.session, board.links.relays, board.netmap.node
    own = None
    if node is not None:
        own = {
            "name": node.name.rstrip("."),
            "addresses": [address.ip_text(prefix[0]) for prefix in node.addresses],
            "node_key": keys.key_text(keys.NODE, node.key),
            "key_expiry_s": node.key_expiry_s,
            "expired": node.is_expired(board.trusted_now_s()),
        }
    problems = [session.error, board.data_error, board.saver.error] + list(board.links.errors.values())
    problems += board.configuration.problems
    clock = board.clock.status()
    problems += [clock["problem"], board.expiry_warning(), board.state.problem]
    return {
        "state": PHASE_NAMES[session.phase],
        "up": board.is_up(),
        "runtime": runtime.python_name(),
        "auth_url": session.auth_url,
        "self": own,
        "coordinator": {
            "url": board.state.prefs.login_server,
            "connected": session.connected,
            "joined": board.state.registered,
        },
        "relay": {
            "region": relays.home,
            "code": relays.region_code(relays.home),
            "connected": relays.is_up(relays.home),
            "bytes_sent": board.links.bytes_sent,
            "bytes_received": board.links.bytes_received,
        },
        "tunnel": {"standing": board.data_plane is not None, "applied": board.applied},
        "problems": [problem for problem in problems if problem] + board.netmap.warnings(),
        "troubles": [trouble.as_json() for part in board.parts for trouble in part.troubles()],
        "waiting_for": waiting_for(board),
        "clock": clock,
    }


def in_one_line(board) -> str:
    """Return how the board is, or what it lacks, as one sentence."""
    short = summary(board)
    problems = short["problems"]
    more = "; " + problems[0] if problems else ""
    if not board.state.prefs.want_running:
        return "down; wayhomectl up brings it into the mesh" + more
    if short["auth_url"]:
        return "waits for somebody to let it in; wayhomectl status shows the link"
    if not short["up"]:
        return "waiting for: " + short["waiting_for"] if short["waiting_for"] else "not up yet: " + short["state"]
    return "up as %s: %d peers, relay %s%s" % (
        short["self"]["name"],
        len(board.netmap.peers),
        short["relay"]["code"],
        more,
    )


async def full_status(board) -> dict:
    """Return everything that `wayhomectl status` shows, ready for JSON."""
    result = summary(board)
    result["prefs"] = board.state.prefs.as_json()
    result["configuration"] = board.configuration.path
    result["settings"] = board.configuration.settings(board.state.said)
    result["denied"] = board.denied
    result["refused_packets"] = refused_packets(board)
    for part in board.parts:
        if part.name:
            result[part.name] = part.status()
    traffic: dict = {}
    try:
        seen = await board.data_plane_status()
    except DataPlaneError as error:
        result["problems"].append(str(error))
    else:
        traffic = seen.pop("peers")
        result["problems"] += seen.pop("problems")
        result["tunnel"].update(seen)
    peers = board.netmap.peers
    result["peers"] = [
        _peer_status(board, peers[node_id], traffic.get(peers[node_id].key)) for node_id in sorted(peers)
    ]
    return result


def refused_packets(board) -> dict:
    """Return how many packets came that no honest node sends, by what is wrong with them."""
    counted = dict(board.paths.refused())
    if board.refused_packets:
        counted["by a relay, from nobody we know"] = board.refused_packets
    return counted


def _peer_status(board, peer, traffic) -> dict:
    shown = {
        "id": peer.id,
        "name": peer.display_name(),
        "addresses": [address.ip_text(prefix[0]) for prefix in peer.addresses],
        "routes": [address.prefix_text(p) for p in peer.allowed_ips if p not in peer.addresses],
        "online": peer.online,
        "expired": peer.is_expired(board.trusted_now_s()),
        "user": board.netmap.profiles.get(peer.user, ("", ""))[0],
        "os": peer.os,
    }
    shown.update(path_status(board, peer, monotonic_ms()))
    if traffic:
        shown["sent_bytes"] = traffic["sent_bytes"]
        shown["received_bytes"] = traffic["received_bytes"]
        shown["handshake_s"] = traffic["handshake_s"]
    return shown


def path_status(board, peer, now_ms: int) -> dict:
    """Return how a peer is reached, ready for JSON.

    path: "direct ADDRESS:PORT", "relay CODE" or "none"; endpoint: the former's, else ""; latency_ms: of the direct
    path; since_s: for how long so, None if the peer was never looked at; reason: one of REASON_NAMES; why: why it is
    not direct, in words, "" where it is.
    """
    view = board.paths.view(peer.key)
    relay = "relay " + board.links.relays.region_code(peer.home_derp) if peer.home_derp else "none"
    shown = {"path": relay, "endpoint": "", "latency_ms": None, "since_s": None, "reason": "", "why": ""}
    if view is None:
        return shown
    shown["since_s"] = round(max(0, now_ms - view.since_ms) / 1000, 1)
    shown["reason"] = REASON_NAMES[view.reason]
    shown["why"] = why_not_direct(view, board.paths.netcheck, peer.online)
    if view.reason == Reason.NO_DISCO_KEY and peer.is_expired(board.trusted_now_s()):
        shown["why"] = "its key has expired"
    if view.reason == Reason.DIRECT:
        endpoint = address.endpoint_text(view.best)
        shown["endpoint"] = endpoint
        shown["path"] = "direct " + endpoint
        shown["latency_ms"] = view.latency_ms
    return shown


def watched(board) -> list:
    """Return what a watcher is told anew when it differs: all of the status but figures that never stand still."""
    now_ms = monotonic_ms()
    short = summary(board)
    seen = [short["state"], short["up"], short["coordinator"], short["relay"]["code"], short["relay"]["connected"]]
    seen += [short["self"], short["auth_url"], short["problems"], board.data_plane is not None, short["waiting_for"]]
    seen.append(short["troubles"])
    peers = board.netmap.peers
    for node_id in sorted(peers):
        peer = peers[node_id]
        path = path_status(board, peer, now_ms)
        seen.append((node_id, peer.name, peer.online, peer.expired, path["path"], path["reason"]))
    return seen


def netcheck_status(board, netcheck) -> dict:
    """Return what a measurement found, in words too, with the relays and what other nodes are told; ready for JSON."""
    relays = board.links.relays
    regions = board.netmap.derp_map.regions
    home = relays.home
    return {
        "udp": {
            "ipv4": {"asked": netcheck.asked4, "answered": netcheck.answered4, "unreachable": netcheck.unreachable4},
            "ipv6": {"asked": netcheck.asked6, "answered": netcheck.answered6, "unreachable": netcheck.unreachable6},
        },
        "outside": [address.endpoint_text(endpoint) for endpoint, _times in netcheck.mapped4 + netcheck.mapped6],
        "nat": _NAT_NAMES[measuring.nat_kind(netcheck, board.paths.local_ips())],
        "words": measuring.describe(netcheck, board.paths.local_ips()),
        "relays": [
            {
                "region": region_id,
                "code": regions[region_id].code,
                "name": regions[region_id].name,
                "home": region_id == home,
                "connected": relays.is_up(region_id),
                "latency_ms": {
                    "ipv4": netcheck.latencies_ms.get((region_id, 4)),
                    "ipv6": netcheck.latencies_ms.get((region_id, 6)),
                },
            }
            for region_id in sorted(regions)
        ],
        "endpoints": [
            {"endpoint": address.endpoint_text(endpoint), "type": kind, "from": _ENDPOINT_SOURCES.get(kind, "")}
            for endpoint, kind in board.paths.endpoints()
        ],
    }
