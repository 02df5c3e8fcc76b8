"""What the daemon says of itself when asked: the state in short, and everything. `board` is the daemon.Board."""

from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import runtime
from wayhomed.wire import address, keys

from .control_session import PHASE_NAMES


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
    problems = [session.error, board.data_error, board.save_error] + list(board.links.errors.values())
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
        "problems": [problem for problem in problems if problem] + board.netmap.health,
    }


async def full_status(board) -> dict:
    """Return everything that `wayhomectl status` shows, ready for JSON."""
    result = summary(board)
    result["prefs"] = board.state.prefs.as_json()
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


def _peer_status(board, peer, traffic) -> dict:
    relays = board.links.relays
    shown = {
        "name": peer.display_name(),
        "addresses": [address.ip_text(prefix[0]) for prefix in peer.addresses],
        "routes": [address.prefix_text(p) for p in peer.allowed_ips if p not in peer.addresses],
        "online": peer.online,
        "expired": peer.is_expired(board.trusted_now_s()),
        "user": board.netmap.profiles.get(peer.user, ("", ""))[0],
        "os": peer.os,
        "path": "relay " + relays.region_code(peer.home_derp) if peer.home_derp else "none",
    }
    if traffic:
        shown["sent_bytes"] = traffic["sent_bytes"]
        shown["received_bytes"] = traffic["received_bytes"]
        shown["handshake_s"] = traffic["handshake_s"]
    return shown
