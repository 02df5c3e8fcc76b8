"""What is sent and read on a LAN below IP sockets: ARP, IPv6 echoes to all nodes, Wake-on-LAN.

    frame         destination 6 | source 6 | ethertype 2 | payload
    ARP           1 2 | 0x0800 2 | 6 1 | 4 1 | operation 2 | sender MAC 6, IPv4 4 | target MAC 6, IPv4 4
    echo          IPv6 header 40 | type 1 | 0 1 | checksum 2 | id 2 | number 2
    magic packet  ff 6 | the sleeper's MAC 16 times

Source: RFC 826; RFC 8200 section 3 and RFC 4443 section 4; AMD, Magic Packet Technology (publication 20213).
"""

import struct
from binascii import hexlify, unhexlify

from ..port import const
from .errors import BadWire

# --- Fixed by the protocols ---
MAC_BYTES = const(6)
ETHERTYPE_ARP = const(0x0806)
ETHERTYPE_IPV6 = const(0x86DD)
ETHERTYPE_WAKE = const(0x0842)
BROADCAST = b"\xff\xff\xff\xff\xff\xff"
_HEADER_BYTES = const(14)
_ARP = ">HHBBH6s4s6s4s"
_ARP_BYTES = const(28)
_ETHERNET = const(1)
_IPV4 = const(0x0800)
_REQUEST = const(1)
_ALL_NODES = b"\xff\x02" + bytes(13) + b"\x01"
_ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
_ICMPV6 = const(58)
_ECHO_REQUEST = const(128)
_ECHO_REPLY = const(129)
_ECHO_BYTES = const(8)
_IPV6_BYTES = const(40)
_IPV6_VERSION = const(6)
_WAKE_TIMES = const(16)


def is_device(mac: bytes) -> bool:
    """Tell whether a MAC may be one device's: not a group's, not all zero."""
    return not mac[0] & 1 and mac != bytes(MAC_BYTES)


def mac_text(mac: bytes) -> str:
    """Return "00:11:32:aa:bb:cc"."""
    return ":".join([hexlify(bytes((byte,))).decode() for byte in mac])


def mac_from_text(text: str) -> bytes:
    """Return the 6 bytes of a MAC as people write it: 00:11:32:AA:BB:CC, 00-11-…, 0011.32aa.bbcc, 001132aabbcc.

    Raises BadWire, saying why, also for one that no device can have.
    """
    if not isinstance(text, str):
        raise BadWire("not a MAC address; one is written 00:11:32:aa:bb:cc")
    digits = text
    for mark, places in ((":", (2, 5, 8, 11, 14)), ("-", (2, 5, 8, 11, 14)), (".", (4, 9))):
        if mark in text and tuple([place for place in range(len(text)) if text[place] == mark]) == places:
            digits = text.replace(mark, "")
    if len(digits) != 2 * MAC_BYTES or [digit for digit in digits if digit not in "0123456789abcdefABCDEF"]:
        raise BadWire("not a MAC address; one is written 00:11:32:aa:bb:cc")
    mac = unhexlify(digits)
    if not is_device(mac):
        raise BadWire("%s is no device's MAC address: it is %s" % (text, "a group's" if mac[0] & 1 else "all zeros"))
    return mac


def encode_arp_request(mac: bytes, ip: bytes, asked: bytes) -> bytes:
    """Return the frame by which the holder of mac and ip asks all who has the IPv4 address `asked`."""
    head = BROADCAST + mac + struct.pack(">H", ETHERTYPE_ARP)
    return head + struct.pack(_ARP, _ETHERNET, _IPV4, 6, 4, _REQUEST, mac, ip, bytes(MAC_BYTES), asked)


def decode_arp(frame: bytes) -> tuple:
    """Return (MAC, IPv4 address) of who sent an ARP frame, request or reply.

    Raises BadWire for what is none, and where the frame's sender is another than the one it speaks of.
    """
    if len(frame) < _HEADER_BYTES + _ARP_BYTES:
        raise BadWire("an ARP frame that is cut short")
    ethertype, hardware, protocol, mac_length, ip_length = struct.unpack_from(">HHHBB", frame, 12)
    if (ethertype, hardware, protocol, mac_length, ip_length) != (ETHERTYPE_ARP, _ETHERNET, _IPV4, 6, 4):
        raise BadWire("not ARP for IPv4 over Ethernet")
    mac, ip = bytes(frame[22:28]), bytes(frame[28:32])
    if mac != frame[6:12] or not is_device(mac):
        raise BadWire("an ARP frame that somebody else sent")
    if not 0 < ip[0] < 224:
        raise BadWire("an ARP frame of no host's address")
    return mac, ip


def encode_echo_request(mac: bytes, ip: bytes, identifier: int) -> bytes:
    """Return the frame by which the holder of mac and the IPv6 address asks all nodes of the link to answer it."""
    echo = struct.pack(">BBHHH", _ECHO_REQUEST, 0, 0, identifier, 1)
    pseudo = ip + _ALL_NODES + struct.pack(">II", len(echo), _ICMPV6)
    echo = echo[:2] + struct.pack(">H", _checksum(pseudo + echo)) + echo[4:]
    # Hop limit 1: it is for this link alone.
    header = struct.pack(">IHBB", _IPV6_VERSION << 28, len(echo), _ICMPV6, 1) + ip + _ALL_NODES
    return _ALL_NODES_MAC + mac + struct.pack(">H", ETHERTYPE_IPV6) + header + echo


def decode_echo_reply(frame: bytes, identifier: int) -> tuple:
    """Return (MAC, IPv6 address) of who sent the frame, an answer to our echo request. Raises BadWire for all else."""
    if len(frame) < _HEADER_BYTES + _IPV6_BYTES + _ECHO_BYTES:
        raise BadWire("an echo that is cut short")
    ethertype, first, next_header = struct.unpack_from(">HB5xB", frame, 12)
    kind, code, _, told = struct.unpack_from(">BBHH", frame, _HEADER_BYTES + _IPV6_BYTES)
    if (ethertype, first >> 4, next_header) != (ETHERTYPE_IPV6, _IPV6_VERSION, _ICMPV6):
        raise BadWire("not ICMPv6")
    if (kind, code, told) != (_ECHO_REPLY, 0, identifier):
        raise BadWire("not an answer to our echo request")
    mac, ip = bytes(frame[6:12]), bytes(frame[22:38])
    if not is_device(mac) or ip[0] == 0xFF or ip[:15] == bytes(15):
        raise BadWire("an echo of no host's address")
    return mac, ip


def encode_magic(mac: bytes) -> bytes:
    """Return the 102 bytes that wake the device with this MAC, wherever they stand in a frame or datagram."""
    return BROADCAST + mac * _WAKE_TIMES


def encode_wake(own: bytes, mac: bytes) -> bytes:
    """Return the whole frame that wakes a device, without any IP."""
    return BROADCAST + own + struct.pack(">H", ETHERTYPE_WAKE) + encode_magic(mac)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
