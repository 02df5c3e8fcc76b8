"""What we tell the coordinator: Hostinfo with NetInfo (control.md section 8.6), endpoints, and what carries them."""

import json
from binascii import hexlify

from wayhomed.core.prefs import Prefs
from wayhomed.port import const, runtime
from wayhomed.port.crypto import sha256
from wayhomed.wire import address, keys

from .version import VERSION

# Fixed by what we are: peers gate peer relay on 121, which a kernel WireGuard can't do (control.md section 11).
CAPABILITY_VERSION = const(120)
_ZERO_TIME = "0001-01-01T00:00:00Z"
LOGGED_OUT = "1970-01-01T00:02:03Z"  # as an expiry (control.md 5: logout)


def hostinfo(prefs: Prefs, machine_public: bytes, net_info: dict) -> dict:
    """Return Hostinfo; an empty net_info is left out, which keeps what the coordinator has."""
    system, release, machine = runtime.operating_system()
    info = {
        "IPNVersion": "wayhomed-" + VERSION,
        # A field that some servers want filled. Nothing is logged anywhere; it names this machine and no person.
        "BackendLogID": hexlify(sha256(b"wayhomed log id" + machine_public)).decode(),
        "OS": system,
        "OSVersion": release,
        "Machine": machine,
        "Hostname": prefs.hostname or _label(runtime.hostname()),
        "RoutableIPs": [address.prefix_text(prefix) for prefix in prefs.advertise_routes],
        "NoLogsNoSupport": True,
    }
    if net_info:
        info["NetInfo"] = net_info
    return info


def without_latencies(info: dict) -> dict:
    """Return a Hostinfo without what differs at each measurement: no reason to tell anybody (control.md 8.6)."""
    if "NetInfo" not in info:
        return info
    kept = dict(info)
    kept["NetInfo"] = {name: info["NetInfo"][name] for name in info["NetInfo"] if name != "DERPLatency"}
    return kept


def _label(name: str) -> str:
    """Return a machine's own name as a DNS label."""
    name = name.split(".")[0].lower()
    return "".join([c if c in "abcdefghijklmnopqrstuvwxyz0123456789-" else "-" for c in name]).strip("-")[:63]


def register_body(
    node_public: bytes,
    old_node_public: bytes,
    auth_key: str,
    followup: str,
    ephemeral: bool,
    info: dict,
    expiry: str = _ZERO_TIME,
) -> bytes:
    """Return a RegisterRequest (control.md 5.1). expiry: when the key is to end, LOGGED_OUT for now."""
    request = {
        "Version": CAPABILITY_VERSION,
        "NodeKey": keys.key_text(keys.NODE, node_public),
        "OldNodeKey": keys.key_text(keys.NODE, old_node_public),
        "NLKey": keys.key_text(keys.NETWORK_LOCK, keys.ZERO),
        "Expiry": expiry,
        "Followup": followup,
        "Hostinfo": info,
        "NodeKeySignature": None,
    }
    if auth_key:
        request["Auth"] = {"AuthKey": auth_key}
    if ephemeral:
        request["Ephemeral"] = True
    return json.dumps(request).encode()


def map_body(
    node_public: bytes, disco_public: bytes, info: dict, stream: bool, endpoints, warnings: list | tuple = ()
) -> bytes:
    """Return a MapRequest (control.md 6): the poll, or a lite update. No Compress: a board has no zstd.

    endpoints: [((ip, port), type)], most reliable first; None while they are not known, which leaves what the
    coordinator has. warnings: words for the administrator (control.md 6: DebugFlags).
    """
    request = {
        "Version": CAPABILITY_VERSION,
        "KeepAlive": True,
        "NodeKey": keys.key_text(keys.NODE, node_public),
        "DiscoKey": keys.key_text(keys.DISCO, disco_public),
        "Hostinfo": info,
        "Stream": stream,
    }
    if endpoints is not None:
        request["Endpoints"] = [address.endpoint_text(endpoint) for endpoint, _kind in endpoints]
        request["EndpointTypes"] = [kind for _endpoint, kind in endpoints]
    if warnings:
        request["DebugFlags"] = list(warnings)
    if not stream:
        request["OmitPeers"] = True
    return json.dumps(request).encode()
