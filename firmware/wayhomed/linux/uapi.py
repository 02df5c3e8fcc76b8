"""WireGuard's cross-platform userspace interface as text; the socket is linux.userspace_wireguard's business.

A request is lines of key=value that end in an empty line; an answer the same, its last line errno=N. Keys are hex.
Source: wireguard.com/xplatform, "Configuration Protocol".
"""

from binascii import hexlify, unhexlify

from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from .wireguard import Device, PeerStatus

GET = b"get=1\n\n"
_KEY_BYTES = const(32)


def encode_device(private_key: bytes, port: int, fwmark: int) -> bytes:
    """Return the request that sets key, port and mark of the device, peers untouched."""
    return b"set=1\nprivate_key=%s\nlisten_port=%d\nfwmark=%d\n\n" % (hexlify(private_key), port, fwmark)


def encode_peers(changes: list) -> bytes:
    """Return the request that applies these PeerChanges (linux.wireguard), in their order."""
    lines = ["set=1"]
    for change in changes:
        lines.append("public_key=" + hexlify(change.public_key).decode())
        if change.remove:
            lines.append("remove=true")
            continue
        if change.update_only:
            lines.append("update_only=true")
        if change.endpoint is not None:
            lines.append("endpoint=" + address.endpoint_text(change.endpoint))
        if change.replace_allowed:
            lines.append("replace_allowed_ips=true")
        for prefix in change.allowed:
            lines.append("allowed_ip=" + address.prefix_text(prefix))
    return "\n".join(lines).encode() + b"\n\n"


def is_whole(answer: bytes) -> bool:
    """Tell whether an answer has come to its end."""
    return answer[-2:] == b"\n\n"


def decode_errno(answer: bytes) -> int:
    """Return the errno of an answer, 0 for success, positive on failure."""
    for line in answer.split(b"\n"):
        if line[:6] == b"errno=":
            return abs(_number(line[6:]))
    raise BadWire("WireGuard's answer has no errno")


def decode_device(answer: bytes) -> Device:
    """Return the Device of the answer to GET. Raises BadWire if it is no such answer, OSError if it is a refusal."""
    failure = decode_errno(answer)
    if failure:
        raise OSError(failure, "WireGuard refused")
    device = Device()
    peer = None
    for line in answer.split(b"\n"):
        at = line.find(b"=")
        if at < 0:
            continue
        name, value = line[:at], line[at + 1 :]
        if name == b"public_key":
            peer = PeerStatus(_key(value))
            device.peers[peer.public_key] = peer
        elif peer is None:
            if name == b"listen_port":
                device.port = _number(value)
            elif name == b"fwmark":
                device.fwmark = _number(value)
        elif name == b"endpoint":
            peer.endpoint = address.endpoint_from_text(str(value, "utf-8"))
        elif name == b"allowed_ip":
            peer.allowed.append(address.prefix_from_text(str(value, "utf-8")))
        elif name == b"rx_bytes":
            peer.received_bytes = _number(value)
        elif name == b"tx_bytes":
            peer.sent_bytes = _number(value)
        elif name == b"last_handshake_time_sec":
            peer.handshake_s = _number(value)
    return device


def _key(text: bytes) -> bytes:
    try:
        key = unhexlify(text)
    except ValueError:
        raise BadWire("a key that is not hex")
    if len(key) != _KEY_BYTES:
        raise BadWire("a key of %d bytes" % len(key))
    return key


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadWire("not a number")
