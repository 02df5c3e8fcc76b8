"""Child processes on MicroPython's unix port, behind port.process: posix_spawn and a pidfd through libc."""

import struct

from .ffi import address_of, errno_after_call, libc
from .packets import wait_readable

_SYS_PIDFD_OPEN = 434  # one number on all architectures; Linux 5.3 and later
_WNOHANG = 1
# POSIX_SPAWN_SETSIGDEF, SETSIGMASK, SETSID of <spawn.h>
_SPAWN_FLAGS = 0x04 | 0x08 | 0x80
_SIGPIPE = 13
_SIGSET_BYTES = 128  # of the largest C library
_ATTRIBUTES_BYTES = 512  # posix_spawnattr_t is 336 on glibc, 128 bytes more or less on musl; more does no harm

_spawn = libc().func("i", "posix_spawnp", "pspppp")
_attributes_init = libc().func("i", "posix_spawnattr_init", "p")
_attributes_setflags = libc().func("i", "posix_spawnattr_setflags", "pi")
_attributes_setsigmask = libc().func("i", "posix_spawnattr_setsigmask", "pp")
_attributes_setsigdefault = libc().func("i", "posix_spawnattr_setsigdefault", "pp")
_sigaddset = libc().func("i", "sigaddset", "pi")
_waitpid = libc().func("i", "waitpid", "ipi")
_kill = libc().func("i", "kill", "ii")
_syscall = libc().func("i", "syscall", "iii")
_close = libc().func("i", "close", "i")


class Child:
    """A running program, in a session of its own: Ctrl-C at a terminal reaches us alone, and we end it in order."""

    def __init__(self, words: list, environment: dict):
        """Start words[0], found on PATH, with our environment and these variables. Raises OSError if it can't."""
        variables = [name + "=" + environment[name] for name in environment] + _environment(environment)
        _kept_words, arguments = _string_array(words)
        _kept_variables, environ = _string_array(variables)
        attributes = bytearray(_ATTRIBUTES_BYTES)
        _attributes_init(attributes)
        # We ignore SIGPIPE, and hold back those signals that we read from a descriptor; a child begins with neither.
        signals = bytearray(_SIGSET_BYTES)
        _attributes_setsigmask(attributes, signals)
        _sigaddset(signals, _SIGPIPE)
        _attributes_setsigdefault(attributes, signals)
        _attributes_setflags(attributes, _SPAWN_FLAGS)
        pid = bytearray(4)
        failure = _spawn(pid, words[0], None, attributes, arguments, environ)
        if failure:
            raise OSError(failure, "no such program, or it can't be started")
        self.pid = struct.unpack("i", pid)[0]
        self._exit_code: int | None = None

    def exit_code(self):
        """Return None while it runs, then its exit code (negative: the signal that ended it)."""
        if self._exit_code is None:
            status = bytearray(4)
            if _waitpid(self.pid, status, _WNOHANG) == self.pid:
                self._exit_code = _code(struct.unpack("i", status)[0])
        return self._exit_code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended already."""
        if self.exit_code() is None:
            _kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for the end, return the exit code."""
        if self.exit_code() is None:
            watched = _syscall(_SYS_PIDFD_OPEN, self.pid, 0)
            if watched < 0:
                raise OSError(errno_after_call(), "pidfd_open")
            try:
                await wait_readable(watched)
            finally:
                _close(watched)
        return self.exit_code()


def _string_array(texts: list) -> tuple:
    """Return (what must be kept, a char *[] that ends in NULL)."""
    kept = [bytearray(text.encode() + b"\0") for text in texts]
    return kept, bytearray(b"".join([struct.pack("P", address_of(text)) for text in kept]) + struct.pack("P", 0))


def _environment(but: dict) -> list:
    """Return our own environment as NAME=value texts, without these names.

    From /proc: ffi finds the program's unused copy of C's `environ` instead of the one that is filled in.
    """
    with open("/proc/self/environ") as file:
        own = file.read().split("\0")
    return [text for text in own if text and text.split("=")[0] not in but]


def _code(status: int) -> int:
    """Turn a wait status into an exit code. Source: wait(2), <bits/waitstatus.h>."""
    signal = status & 0x7F
    return -signal if signal else status >> 8 & 0xFF
