"""Netlink: messages and attributes as bytes, and a socket that asks the kernel and waits for its answer.

    message     length 4 | type 2 | flags 2 | sequence 4 | port 4 | payload, padded to 4
    attribute   length 2 (header and value) | type 2 | value, padded to 4

All in the machine's byte order. Source: netlink(7), RFC 3549.
"""

import struct

from wayhomed.port import const, packets
from wayhomed.wire.errors import BadWire

# Fixed by the kernel
ROUTE = const(0)  # the protocol number of rtnetlink
REQUEST = const(1)
MULTI = const(2)
ACK = const(4)
EXCLUSIVE = const(0x200)
CREATE = const(0x400)
REPLACE = const(0x100)
DUMP = const(0x300)
_ERROR = const(2)
_DONE = const(3)
_OVERRUN = const(4)
_DUMP_INTERRUPTED = const(0x10)
_HEADER_BYTES = const(16)
_NESTED = const(0x8000)
_TYPE_MASK = const(0x3FFF)
# Chosen by us
_READ_BYTES = const(65_536)
_DUMP_TRIES = const(5)
_BATCH = const(64)  # answers of 64 requests (36 bytes each) always fit a socket's receive buffer


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    length = 4 + len(value)
    return struct.pack("HH", length, kind) + value + bytes(-length & 3)


def attribute_u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("I", value))


def nested(kind: int, attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | _NESTED, attributes)


def decode_attributes(data: bytes, offset: int = 0) -> dict:
    """Return {type: value} of the attributes that begin at offset; of a repeated type the last. Raises BadWire."""
    found = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("HH", data, offset)
        if length < 4 or offset + length > len(data):
            raise BadWire("a netlink attribute of %d bytes" % length)
        found[kind & _TYPE_MASK] = bytes(data[offset + 4 : offset + length])
        offset += length + 3 & ~3
    return found


def encode_message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Return one message; the kernel fills in who sent it."""
    length = _HEADER_BYTES + len(payload)
    return struct.pack("IHHII", length, kind, flags, sequence, 0) + payload + bytes(-length & 3)


def decode_messages(data: bytes) -> list:
    """Return [(type, flags, sequence, payload)] of what one read gave. Raises BadWire."""
    messages = []
    offset = 0
    while offset + _HEADER_BYTES <= len(data):
        length, kind, flags, sequence, _port = struct.unpack_from("IHHII", data, offset)
        if length < _HEADER_BYTES or offset + length > len(data):
            raise BadWire("a netlink message of %d bytes" % length)
        messages.append((kind, flags, sequence, bytes(data[offset + _HEADER_BYTES : offset + length])))
        offset += length + 3 & ~3
    return messages


class Netlink:
    """One socket to the kernel. It answers within the call that asks, so nothing here waits for long."""

    def __init__(self, protocol: int = ROUTE):
        self._socket = packets.netlink_socket(protocol)
        self._sequence = 0
        self.dump_was_interrupted = False

    def close(self) -> None:
        self._socket.close()

    def change(self, kind: int, flags: int, payload: bytes) -> None:
        """Ask for one change. Raises OSError with the kernel's errno."""
        failure = self.change_all([(kind, flags, payload)])[0]
        if failure:
            raise OSError(failure, "the kernel refused a change")

    def change_all(self, requests: list) -> list:
        """Ask for many changes, (type, flags, payload) each; return an errno for each, 0 where it was done."""
        failures = []
        for start in range(0, len(requests), _BATCH):
            failures.extend(self._change_batch(requests[start : start + _BATCH]))
        return failures

    def _change_batch(self, requests: list) -> list:
        first = self._sequence + 1
        batch = b""
        for kind, flags, payload in requests:
            self._sequence += 1
            batch += encode_message(kind, REQUEST | ACK | flags, self._sequence, payload)
        self._socket.send(batch)
        failures: dict = {}
        while len(failures) < len(requests):
            for kind, _flags, sequence, payload in decode_messages(self._socket.recv(_READ_BYTES)):
                if kind == _ERROR and sequence >= first:
                    failures[sequence] = -struct.unpack_from("i", payload)[0]
        return [failures[first + index] for index in range(len(requests))]

    def ask(self, kind: int, payload: bytes) -> bytes:
        """Return the payload of the one answer to a question. Raises OSError with the kernel's errno."""
        self._sequence += 1
        asked = self._sequence
        self._socket.send(encode_message(kind, REQUEST, asked, payload))
        while True:
            for kind, _flags, sequence, part in decode_messages(self._socket.recv(_READ_BYTES)):
                if sequence != asked:
                    continue
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("i", part)[0], "the kernel refused to answer")
                return part

    def dump(self, kind: int, payload: bytes) -> list:
        """Return the payloads of all that the kernel lists. Raises OSError."""
        for _ in range(_DUMP_TRIES):
            listed, interrupted = self._dump_once(kind, payload)
            if not interrupted:
                break
        return listed

    def _dump_once(self, kind: int, payload: bytes) -> tuple:
        self._sequence += 1
        asked = self._sequence
        self._socket.send(encode_message(kind, REQUEST | DUMP, asked, payload))
        listed: list = []
        interrupted = False
        while True:
            for kind, flags, sequence, part in decode_messages(self._socket.recv(_READ_BYTES)):
                if sequence != asked:
                    continue
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind == _DONE:
                    return listed, interrupted
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("i", part)[0], "the kernel refused to list")
                listed.append(part)

    def begin_dump(self, kind: int, payload: bytes) -> None:
        """Ask for a long list, to be read by continue_dump() bit by bit; nothing else may be asked before its end."""
        self._sequence += 1
        self.dump_was_interrupted = False
        self._socket.send(encode_message(kind, REQUEST | DUMP, self._sequence, payload))

    def continue_dump(self, buffer, use) -> bool:
        """Read the next bit of it into a bytearray; call use(start, end) for each payload; False = that was the end.

        Afterwards dump_was_interrupted tells whether the list changed meanwhile. Raises OSError, BadWire.
        """
        size = packets.receive_into(self._socket, buffer)
        offset = 0
        while offset + _HEADER_BYTES <= size:
            length, kind, flags, sequence = struct.unpack_from("IHHI", buffer, offset)
            if length < _HEADER_BYTES or offset + length > size:
                raise BadWire("a netlink message of %d bytes" % length)
            start = offset + _HEADER_BYTES
            if sequence == self._sequence:
                self.dump_was_interrupted = self.dump_was_interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind == _DONE:
                    return False
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("i", buffer, start)[0], "the kernel refused to list")
                use(start, offset + length)
            offset += length + 3 & ~3
        return True
