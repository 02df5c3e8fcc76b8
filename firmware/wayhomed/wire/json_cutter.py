"""Cuts one JSON object into the values a reader wants, as its bytes come: the whole is never held, as text or as tree.

    cutter = JsonCutter({"Peers": ITEMS, "DERPMap": {"Regions": {ANY: WHOLE}}, "Domain": WHOLE}, sink)
    for piece in pieces: cutter.feed(piece)         # calls sink.begins(path) and sink.value(path, value)
    cutter.close()                                  # raises BadWire if the object is not whole

A plan says for each member what is to happen: WHOLE, its value comes when it is whole; ITEMS, each item of its list
comes when that is whole; a dict, the same again for the members of an object, ANY for names that it does not list. Any
other member is passed over without being kept. `path` is the list of names and indices that leads to a value, and is
changed as the reading goes on. A list or object that a plan goes into is announced by begins(path) before its parts, so
that an empty one can be told from none; a value of another kind than its plan expects comes whole.
Names count without regard to case, as readers of this protocol have it (README.md section 8).
Source: RFC 8259.
"""

import json

from ..port import const
from .errors import BadWire

WHOLE = const(1)
ITEMS = const(2)
ANY = ""
# Chosen by us
MAX_DEPTH = const(64)  # below it both Pythons' own parsers recurse
MAX_VALUE_BYTES = const(524_288)  # of one value that is held whole
_MAX_NAME_BYTES = const(1024)
_MAX_DIGITS = const(1024)

_PASS_OVER = const(0)
# What is due next
_VALUE = const(1)
_VALUE_OR_END = const(2)  # behind the "[" of a list
_NAME = const(3)
_NAME_OR_END = const(4)  # behind the "{" of an object
_COLON = const(5)
_COMMA_OR_END = const(6)
_NOTHING = const(7)  # the object is whole
_REST_OF_NAME = const(8)
_REST_OF_VALUE = const(9)
_BLANKS = (0x20, 0x0A, 0x0D, 0x09)
_ENDS_SCALAR = (0x2C, 0x7D, 0x5D, 0x20, 0x0A, 0x0D, 0x09)
_NO_VALUE = (0x2C, 0x3A, 0x7D, 0x5D)
_NO_SCALAR = (0x7B, 0x5B, 0x22)


class JsonCutter:
    """One object's cutting."""

    def __init__(self, plan: dict, sink, max_value_bytes: int = MAX_VALUE_BYTES):
        self._sink = sink
        self._max_value_bytes = max_value_bytes
        self._path: list = []
        self._levels: list = []  # of the lists and objects we are in: their plans, ITEMS for a list
        self._plan: dict | int = plan  # of the value that is due or being read
        self._due = _VALUE
        self._kept = bytearray()  # of a name or value, what earlier pieces had of it
        # Where within a value or name
        self._depth = 0
        self._in_text = False
        self._backslash = False  # the last byte was one that makes the next a plain character
        self._is_scalar = False

    def feed(self, data: bytes) -> None:
        """Read the next piece. Raises BadWire for what is no JSON object, and whatever the sink raises."""
        at, end = 0, len(data)
        while at < end:
            due = self._due
            if due == _REST_OF_VALUE or due == _REST_OF_NAME:
                at = self._read_on(data, at)
                continue
            byte = data[at]
            if byte in _BLANKS:
                at += 1
            elif due <= _VALUE_OR_END:
                at = self._value_begins(data, at, byte)
            elif byte == 0x2C and due == _COMMA_OR_END:
                self._due = _VALUE if self._levels[-1] == ITEMS else _NAME
                at += 1
            elif byte == 0x22 and (due == _NAME or due == _NAME_OR_END):
                self._in_text = True
                self._backslash = False
                self._depth = 0
                self._due = _REST_OF_NAME
                self._kept += b'"'
                at += 1
            elif byte == 0x3A and due == _COLON:
                self._due = _VALUE
                at += 1
            elif byte == 0x7D and (due == _COMMA_OR_END or due == _NAME_OR_END) and self._levels[-1] != ITEMS:
                self._level_ends()
                at += 1
            elif byte == 0x5D and due == _COMMA_OR_END and self._levels[-1] == ITEMS:
                self._level_ends()
                at += 1
            else:
                raise BadWire("a message is not JSON")

    def close(self) -> None:
        """Say that no more comes. Raises BadWire if the object is not whole."""
        if self._due != _NOTHING:
            raise BadWire("a message that ends before its JSON does")

    def _value_begins(self, data: bytes, at: int, byte: int) -> int:
        levels, plan = self._levels, self._plan
        if self._due == _VALUE_OR_END and byte == 0x5D:
            self._level_ends()
            return at + 1
        if levels and levels[-1] == ITEMS:
            self._path[-1] += 1
        if byte == 0x7B and isinstance(plan, dict):
            if levels:
                self._sink.begins(self._path)
            levels.append(plan)
            self._path.append("")
            self._due = _NAME_OR_END
            return at + 1
        if not levels:
            raise BadWire("a message is not a JSON object")
        if byte == 0x5B and plan == ITEMS:
            self._sink.begins(self._path)
            levels.append(ITEMS)
            self._path.append(-1)
            self._plan = WHOLE
            self._due = _VALUE_OR_END
            return at + 1
        if byte in _NO_VALUE:
            raise BadWire("a message is not JSON")
        self._due = _REST_OF_VALUE
        self._depth = 0
        self._in_text = self._backslash = False
        self._is_scalar = byte not in _NO_SCALAR
        return self._read_on(data, at)

    def _level_ends(self) -> None:
        self._levels.pop()
        self._path.pop()
        self._due = _COMMA_OR_END if self._levels else _NOTHING

    def _read_on(self, data: bytes, start: int) -> int:
        """Read more of a name or value; return the place behind what was read."""
        is_name = self._due == _REST_OF_NAME
        end = self._end_of_scalar(data, start) if self._is_scalar and not is_name else self._end_of_value(data, start)
        is_whole = end >= 0
        if not is_whole:
            end = len(data)
        if not is_name and self._plan == _PASS_OVER:
            if is_whole:
                self._due = _COMMA_OR_END
            return end
        most = _MAX_NAME_BYTES if is_name else self._max_value_bytes
        if len(self._kept) + end - start > most:
            raise BadWire("a %s of more than %d bytes in a message" % ("name" if is_name else "value", most))
        if not is_whole:
            self._kept += memoryview(data)[start:end]
            return end
        if self._kept:
            text = bytes(self._kept) + data[start:end]
            self._kept = bytearray()
        else:
            text = data[start:end]
        if is_name:
            self._name_read(_decoded(text))
        else:
            self._due = _COMMA_OR_END
            self._sink.value(self._path, _decoded(text))
        return end

    def _name_read(self, name: str) -> None:
        plan = self._levels[-1]
        wanted = plan.get(name)
        if wanted is None:
            known = _folded(plan, name)
            if known is not None:
                name, wanted = known, plan[known]
            else:
                wanted = plan.get(ANY, _PASS_OVER)
        self._path[-1] = name
        self._plan = wanted
        self._due = _COLON

    def _end_of_value(self, data: bytes, at: int) -> int:
        """Return the place behind the text, list or object that goes on at `at`, -1 if it goes on behind the data.

        From quote to quote by find(): what stands between is looked at byte by byte only outside of texts.
        """
        depth = self._depth
        in_text = self._in_text
        end = len(data)
        while True:
            quote = data.find(b'"', at)
            if in_text:
                if quote < 0:
                    self._backslash = _is_escaped(data, at, end, self._backslash)
                    break
                # Most are not: this looks before it asks.
                before = self._backslash
                escaped = (before or data[quote - 1] == 0x5C) and _is_escaped(data, at, quote, before)
                self._backslash = False
                at = quote + 1
                if escaped:
                    continue
                in_text = False
                if not depth:
                    return at
                continue
            stop = end if quote < 0 else quote
            while at < stop:
                byte = data[at]
                at += 1
                if byte == 0x2C or byte == 0x3A:  # by far the most
                    continue
                if byte == 0x7B or byte == 0x5B:
                    depth += 1
                    if depth > MAX_DEPTH:
                        raise BadWire("a message is nested too deep")
                elif byte == 0x7D or byte == 0x5D:
                    depth -= 1
                    if not depth:
                        return at
            if quote < 0:
                break
            in_text = True
            at = quote + 1
        self._depth = depth
        self._in_text = in_text
        return -1

    def _end_of_scalar(self, data: bytes, at: int) -> int:
        """The same for a number, true, false or null."""
        for place in range(at, len(data)):
            if data[place] in _ENDS_SCALAR:
                return place
        return -1


def _is_escaped(data: bytes, start: int, place: int, before: bool) -> bool:
    """Tell whether the byte at `place` of a text stands behind an odd number of backslashes.

    The text is known from `start`; before: so it was for the byte there.
    """
    at = place
    while at > start and data[at - 1] == 0x5C:
        at -= 1
    odd = (place - at) & 1 == 1
    return odd != before if at == start else odd


def _folded(plan: dict, name: str):
    """Return the plan's name that differs from this one in case alone, or None."""
    lower = name.lower()
    for known in plan:
        if len(known) != len(name):  # spares most of them lower()
            continue
        if known.lower() == lower:
            return known
    return None


def _has_endless_number(text: bytes) -> bool:
    """Tell whether there are digits in a row without end: reading those takes time by the square of their number.

    Half a million of them would keep MicroPython busy for a quarter of a minute. One byte in so many is looked at.
    """
    for at in range(_MAX_DIGITS, len(text), _MAX_DIGITS):
        first = last = at
        while first and 0x30 <= text[first - 1] <= 0x39 and last - first <= _MAX_DIGITS:
            first -= 1
        while last < len(text) and 0x30 <= text[last] <= 0x39 and last - first <= _MAX_DIGITS:
            last += 1
        if last - first > _MAX_DIGITS:
            return True
    return False


def _decoded(text: bytes):
    """Return the value that a whole JSON text stands for. Raises BadWire."""
    if _has_endless_number(text):
        raise BadWire("a number of more than %d digits" % _MAX_DIGITS)
    try:
        # CPython guesses UTF-16 and -32 from bytes; the protocol knows UTF-8 alone.
        return json.loads(str(text, "utf-8"))
    except MemoryError:
        raise BadWire("a value of %d bytes is more than this machine's memory takes" % len(text))
    except (ValueError, RuntimeError):  # RuntimeError: nested too deep for the interpreter's own stack
        raise BadWire("a message is not JSON")
