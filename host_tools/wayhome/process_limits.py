"""What this process may take of the machine: open files, and memory that is given back.

Both are settled once, when a server starts.
"""

import asyncio
import ctypes
import resource
import sys
from collections.abc import Callable
from dataclasses import replace

from .http_front import FrontLimits

# Files that a server keeps open whatever happens: database, listeners, log.
_RESERVED_FILES = 64
# It takes some milliseconds: worth it when a hundred connections have ended, not for each.
_CROWD = 100
_LOOK_SECONDS = 30.0


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


def give_back_memory() -> None:
    """Return the heap's free pages to the kernel, also those between what is in use.

    Each TLS connection has a buffer of 256 KiB, of which it touches a few pages. What one leaves behind on the heap is
    touched already, so without this a crowd that comes after a crowd costs 290 KB a head instead of 40. (Mapping such
    buffers one by one, which malloc can do as well, doubles the CPU time of every packet: each read makes one.)
    Nothing happens where malloc is another's.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


async def give_back_memory_after_crowds(ended: Callable[[], int]) -> None:
    """Look now and then, for ever, whether many connections have ended; `ended` counts them since the start."""
    settled = ended()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if ended() - settled >= _CROWD:
            settled = ended()
            give_back_memory()
