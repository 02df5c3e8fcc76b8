"""MicroPython's ffi behind port.ffi."""

import os

import ffi
import uctypes

errno_after_call = os.errno  # type: ignore[attr-defined]  # the stubs lack it; the unix port has it


def open_library(names: tuple):
    """Open the first library of these names that there is. Raises OSError."""
    problem = None
    for name in names:
        try:
            return ffi.open(name)
        except OSError as error:
            problem = error
    raise OSError(str(problem))


def address_of(buffer: bytearray) -> int:
    """Return where a buffer lies; good as long as the caller keeps the buffer and its size."""
    return uctypes.addressof(buffer)
