"""Files, wall clock, users and signals on MicroPython's unix port: what its `os` lacks is asked of libc by ffi."""

import asyncio
import gc
import os
import socket
import struct
import sys
import time

import ffi

from .ffi_micropython import errno_after_call
from .packets import unix_address, wait_readable

_libc = ffi.open(None)
_open = _libc.func("i", "open", "sii")
_write = _libc.func("i", "write", "iPi")
_fsync = _libc.func("i", "fsync", "i")
_fchmod = _libc.func("i", "fchmod", "ii")
_close = _libc.func("i", "close", "i")
_mkdir = _libc.func("i", "mkdir", "si")
_chmod = _libc.func("i", "chmod", "si")
_flock = _libc.func("i", "flock", "ii")
_geteuid = _libc.func("i", "geteuid", "")
_getpid = _libc.func("i", "getpid", "")
_uname = _libc.func("i", "uname", "p")
_read = _libc.func("i", "read", "ipL")
_sigaddset = _libc.func("i", "sigaddset", "pi")
_sigprocmask = _libc.func("i", "sigprocmask", "ipp")
_signalfd = _libc.func("i", "signalfd", "ipi")

_WRITE_NEW = 0o1 | 0o100 | 0o1000 | 0o2000000  # O_WRONLY, O_CREAT, O_TRUNC, O_CLOEXEC
_READ = 0o2000000
_UTSNAME_BYTES = 65  # each of the six texts of struct utsname, <sys/utsname.h>
_SIGSET_BYTES = 128  # of the largest C library
_SIG_BLOCK = 0
_SIGNALFD_FLAGS = 0o2000000 | 0o4000  # SFD_CLOEXEC, SFD_NONBLOCK
_SIGNAL_BYTES = 128  # struct signalfd_siginfo, <sys/signalfd.h>: the number comes first


# Without it the heap is filled to its end before anything is collected, and stays resident for good.
# A quarter of this collects so often that relayed packets cost twice as much; more frees little time for its memory.
gc.threshold(512 * 1024)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(errno_after_call())
    return result


def make_directory(path: str, mode: int) -> None:
    """Make the directory and those above it; if it is there already, only its mode is set."""
    at = path.find("/", 1)
    while at > 0:
        _mkdir(path[:at], 0o755)  # there already, or the last step says what is wrong
        at = path.find("/", at + 1)
    if _mkdir(path, mode) < 0 and errno_after_call() != 17:
        raise OSError(errno_after_call())
    if mode_of(path) != mode:
        _checked(_chmod(path, mode))


def mode_of(path: str) -> int:
    """Return the permission bits of a file or directory."""
    return os.stat(path)[0] & 0o7777


def remove_file(path: str) -> None:
    """Remove a file; it is no error if it is not there."""
    try:
        os.remove(path)
    except OSError as error:
        if error.errno != 2:
            raise


class NewFile:
    """A file that is made anew and written from its beginning."""

    def __init__(self, path: str, mode: int):
        self._descriptor = _checked(_open(path, _WRITE_NEW, mode))
        try:
            _checked(_fchmod(self._descriptor, mode))
        except OSError:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while len(rest):
            rest = rest[_checked(_write(self._descriptor, rest, len(rest))) :]

    def sync(self) -> None:
        """Return once all of it is on the disk."""
        _checked(_fsync(self._descriptor))

    def close(self) -> None:
        if self._descriptor >= 0:
            _close(self._descriptor)
            self._descriptor = -1


def rename_and_sync(old: str, new: str) -> None:
    os.rename(old, new)
    slash = new.rfind("/")
    directory = _checked(_open(new[:slash] if slash > 0 else ".", _READ, 0))
    try:
        _checked(_fsync(directory))
    finally:
        _close(directory)


def wall_clock_s() -> int:
    """Return seconds since 1970 as the machine's clock has them."""
    return int(time.time())


def user_id() -> int:
    """Return the effective user id of this process."""
    return _geteuid()


def operating_system() -> tuple:
    """Return (system, release, machine), for example ("linux", "6.12.20", "x86_64")."""
    names = bytearray(6 * _UTSNAME_BYTES)
    _checked(_uname(names))
    texts = [names[at : names.find(b"\0", at)] for at in range(0, len(names), _UTSNAME_BYTES)]
    return str(texts[0], "utf-8").lower(), str(texts[2], "utf-8"), str(texts[4], "utf-8")


def write_stderr(text: str) -> None:
    sys.stderr.write(text)


def write_stdout(text: str) -> None:
    """Write at once."""
    sys.stdout.write(text)


def on_signals(callbacks: dict) -> None:
    """Call callbacks[signal number] (no arguments) from the event loop when that signal comes.

    They are read from a descriptor: MicroPython's own handler of SIGINT would end the loop in whichever task runs, and
    it has none for the others. One that came while process.replace() held them back is delivered now.
    """
    numbers = bytearray(_SIGSET_BYTES)
    for number in callbacks:
        _sigaddset(numbers, number)
    # First blocked, then read: one that comes in between waits for its reader.
    _checked(_sigprocmask(_SIG_BLOCK, numbers, None))
    reading = _read_signals(_checked(_signalfd(-1, numbers, _SIGNALFD_FLAGS)), callbacks)
    asyncio.create_task(reading)  # noqa: RUF006 - as long as it waits, MicroPython's loop holds it


async def _read_signals(descriptor: int, callbacks: dict) -> None:
    arrived = bytearray(_SIGNAL_BYTES)
    try:
        while True:
            await wait_readable(descriptor)
            while _read(descriptor, arrived, len(arrived)) == len(arrived):
                callbacks[struct.unpack_from("I", arrived)[0]]()
    finally:
        _close(descriptor)


def on_stop_signals(callback) -> None:
    """Call `callback` (no arguments) from the event loop at SIGTERM and SIGINT instead of dying of them."""
    on_signals({15: callback, 2: callback})


def lock_file(path: str):
    """Take the lock that a file stands for; return what holds it until its close(), or None if another has it."""
    descriptor = _checked(_open(path, _WRITE_NEW, 0o600))
    if _flock(descriptor, 2 | 4) < 0:  # LOCK_EX, LOCK_NB
        _close(descriptor)
        return None
    return _Lock(descriptor)


class _Lock:
    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def close(self) -> None:
        _close(self._descriptor)


class SystemLog:
    """The system's log; lines that it does not take are lost."""

    def __init__(self, path: str = "/dev/log"):
        """Raises OSError where there is none."""
        self._socket = socket.socket(1, 2 | 0x80000)  # AF_UNIX, SOCK_DGRAM, SOCK_CLOEXEC
        self._socket.setblocking(False)
        try:
            self._socket.connect(unix_address(path))
        except OSError:
            self._socket.close()
            raise

    def write(self, severity: int, text: str) -> None:
        """severity: 0..7 as RFC 5424 section 6.2.1 has it."""
        try:
            # facility 3: system daemons
            self._socket.send(("<%d>wayhomed[%d]: %s" % (3 << 3 | severity, _getpid(), text)).encode())
        except OSError:
            pass
