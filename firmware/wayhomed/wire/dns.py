"""DNS messages: what a small forwarder reads, checks and writes of them.

    header    id 2 | QR 1, opcode 4, AA 1, TC 1, RD 1 | RA 1, Z 1, AD 1, CD 1, rcode 4 | four counts of 2 bytes
    question  name | type 2 | class 2
    record    name | type 2 | class 2 | TTL 4 | length 2 | data
    name      labels of a length byte and 1..63 bytes, ended by a zero byte, or by 2 bytes: 0xC000 + where it goes on

A name is a tuple of labels, bytes as they came; () is the root. An answer of somebody else's is never taken apart and
put together again: it is checked whole, and its client gets it with its own id and question in front.
Source: RFC 1035 section 4, RFC 6891 section 6 (OPT), RFC 2308 (SOA in negative answers).
"""

import struct

from ..port import const
from .errors import BadWire

# --- Fixed by the protocol ---
PORT = const(53)
HEADER = ">HHHHHH"  # id, flags, counts of questions, answers, authority and additional records
HEADER_BYTES = const(12)
_LEAST_BYTES = const(17)  # with a question about the root
QR = const(0x8000)
AA = const(0x0400)
TC = const(0x0200)
RD = const(0x0100)
RA = const(0x0080)
AD = const(0x0020)
CD = const(0x0010)
_OPCODE = const(0x7800)
_RCODE = const(0x000F)
QUERY = const(0)  # opcode
A = const(1)
NS = const(2)
SOA = const(6)
PTR = const(12)
HINFO = const(13)
AAAA = const(28)
OPT = const(41)
IXFR = const(251)
AXFR = const(252)
ANY = const(255)
IN = const(1)  # class
NOERROR = const(0)
FORMERR = const(1)
SERVFAIL = const(2)
NXDOMAIN = const(3)
NOTIMP = const(4)
REFUSED = const(5)
DNSSEC_OK = const(0x8000)
MAX_LABEL_BYTES = const(63)
MAX_NAME_BYTES = const(255)
MIN_UDP_BYTES = const(512)  # what every client takes
_POINTER = const(0xC0)
_OFFSET_BITS = const(0x3F)
# --- Chosen by us ---
MAX_QUERY_BYTES = const(1232)
# The answer that passes every path unfragmented (DNS flag day 2020); a longer one goes by TCP.
MAX_UDP_BYTES = const(1232)
_SOA_NUMBERS = struct.pack(">IIIII", 1, 3600, 600, 86_400, 10)  # serial, refresh, retry, expire, negative TTL

# What answers() says of a reply
NOT_OURS = const(0)
OURS = const(1)
OTHER_CASE = const(2)


class Query:
    """One question as a client asked it.

    id; opcode; flags: RD, AD and CD of its header; labels, kind (the type), class_; question: all three as they came;
    udp_bytes: the longest answer by UDP that it announced, 0 without EDNS; dnssec_ok: it wants signatures.
    """

    def __init__(self, query_id: int, opcode: int, flags: int, labels: tuple, kind: int, class_: int, question: bytes):
        self.id = query_id
        self.opcode = opcode
        self.flags = flags
        self.labels = labels
        self.kind = kind
        self.class_ = class_
        self.question = question
        self.udp_bytes = 0
        self.dnssec_ok = False

    def udp_limit(self) -> int:
        """Return how long an answer by UDP may be."""
        return min(max(self.udp_bytes, MIN_UDP_BYTES), MAX_UDP_BYTES)


class Record:
    """A resource record; data as it stands in the message, names in it perhaps cut short by pointers."""

    def __init__(self, labels: tuple, kind: int, ttl_s: int, data: bytes, class_: int = IN):
        self.labels = labels
        self.kind = kind
        self.class_ = class_
        self.ttl_s = ttl_s
        self.data = data


class Reply:
    """A whole answer: id, flags, rcode, and the records of its three sections."""

    def __init__(self, reply_id: int, flags: int, answers: list, authority: list, additional: list):
        self.id = reply_id
        self.flags = flags
        self.rcode = flags & _RCODE
        self.answers = answers
        self.authority = authority
        self.additional = additional


# --- Names ---


def decode_name(message: bytes, at: int) -> tuple:
    """Return (labels, offset behind the name). Pointers may only lead back, so that every name ends. Raises BadWire."""
    labels: list = []
    size = 1
    start, after = at, 0
    while True:
        if at >= len(message):
            raise BadWire("a DNS name that is cut short")
        length = message[at]
        if not length:
            return tuple(labels), after or at + 1
        if length & _POINTER == _POINTER:
            if at + 2 > len(message):
                raise BadWire("a DNS name that is cut short")
            after = after or at + 2
            at = (length & _OFFSET_BITS) << 8 | message[at + 1]
            if at >= start:
                raise BadWire("a DNS name that goes round in circles")
            start = at
            continue
        if length > MAX_LABEL_BYTES:
            raise BadWire("a DNS label of an unknown kind")
        label = bytes(message[at + 1 : at + 1 + length])
        size += 1 + length
        if size > MAX_NAME_BYTES:
            raise BadWire("a DNS name longer than %d bytes" % MAX_NAME_BYTES)
        labels.append(label)
        at += 1 + length


def encode_name(labels: tuple) -> bytes:
    return b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"


def labels_from_text(text: str) -> tuple:
    """Return the labels of "nas.example.net", with or without a dot at its end. Raises BadWire for what is no name."""
    if text == ".":
        return ()
    if text[-1:] == ".":
        text = text[:-1]
    labels = tuple([label.encode() for label in text.split(".")])
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL_BYTES:
            raise BadWire("not a DNS name")
    if sum([len(label) + 1 for label in labels]) >= MAX_NAME_BYTES:
        raise BadWire("not a DNS name")
    return labels


def name_text(labels: tuple) -> str:
    """Return a name in lower case without a dot at its end, "." for the root. What is no plain letter is written as
    RFC 1035 section 5.1 has it: two names are the same exactly if their texts are.
    """
    return ".".join(["".join([_character(byte) for byte in label.lower()]) for label in labels]) or "."


def _character(byte: int) -> str:
    if byte <= 32 or byte >= 127 or byte == 46 or byte == 92:  # 46 a dot, 92 a backslash
        return "\\%03d" % byte
    return chr(byte)


# --- Questions ---


def decode_query(datagram: bytes) -> Query:
    """Return the one question of a client's message. Raises BadWire for all that is none, answers above all."""
    if not _LEAST_BYTES <= len(datagram) <= MAX_QUERY_BYTES:
        raise BadWire("a DNS question of %d bytes" % len(datagram))
    query_id, flags, questions, answers, authority, additional = struct.unpack(HEADER, datagram[:HEADER_BYTES])
    if flags & (QR | TC) or questions != 1 or answers or authority:
        raise BadWire("not a DNS question")
    labels, at = decode_name(datagram, HEADER_BYTES)
    if at + 4 > len(datagram):
        raise BadWire("a DNS question that is cut short")
    kind, class_ = struct.unpack_from(">HH", datagram, at)
    at += 4
    opcode = (flags & _OPCODE) >> 11
    query = Query(query_id, opcode, flags & (RD | AD | CD), labels, kind, class_, bytes(datagram[HEADER_BYTES:at]))
    if len(query.question) != len(encode_name(labels)) + 4:
        raise BadWire("a DNS question whose name has a pointer")  # it is put into messages of ours as it stands
    for record in _records(datagram, at, additional)[0]:
        if record.kind == OPT:
            query.udp_bytes = record.class_
            query.dnssec_ok = bool(record.ttl_s & DNSSEC_OK)
    return query


def encode_query(query_id: int, query: Query, question: bytes) -> bytes:
    """Return the message that asks an upstream what a client asks. question: the client's, letters in any case."""
    message = struct.pack(HEADER, query_id, query.flags, 1, 0, 0, 1 if query.udp_bytes else 0) + question
    if query.udp_bytes:
        message += _opt(DNSSEC_OK if query.dnssec_ok else 0)
    return message


def mixed_case(question: bytes, random: bytes) -> bytes:
    """Return a question with the letters of its name in upper or lower case, by the random bytes' bits.

    Who forges an answer has to guess them, and a question of our own that comes back is known by them.
    Source: draft-vixie-dnsext-dns0x20-00.
    """
    made = bytearray(question)
    bits = int.from_bytes(random, "big")
    for at in range(len(made) - 4):  # not the type and the class; no length is a letter
        if 0x41 <= made[at] & 0xDF <= 0x5A:
            made[at] = made[at] & 0xDF | (bits & 1) << 5
            bits >>= 1
    return bytes(made)


def mixed_letters(question: bytes) -> int:
    """Return how many letters mixed_case() has to choose by."""
    return len([byte for byte in question[:-4] if 0x41 <= byte & 0xDF <= 0x5A])


# --- Answers ---


def answers(reply: bytes, asked: bytes, question: bytes) -> int:
    """Tell whether a datagram answers the message `asked`, in which `question` stood: OURS; OTHER_CASE if all but the
    case of the name's letters fits; NOT_OURS.
    """
    if reply[:2] != asked[:2] or len(reply) < HEADER_BYTES + len(question):
        return NOT_OURS
    flags, questions = struct.unpack_from(">HH", reply, 2)
    if not flags & QR or flags & _OPCODE or questions != 1:
        return NOT_OURS
    told = reply[HEADER_BYTES : HEADER_BYTES + len(question)]
    if told == question:
        return OURS
    if told[:-4].lower() == question[:-4].lower() and told[-4:] == question[-4:]:
        return OTHER_CASE
    return NOT_OURS


def is_truncated(reply: bytes) -> bool:
    return bool(reply[2] & TC >> 8)


def rcode(reply: bytes) -> int:
    return reply[3] & _RCODE


def decode_reply(reply: bytes) -> Reply:
    """Return an answer with one question. Raises BadWire unless each record of it is whole."""
    if len(reply) < _LEAST_BYTES:
        raise BadWire("a DNS answer of %d bytes" % len(reply))
    reply_id, flags, questions, answer, authority, additional = struct.unpack(HEADER, reply[:HEADER_BYTES])
    if not flags & QR or questions != 1:
        raise BadWire("not a DNS answer")
    at = decode_name(reply, HEADER_BYTES)[1] + 4
    sections = []
    for count in (answer, authority, additional):
        records, at = _records(reply, at, count)
        sections.append(records)
    return Reply(reply_id, flags, sections[0], sections[1], sections[2])


def _records(message: bytes, at: int, count: int) -> tuple:
    """Return ([Record], offset behind them). Each takes 11 bytes of the message at least, so a count can't lie far."""
    records = []
    for _ in range(count):
        labels, at = decode_name(message, at)
        if at + 10 > len(message):
            raise BadWire("a DNS record that is cut short")
        kind, class_, ttl_s, length = struct.unpack_from(">HHIH", message, at)
        at += 10
        data = bytes(message[at : at + length])
        if len(data) != length:
            raise BadWire("a DNS record that is cut short")
        records.append(Record(labels, kind, ttl_s, data, class_))
        at += length
    return records, at


def for_client(reply: bytes, query: Query) -> bytes:
    """Return an upstream's answer as the client is to have it: with its id, and its question as it wrote it."""
    return (
        struct.pack(">H", query.id)
        + reply[2:HEADER_BYTES]
        + query.question
        + reply[HEADER_BYTES + len(query.question) :]
    )


def encode_answer(
    query: Query, code: int, records: list | tuple = (), authority: list | tuple = (), flags: int = 0
) -> bytes:
    """Return an answer of our own. code: the rcode; flags: AA, TC."""
    flags |= QR | query.opcode << 11 | query.flags & (RD | CD) | RA | code
    has_opt = 1 if query.udp_bytes else 0
    message = struct.pack(HEADER, query.id, flags, 1, len(records), len(authority), has_opt) + query.question
    for section in (records, authority):
        for record in section:
            message += _short_name(record.labels, query.labels)
            message += struct.pack(">HHIH", record.kind, record.class_, record.ttl_s, len(record.data)) + record.data
    return message + (_opt(0) if has_opt else b"")


def truncated(query: Query) -> bytes:
    """Return the answer that tells the client to ask by TCP."""
    return encode_answer(query, NOERROR, flags=TC)


def soa(zone: tuple, ttl_s: int) -> Record:
    """Return the record that says how long the lack of a name in this zone is to be remembered."""
    data = encode_name(zone) + encode_name((b"nobody",) + zone) + _SOA_NUMBERS
    return Record(zone, SOA, ttl_s, data)


def _opt(flags: int) -> bytes:
    return b"\0" + struct.pack(">HHIH", OPT, MAX_UDP_BYTES, flags, 0)


def _short_name(labels: tuple, asked: tuple) -> bytes:
    """Return a name that points into the question where the two have their end in common."""
    known = 0
    while known < min(len(labels), len(asked)) and labels[len(labels) - 1 - known] == asked[len(asked) - 1 - known]:
        known += 1
    if not known:
        return encode_name(labels)
    offset = HEADER_BYTES + sum([len(label) + 1 for label in asked[: len(asked) - known]])
    front = encode_name(labels[: len(labels) - known])[:-1]
    return front + struct.pack(">H", _POINTER << 8 | offset)
