"""NTP version 4 as a simple client speaks it: one question, one answer of 48 bytes.

    leap 2 bits, version 3, mode 3 | stratum 1 | poll 1 | precision 1 | root delay 4 | root dispersion 4 | reference 4 |
    reference time 8 | origin time 8 | receive time 8 | transmit time 8          (big-endian)

Delay and dispersion are seconds in 16.16 bits, times are seconds since 1900 in 32.32 bits and wrap in 2036. What
follows the 48 bytes (extension fields, a digest) is not looked at.
Source: RFC 5905 sections 6 and 7.3; RFC 4330 section 5 for a client's checks.
"""

import struct

from wayhomed.port import const

from .errors import BadWire

# Fixed by the protocol
PORT = const(123)
PACKET_BYTES = const(48)
NONCE_BYTES = const(8)
_VERSION_4_CLIENT = const(0x23)
_SERVER = const(4)
_NOT_SYNCHRONISED = const(3)
_MAX_STRATUM = const(15)
_FROM_1900_TO_1970_S = 2_208_988_800
_ERA_S = 4_294_967_296
_LAYOUT = ">BBbbII4s8s8sIIII"
# Chosen by us: the largest answer that is looked at.
MAX_ANSWER_BYTES = const(1024)


class Answer:
    """What a server said: stratum; received_ms and sent_ms (when it had our question and when it answered, in
    milliseconds since 1970); root_distance_ms: how far it may itself be from true time; refusal: "" or its kiss code,
    such as "RATE", and then nothing else counts.
    """

    def __init__(self):
        self.stratum = 0
        self.received_ms = 0
        self.sent_ms = 0
        self.root_distance_ms = 0
        self.refusal = ""


def encode_request(nonce: bytes) -> bytes:
    """Return a question. nonce: 8 random bytes in the place of our time, which is nobody's business.

    The answer carries them back: who does not see our question can't forge one.
    """
    return bytes((_VERSION_4_CLIENT,)) + bytes(PACKET_BYTES - 1 - NONCE_BYTES) + nonce


def decode_answer(datagram: bytes, nonce: bytes, not_before_s: int) -> Answer:
    """Return the Answer to the question with this nonce. not_before_s: a time since 1970 that has passed for sure,
    which tells the 136-year eras apart.

    Raises BadWire for anything else, and for a server that has no time itself.
    """
    if not PACKET_BYTES <= len(datagram) <= MAX_ANSWER_BYTES:
        raise BadWire("a time server's answer of %d bytes" % len(datagram))
    fields = struct.unpack(_LAYOUT, datagram[:PACKET_BYTES])
    flags, stratum, _poll, _precision, delay, dispersion, reference, _updated, origin = fields[:9]
    if flags & 7 != _SERVER:
        raise BadWire("not a time server's answer (mode %d)" % (flags & 7))
    if not 3 <= flags >> 3 & 7 <= 4:
        raise BadWire("an answer in version %d of NTP" % (flags >> 3 & 7))
    if origin != nonce:
        raise BadWire("an answer to a question that we did not ask")
    answer = Answer()
    answer.stratum = stratum
    if not stratum:
        # Kiss-o'-Death (RFC 5905 section 7.4): four letters in the place of the reference.
        answer.refusal = "".join([chr(byte) if 65 <= byte <= 90 else "" for byte in reference]) or "?"
        return answer
    if stratum > _MAX_STRATUM or flags >> 6 == _NOT_SYNCHRONISED:
        raise BadWire("the time server has no time itself")
    received_s, received_part, sent_s, sent_part = fields[9:]
    if not (sent_s or sent_part) or not (received_s or received_part):
        raise BadWire("the time server's answer has no time")
    answer.received_ms = _unix_ms(received_s, received_part, not_before_s)
    answer.sent_ms = _unix_ms(sent_s, sent_part, not_before_s)
    if answer.sent_ms < answer.received_ms:
        raise BadWire("the time server answered before it was asked")
    answer.root_distance_ms = _short_ms(delay) // 2 + _short_ms(dispersion)
    return answer


def encode_answer(
    question: bytes, received_ms: int, sent_ms: int, stratum: int = 2, root_distance_ms: int = 10, refusal: str = ""
) -> bytes:
    """Return a server's answer to a question: for labs and tests. Times in milliseconds since 1970.

    Raises BadWire for what is no question.
    """
    if len(question) < PACKET_BYTES or question[0] & 7 != 3:
        raise BadWire("not a question for the time")
    reference = (refusal.encode() + bytes(4))[:4] if refusal else b"LOCL"
    return struct.pack(
        _LAYOUT,
        _VERSION_4_CLIENT & 0x38 | _SERVER,
        0 if refusal else stratum,
        6,
        -20,
        0,
        root_distance_ms * 65536 // 1000,
        reference,
        bytes(8),
        question[PACKET_BYTES - NONCE_BYTES : PACKET_BYTES],
        received_ms // 1000 + _FROM_1900_TO_1970_S & _ERA_S - 1,
        received_ms % 1000 * _ERA_S // 1000,
        sent_ms // 1000 + _FROM_1900_TO_1970_S & _ERA_S - 1,
        sent_ms % 1000 * _ERA_S // 1000,
    )


def _unix_ms(seconds: int, part: int, not_before_s: int) -> int:
    unix_s = not_before_s + (seconds - _FROM_1900_TO_1970_S - not_before_s) % _ERA_S
    return unix_s * 1000 + (part * 1000 + _ERA_S // 2) // _ERA_S


def _short_ms(value: int) -> int:
    return value * 1000 // 65536
