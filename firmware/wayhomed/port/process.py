"""Processes, the same on both Pythons: children, each in a session of its own; and becoming another program."""

import asyncio
import os
import struct

from . import MICROPYTHON, const
from .ffi import address_of, errno_after_call, libc
from .tasks import limited

if MICROPYTHON:
    from .process_micropython import Child
else:
    from .process_cpython import Child

__all__ = ["SIGHUP", "SIGINT", "SIGKILL", "SIGTERM", "SIGUSR1", "Child", "end", "hold_signals", "own_words", "replace"]

SIGHUP = const(1)
SIGINT = const(2)
SIGKILL = const(9)
SIGUSR1 = const(10)
SIGTERM = const(15)
_F_SETFD = const(2)
_FD_CLOEXEC = const(1)
_SIG_BLOCK = const(0)
_LOOK_AGAIN_S = const(1)
_SIGSET_BYTES = const(128)  # of the largest C library; the kernel reads 8 of them


async def end(child: Child, patience_s: float) -> None:
    """Ask a child to go, and make it go when it has not within patience_s seconds."""
    child.signal(SIGTERM)
    try:
        await limited(child.wait(), patience_s)
    except asyncio.TimeoutError:
        child.signal(SIGKILL)
        # Nobody withstands that: should the news of the end be lost, looking again still finds it.
        while child.exit_code() is None:
            try:
                await limited(child.wait(), _LOOK_AGAIN_S)
            except asyncio.TimeoutError:
                pass


def own_words() -> list:
    """Return the words that this process was started with, the interpreter and its options among them."""
    with open("/proc/self/cmdline", "rb") as file:
        return [str(word, "utf-8") for word in file.read().split(b"\0")[:-1]]


def hold_signals(again: list | tuple) -> None:
    """Have the signals that replace() speaks of wait from now on, and with them those that came already, `again`."""
    library = libc()
    held = bytearray(_SIGSET_BYTES)
    library.func("i", "sigemptyset", "p")(held)
    add = library.func("i", "sigaddset", "pi")
    for number in (SIGHUP, SIGINT, SIGUSR1, SIGTERM):
        add(held, number)
    library.func("i", "sigprocmask", "ipp")(_SIG_BLOCK, held, None)
    own_pid = library.func("i", "getpid", "")()
    for number in again:
        library.func("i", "kill", "ii")(own_pid, number)


def replace(words: list) -> None:
    """Become words[0], found on PATH: same process id, rights, environment and folder. Does not return.

    Every descriptor but the three standard ones is closed. Signals that say what to do (SIGHUP, SIGINT, SIGUSR1,
    SIGTERM) wait until the new program asks for them: runtime.on_signals() does. Raises OSError if it can't be started;
    this process then goes on, but with those signals held back.
    """
    library = libc()
    set_flags = library.func("i", "fcntl", "iii")
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            set_flags(int(name), _F_SETFD, _FD_CLOEXEC)  # the one that lists them is gone already, which does no harm
    hold_signals(())
    kept = [bytearray(word.encode() + b"\0") for word in words]
    arguments = bytearray(b"".join([struct.pack("P", address_of(word)) for word in kept]) + struct.pack("P", 0))
    library.func("i", "execvp", "sp")(words[0], arguments)
    raise OSError(errno_after_call(), words[0] + " can't be started")
