"""STUN Binding, the little of it that Tailscale's clients and relays use, both roles.

    request   type 0x0001, length 20, magic, 12 B txid; SOFTWARE "tailnode"; FINGERPRINT
    response  type 0x0101, length,    magic, the same txid; XOR-MAPPED-ADDRESS

Source: RFC 8489 sections 5, 14.2, 14.7 and 14.14; protocol reference, DERP section 8.
"""

import struct
from binascii import crc32

from ..port import const
from .address import IPV4_BYTES, IPV6_BYTES
from .errors import BadWire
from .mapped_address import mapped, unmapped

# --- Fixed by the protocol ---
MAGIC = b"\x21\x12\xa4\x42"
HEADER = ">HH4s12s"  # type, length of what follows the header, magic, txid
HEADER_BYTES = const(20)
TXID_BYTES = const(12)
BINDING_REQUEST = const(0x0001)
BINDING_RESPONSE = const(0x0101)
ATTRIBUTE_MAPPED_ADDRESS = const(0x0001)  # 1 B zero, 1 B family, u16 port, address
ATTRIBUTE_XOR_MAPPED_ADDRESS = const(0x0020)  # the same, port and address mixed with magic and txid
ATTRIBUTE_XOR_MAPPED_ADDRESS_OLD = const(0x8020)
ATTRIBUTE_SOFTWARE = const(0x8022)
ATTRIBUTE_FINGERPRINT = const(0x8028)
SOFTWARE = b"tailnode"
_FINGERPRINT_XOR = const(0x5354554E)
_FINGERPRINT_BYTES = const(8)
_IPV4 = const(1)
_IPV6 = const(2)


def is_stun(datagram: bytes) -> bool:
    """Tell whether a datagram that came to the WireGuard port is STUN."""
    return len(datagram) >= HEADER_BYTES and not datagram[0] & 0xC0 and datagram[4:8] == MAGIC


def encode_binding_request(txid: bytes) -> bytes:
    """Return the 40-byte request; txid is 12 random bytes."""
    length = 4 + len(SOFTWARE) + _FINGERPRINT_BYTES
    start = struct.pack(HEADER, BINDING_REQUEST, length, MAGIC, txid)
    start += struct.pack(">HH", ATTRIBUTE_SOFTWARE, len(SOFTWARE)) + SOFTWARE
    return start + struct.pack(">HHI", ATTRIBUTE_FINGERPRINT, 4, _fingerprint(start))


def decode_binding_request(datagram: bytes) -> bytes:
    """Return the txid of a request as Tailscale's clients send it.

    Raises BadWire for everything else, also for honest STUN of other software: a server that answers only these is of
    no use for amplification, and is not found by scans.
    """
    if not is_stun(datagram):
        raise BadWire("not STUN")
    message_type, length, _, txid = struct.unpack_from(HEADER, datagram, 0)
    if message_type != BINDING_REQUEST or length != len(datagram) - HEADER_BYTES:
        raise BadWire("not a Binding request")
    # In a request too short for a FINGERPRINT this looks into the header; it then has no room for SOFTWARE either.
    end = len(datagram) - _FINGERPRINT_BYTES
    attribute, size, fingerprint = struct.unpack_from(">HHI", datagram, end)
    if attribute != ATTRIBUTE_FINGERPRINT or size != 4 or fingerprint != _fingerprint(datagram[:end]):
        raise BadWire("a Binding request without its FINGERPRINT last")
    for attribute, start, size in _attributes(datagram, end):
        if attribute == ATTRIBUTE_SOFTWARE:
            if datagram[start : start + size] != SOFTWARE:
                break
            return txid
    raise BadWire("a Binding request of other software")


def encode_binding_response(txid: bytes, address: bytes, port: int) -> bytes:
    """Return the response for a request seen from address (4 or 16 bytes; mapped IPv4 counts as IPv4) and port."""
    address = unmapped(mapped(address))
    family = _IPV4 if len(address) == IPV4_BYTES else _IPV6
    return (
        struct.pack(HEADER, BINDING_RESPONSE, 8 + len(address), MAGIC, txid)
        + struct.pack(">HHBBH", ATTRIBUTE_XOR_MAPPED_ADDRESS, 4 + len(address), 0, family, port ^ 0x2112)
        + _mixed(address, txid)
    )


def decode_binding_response(datagram: bytes) -> tuple:
    """Return (txid, address, port): address is 4 or 16 bytes, where the server saw us.

    Raises BadWire if this is no success response, is cut short, or holds no mapped address.
    """
    if not is_stun(datagram):
        raise BadWire("not STUN")
    message_type, length, _, txid = struct.unpack_from(HEADER, datagram, 0)
    if message_type != BINDING_RESPONSE:
        raise BadWire("not a Binding success response")
    if length > len(datagram) - HEADER_BYTES:
        raise BadWire("a Binding response is cut short")
    plain = None
    for attribute, start, size in _attributes(datagram, HEADER_BYTES + length):
        if attribute in (ATTRIBUTE_XOR_MAPPED_ADDRESS, ATTRIBUTE_XOR_MAPPED_ADDRESS_OLD):
            address, port = _address(datagram[start : start + size])
            return txid, unmapped(mapped(_mixed(address, txid))), port ^ 0x2112
        if attribute == ATTRIBUTE_MAPPED_ADDRESS and plain is None:
            # Only if no XOR form follows: some NATs rewrite any address that they find in a payload.
            plain = _address(datagram[start : start + size])
    if plain is None:
        raise BadWire("a Binding response without a mapped address")
    return txid, unmapped(mapped(plain[0])), plain[1]


def _attributes(datagram: bytes, end: int) -> list:
    """Return (type, start of the value, its length) of each attribute up to `end`; values are padded to 4 bytes."""
    found = []
    at = HEADER_BYTES
    while at < end:
        if end - at < 4:
            raise BadWire("a STUN attribute is cut short")
        attribute, size = struct.unpack_from(">HH", datagram, at)
        if size > end - at - 4:
            raise BadWire("a STUN attribute is cut short")
        found.append((attribute, at + 4, size))
        at += 4 + (size + 3 & ~3)
    return found


def _address(value: bytes) -> tuple:
    """Return (address, port) as they stand in a (XOR-)MAPPED-ADDRESS value."""
    if len(value) < 4:
        raise BadWire("a mapped address is cut short")
    family, port = struct.unpack_from(">BH", value, 1)
    if family not in (_IPV4, _IPV6):
        raise BadWire("a mapped address of an unknown family")
    size = IPV4_BYTES if family == _IPV4 else IPV6_BYTES
    if len(value) != 4 + size:
        raise BadWire("a mapped address of the wrong length")
    return bytes(value[4:]), port


def _mixed(address: bytes, txid: bytes) -> bytes:
    """Return the address XOR magic and txid; doing it twice gives the address back."""
    mask = MAGIC + txid
    return bytes([address[i] ^ mask[i] for i in range(len(address))])


def _fingerprint(start: bytes) -> int:
    """Return the FINGERPRINT of all that stands before it; the header's length already counts it."""
    return crc32(start) ^ _FINGERPRINT_XOR
