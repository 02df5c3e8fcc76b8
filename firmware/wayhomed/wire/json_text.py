"""Short JSON texts, whole or refused.

MicroPython's own parser takes `{"a": 1` for whole: of a text that was cut off it gives what had come, without a word.
Messages that are too long to be held are json_cutter's. Source: RFC 8259.
"""

import json

from ..port import const

# Chosen by us
MAX_DEPTH = const(64)  # below it both Pythons' own parsers recurse


def parse(data: bytes):
    """Return the value that a JSON text in UTF-8 stands for.

    Raises ValueError for what is no JSON, is cut off or is nested deeper than MAX_DEPTH.
    """
    _check_brackets(data)
    # CPython guesses UTF-16 and -32 from bytes; here there is UTF-8 alone.
    return json.loads(str(data, "utf-8"))


def _check_brackets(data: bytes) -> None:
    depth = at = 0
    while True:
        quote = data.find(b'"', at)
        for byte in data[at : quote if quote >= 0 else len(data)]:
            if byte == 0x7B or byte == 0x5B:
                depth += 1
                if depth > MAX_DEPTH:
                    raise ValueError("nested too deep")
            elif byte == 0x7D or byte == 0x5D:
                depth -= 1  # one too many is refused by the parsers themselves
        if quote == -1:
            break
        at = _end_of_text(data, quote + 1)
    if depth > 0:
        raise ValueError("cut off")


def _end_of_text(data: bytes, start: int) -> int:
    """Return the place behind the quote that ends the text which begins at `start`."""
    at = start
    while True:
        quote = data.find(b'"', at)
        if quote == -1:
            raise ValueError("cut off")
        backslashes = 0
        while quote - backslashes > start and data[quote - backslashes - 1] == 0x5C:
            backslashes += 1
        at = quote + 1
        if not backslashes & 1:
            return at
