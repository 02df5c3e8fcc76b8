"""A copy of this process, on both Pythons."""

import os

from wayhomed.port import MICROPYTHON
from wayhomed.port.ffi import libc


def fork() -> int:
    """Return the copy's pid, and 0 in the copy.

    CPython must be asked itself: after C's fork() its copy would wait for ever for a lock that another thread held.
    """
    return libc().func("i", "fork", "")() if MICROPYTHON else os.fork()
