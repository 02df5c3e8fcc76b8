"""Child processes, the same on both Pythons: start one in a session of its own, notice its exit, end it."""

import asyncio

from . import MICROPYTHON, const
from .tasks import limited

if MICROPYTHON:
    from .process_micropython import Child
else:
    from .process_cpython import Child

__all__ = ["Child", "end"]

SIGTERM = const(15)
SIGKILL = const(9)


async def end(child: Child, patience_s: float) -> None:
    """Ask a child to go, and make it go when it has not within patience_s seconds."""
    child.signal(SIGTERM)
    try:
        await limited(child.wait(), patience_s)
    except asyncio.TimeoutError:
        child.signal(SIGKILL)
        await child.wait()
