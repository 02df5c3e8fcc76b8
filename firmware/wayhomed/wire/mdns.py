"""Multicast DNS: one-shot questions to all devices of a link, and what their answers say.

    question   PTR of _services._dns-sd._udp.local: which kinds of service are there?
               PTR of _http._tcp.local: who offers it?     PTR of 20.1.168.192.in-addr.arpa: who is 192.168.1.20?
    answer     records in any section: PTR (name), SRV (port and host), A (IPv4 address)

Asked from a port of our own, so each answer comes to us alone and a responder that runs here is not disturbed.
Source: RFC 6762 sections 5.1, 6.7 and 18; RFC 6763 sections 4 and 9; RFC 2782 (SRV).
"""

import struct

from ..port import const
from . import dns
from .errors import BadWire

# --- Fixed by the protocol ---
GROUP = b"\xe0\x00\x00\xfb"
PORT = const(5353)
SRV = const(33)
_UNICAST = const(0x8000)  # in a question's class: answer to me alone
_CLASS = const(0x7FFF)  # in a record the same bit means: forget what you knew
_SRV_BYTES = const(6)  # priority 2, weight 2, port 2, then the host's name
_LOCAL = b"local"
_SERVICES = (b"_services", b"_dns-sd", b"_udp", _LOCAL)
# --- Chosen by us ---
MAX_BYTES = const(1472)  # a full frame: nobody answers a question to himself alone with more
MAX_RECORDS = const(64)
MAX_QUESTIONS = const(24)  # a question has 50 bytes at most


class Answers:
    """What one datagram says. pointers: [(labels, labels pointed to)]; services: [(instance's labels, port, host's
    labels)]; addresses: [(host's labels, IPv4 address)].
    """

    def __init__(self):
        self.pointers = []
        self.services = []
        self.addresses = []


def service_name(kind: str) -> tuple:
    """Return the labels of a kind of service, "_http._tcp"."""
    return tuple([part.encode() for part in kind.split(".")]) + (_LOCAL,)


def service_kind(labels: tuple) -> str:
    """Return "_http._tcp" of the labels of a kind of service, or of one instance of it; "" for what is neither."""
    if len(labels) < 3 or labels[-1].lower() != _LOCAL or labels[-2].lower() not in (b"_tcp", b"_udp"):
        return ""
    if labels[-3][:1] != b"_":
        return ""
    return dns.name_text(labels[-3:-1])


def all_services() -> tuple:
    """Return the labels that ask which kinds of service there are."""
    return _SERVICES


def reverse_name(ip: bytes) -> tuple:
    """Return the labels that ask for the name of an IPv4 address."""
    return tuple([str(ip[3 - place]).encode() for place in range(4)]) + (b"in-addr", b"arpa")


def encode_questions(names: list) -> bytes:
    """Return one datagram that asks for the pointers of up to MAX_QUESTIONS names."""
    if len(names) > MAX_QUESTIONS:
        raise ValueError("more questions than one datagram takes")
    message = struct.pack(dns.HEADER, 0, 0, len(names), 0, 0, 0)
    for labels in names:
        message += dns.encode_name(labels) + struct.pack(">HH", dns.PTR, dns.IN | _UNICAST)
    return message


def decode_answers(datagram: bytes) -> Answers:
    """Return what an answer says; records of other kinds are passed over. Raises BadWire."""
    if not dns.HEADER_BYTES <= len(datagram) <= MAX_BYTES:
        raise BadWire("an mDNS answer of %d bytes" % len(datagram))
    _, flags, questions, answers, authority, additional = struct.unpack_from(dns.HEADER, datagram)
    records = answers + authority + additional
    if not flags & dns.QR:
        raise BadWire("not an mDNS answer")
    if questions > MAX_QUESTIONS or records > MAX_RECORDS:
        raise BadWire("an mDNS answer with %d questions and %d records" % (questions, records))
    at = dns.HEADER_BYTES
    for _ in range(questions):
        at = dns.decode_name(datagram, at)[1] + 4
    found = Answers()
    for _ in range(records):
        labels, at = dns.decode_name(datagram, at)
        if at + 10 > len(datagram):
            raise BadWire("an mDNS record that is cut short")
        kind, class_, _ttl_s, length = struct.unpack_from(">HHIH", datagram, at)
        at += 10
        if at + length > len(datagram):
            raise BadWire("an mDNS record that is cut short")
        if class_ & _CLASS == dns.IN:
            _take(found, labels, kind, datagram, at, length)
        at += length
    return found


def _take(found: Answers, labels: tuple, kind: int, datagram: bytes, at: int, length: int) -> None:
    if kind == dns.A:
        if length != 4:
            raise BadWire("an IPv4 address of %d bytes" % length)
        found.addresses.append((labels, bytes(datagram[at : at + 4])))
    elif kind == dns.PTR:
        found.pointers.append((labels, _name_within(datagram, at, at + length)))
    elif kind == SRV:
        # Where the record is too short for the numbers, the name behind them does not fill it.
        host = _name_within(datagram, at + _SRV_BYTES, at + length)
        found.services.append((labels, struct.unpack_from(">H", datagram, at + 4)[0], host))


def _name_within(datagram: bytes, at: int, end: int) -> tuple:
    labels, after = dns.decode_name(datagram, at)
    if after != end:
        raise BadWire("a name that does not fill its record")
    return labels
