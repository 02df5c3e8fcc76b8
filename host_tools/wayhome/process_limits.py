"""What this process may take of the machine: open files, and memory that is given back.

Both are settled once, when a server starts.
"""

import ctypes
import resource
import sys
from dataclasses import replace

from .http_front import FrontLimits

# Files that a server keeps open whatever happens: database, listeners, log.
_RESERVED_FILES = 64
# <malloc.h> of glibc
_M_MMAP_THRESHOLD = -3
_OWN_MAPPING_BYTES = 128 * 1024


def raise_file_limit() -> int:
    """Let this process open as many files as it may at all; return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def within_file_limit(limits: FrontLimits, files: int) -> FrontLimits:
    """Return limits as told, but never more connections than this process may have open files."""
    room = max(files - _RESERVED_FILES, 64)
    return replace(
        limits,
        strangers=min(limits.strangers, room // 2),
        strangers_per_address=min(limits.strangers_per_address, room // 4),
        connections=min(limits.connections, room),
    )


def keep_large_buffers_apart() -> None:
    """Have buffers of 128 KiB and more come from the kernel, and go back to it, one by one.

    Each TLS connection has one of 256 KiB, of which it touches a few pages. glibc would soon take them from its heap,
    at other places each time, until all of the heap has been touched: then crowds that come and go cost 290 KB a head
    instead of 40. Nothing happens where malloc is another's.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
    except AttributeError:
        return
