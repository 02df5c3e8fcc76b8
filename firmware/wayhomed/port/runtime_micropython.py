"""Files, wall clock and users on MicroPython's unix port: what its `os` lacks is asked of libc by ffi."""

import os
import sys
import time

import ffi

from .ffi_micropython import errno_after_call

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

_WRITE_NEW = 0o1 | 0o100 | 0o1000 | 0o2000000  # O_WRONLY, O_CREAT, O_TRUNC, O_CLOEXEC
_READ = 0o2000000


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


def write_and_sync(path: str, data: bytes, mode: int) -> None:
    descriptor = _checked(_open(path, _WRITE_NEW, mode))
    try:
        _checked(_fchmod(descriptor, mode))
        rest = memoryview(data)
        while len(rest):
            rest = rest[_checked(_write(descriptor, rest, len(rest))) :]
        _checked(_fsync(descriptor))
    finally:
        _close(descriptor)


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
    """Return (system, release, machine); the release is asked of the kernel, the machine is not known here."""
    try:
        with open("/proc/sys/kernel/osrelease") as file:
            release = file.read().strip()
    except OSError:
        release = ""
    return "linux", release, ""


def write_stderr(text: str) -> None:
    sys.stderr.write(text)


def write_stdout(text: str) -> None:
    """Write at once."""
    sys.stdout.write(text)


def on_signals(callbacks: dict) -> None:
    """Not offered yet, as below."""
    raise NotImplementedError("signals under MicroPython")


def on_stop_signals(callback) -> None:
    """Not offered yet: the daemon itself runs under CPython (signalfd comes with the sockets' MicroPython half)."""
    raise NotImplementedError("signals under MicroPython")


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
    """Not offered yet: the daemon itself runs under CPython."""

    def __init__(self):
        raise OSError(95)

    def write(self, severity: int, text: str) -> None:
        """severity: 0..7 as RFC 5424 section 6.2.1 has it."""
        raise OSError(95)
