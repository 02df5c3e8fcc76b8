"""MicroPython's ffi behind port.ffi."""

import os

import ffi
import uctypes

LIBRARIES_CLOSE = True  # a library that is closed leaves memory
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


def close_library(library) -> None:
    """Let a library leave memory, and what it had allocated go back to the kernel. Source: dlclose(3)."""
    library.close()
    trim = _trim()
    if trim is not None:
        trim(0)


_trim_of_libc = None


def _trim():
    """Return glibc's malloc_trim(3); None with a C library that has none and needs none."""
    global _trim_of_libc
    if _trim_of_libc is None:
        try:
            _trim_of_libc = ffi.open(None).func("i", "malloc_trim", "L")
        except OSError:
            return None
    return _trim_of_libc


def address_of(buffer: bytearray) -> int:
    """Return where a buffer lies; good as long as the caller keeps the buffer and its size."""
    return uctypes.addressof(buffer)
