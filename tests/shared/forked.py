"""A copy of this process, on both Pythons."""

import os
import struct

from wayhomed.port import MICROPYTHON
from wayhomed.port.ffi import libc


def fork() -> int:
    """Return the copy's pid, and 0 in the copy.

    CPython must be asked itself: after C's fork() its copy would wait for ever for a lock that another thread held.
    """
    return libc().func("i", "fork", "")() if MICROPYTHON else os.fork()


def exit_code_of(work) -> int:
    """Return the number that work() returns in a copy of this process; 99 for an error, minus the signal it dies of."""
    pid = fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            libc().func("v", "_exit", "i")(code)
    status = bytearray(4)
    libc().func("i", "waitpid", "ipi")(pid, status, 0)
    ended = struct.unpack("i", status)[0]
    return -(ended & 0x7F) if ended & 0x7F else ended >> 8 & 0xFF
