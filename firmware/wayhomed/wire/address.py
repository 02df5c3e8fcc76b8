"""IP addresses, prefixes and endpoints: text <-> network bytes (4 or 16, by family).

A prefix is (network bytes, length in bits) with all host bits zero; an endpoint is (address bytes, port).
Text that no honest peer would write raises BadWire. Source: RFC 4291 section 2.2, RFC 5952.
"""

from binascii import hexlify, unhexlify

from ..port import const
from .errors import BadWire

IPV4_BYTES = const(4)
IPV6_BYTES = const(16)
_GROUPS = const(8)
_MAPPED = b"\0" * 10 + b"\xff\xff"


def ip_from_text(text: str) -> bytes:
    """Return the 4 or 16 bytes of "192.0.2.1" or "2001:db8::1". No zone ("%eth0"), no leading zeros in IPv4."""
    if not isinstance(text, str):
        raise BadWire("not an IP address")
    if ":" in text:
        return _ipv6_from_text(text)
    return _ipv4_from_text(text)


def ip_text(ip: bytes) -> str:
    """Return the text of 4 or 16 bytes, IPv6 in the form of RFC 5952."""
    if len(ip) == IPV4_BYTES:
        return ".".join([str(byte) for byte in ip])
    if len(ip) != IPV6_BYTES:
        raise ValueError("an IP address has 4 or 16 bytes, not " + str(len(ip)))
    if ip[:12] == _MAPPED:
        return "::ffff:" + ip_text(ip[12:])
    groups = [ip[2 * i] << 8 | ip[2 * i + 1] for i in range(_GROUPS)]
    start, length = _longest_zeros(groups)
    if length < 2:
        return _groups_text(groups)
    return _groups_text(groups[:start]) + "::" + _groups_text(groups[start + length :])


def prefix_from_text(text: str) -> tuple:
    """Return (network bytes, length) of "10.0.0.0/8"; a bare address is a prefix of full length."""
    if not isinstance(text, str):
        raise BadWire("not a prefix")
    network, slash, length_text = text.partition("/")
    ip = ip_from_text(network)
    if not slash:
        return ip, 8 * len(ip)
    length = _decimal(length_text, 8 * len(ip))
    if _host_bits(ip, length):
        raise BadWire("bits are set behind the prefix's length: " + text)
    return ip, length


def prefix_text(prefix: tuple) -> str:
    """Return "10.0.0.0/8"; the length is always written."""
    return ip_text(prefix[0]) + "/" + str(prefix[1])


def endpoint_from_text(text: str) -> tuple:
    """Return (address bytes, port) of "192.0.2.1:41641" or "[2001:db8::1]:41641"."""
    if not isinstance(text, str):
        raise BadWire("not an endpoint")
    host, _, port_text = text.rpartition(":")
    port = _decimal(port_text, 65535)
    if host[:1] == "[" and host[-1:] == "]":
        ip = ip_from_text(host[1:-1])
        if len(ip) != IPV6_BYTES:
            raise BadWire("brackets around an IPv4 address")
        return ip, port
    ip = ip_from_text(host)
    if len(ip) != IPV4_BYTES:
        raise BadWire("an IPv6 endpoint without brackets")
    return ip, port


def endpoint_text(endpoint: tuple) -> str:
    """Return "192.0.2.1:41641" or "[2001:db8::1]:41641"."""
    ip, port = endpoint
    if len(ip) == IPV4_BYTES:
        return ip_text(ip) + ":" + str(port)
    return "[" + ip_text(ip) + "]:" + str(port)


def contains(prefix: tuple, ip: bytes) -> bool:
    """Tell whether the address lies in the prefix; never across families."""
    network, length = prefix
    if len(network) != len(ip):
        return False
    shift = 8 * len(ip) - length
    return int.from_bytes(network, "big") >> shift == int.from_bytes(ip, "big") >> shift


def overlaps(a: tuple, b: tuple) -> bool:
    """Tell whether two prefixes share an address."""
    return contains((a[0], min(a[1], b[1])), b[0])


def _host_bits(ip: bytes, length: int) -> int:
    """Return the bits of ip behind the first `length`."""
    return int.from_bytes(ip, "big") & ((1 << 8 * len(ip) - length) - 1)


def _decimal(text: str, most: int) -> int:
    """Return the number 0..most that the text writes with decimal digits and no leading zero."""
    if not text or len(text) > 5 or (text[0] == "0" and text != "0"):
        raise BadWire("not a number from 0 to " + str(most))
    for digit in text:
        if digit not in "0123456789":
            raise BadWire("not a number from 0 to " + str(most))
    number = int(text)
    if number > most:
        raise BadWire("not a number from 0 to " + str(most))
    return number


def _ipv4_from_text(text: str) -> bytes:
    parts = text.split(".", IPV4_BYTES)
    if len(parts) != IPV4_BYTES:
        raise BadWire("not an IP address")
    return bytes([_decimal(part, 255) for part in parts])


def _ipv6_from_text(text: str) -> bytes:
    gap = text.find("::")
    if gap < 0:
        ip = _groups_from_text(text)
        if len(ip) != IPV6_BYTES:
            raise BadWire("not an IP address")
        return ip
    head = _groups_from_text(text[:gap], False)
    tail = _groups_from_text(text[gap + 2 :])
    # "::" stands for at least one group.
    if len(head) + len(tail) > IPV6_BYTES - 2:
        raise BadWire("not an IP address")
    return head + bytes(IPV6_BYTES - len(head) - len(tail)) + tail


def _groups_from_text(text: str, may_end_in_ipv4: bool = True) -> bytes:
    """Return the bytes of colon-separated groups; the last may be an IPv4 address."""
    if not text:
        return b""
    packed = b""
    parts = text.split(":", _GROUPS)  # of a text with more, the last part is too long
    if may_end_in_ipv4 and "." in parts[-1]:
        last = _ipv4_from_text(parts.pop())
    else:
        last = b""
    for part in parts:
        if not 1 <= len(part) <= 4:
            raise BadWire("not an IP address")
        try:
            packed += unhexlify("0" * (4 - len(part)) + part)
        except ValueError:
            raise BadWire("not an IP address")
    return packed + last


def _groups_text(groups: list) -> str:
    return ":".join([hexlify(bytes((group >> 8, group & 255))).decode().lstrip("0") or "0" for group in groups])


def _longest_zeros(groups: list) -> tuple:
    """Return (start, length) of the first longest run of zero groups."""
    best_start = best = run = 0
    for i in range(_GROUPS):
        run = run + 1 if groups[i] == 0 else 0
        if run > best:
            best = run
            best_start = i + 1 - run
    return best_start, best
