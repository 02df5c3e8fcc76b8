"""Files, wall clock, users and signals on CPython."""

import asyncio
import fcntl
import os
import platform
import signal
import socket
import stat
import sys
import time


def make_directory(path: str, mode: int) -> None:
    """Make the directory and those above it; if it is there already, only its mode is set."""
    os.makedirs(path, mode=mode, exist_ok=True)
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)


def mode_of(path: str) -> int:
    """Return the permission bits of a file or directory."""
    return stat.S_IMODE(os.stat(path).st_mode)


def remove_file(path: str) -> None:
    """Remove a file; it is no error if it is not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


class NewFile:
    """A file that is made anew and written from its beginning."""

    def __init__(self, path: str, mode: int):
        # O_EXCL and O_NOFOLLOW are not needed: the directory is ours alone (0700).
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(self._descriptor, mode)
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Return once all of it is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def rename_and_sync(old: str, new: str) -> None:
    os.rename(old, new)
    directory = os.open(os.path.dirname(new) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def wall_clock_s() -> int:
    """Return seconds since 1970 as the machine's clock has them."""
    return int(time.time())


def user_id() -> int:
    """Return the effective user id of this process."""
    return os.geteuid()


def operating_system() -> tuple:
    """Return (system, release, machine), for example ("linux", "6.12.20", "x86_64")."""
    return platform.system().lower(), platform.release(), platform.machine()


def write_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def write_stdout(text: str) -> None:
    """Write at once, as UTF-8. Raises OSError, EPIPE (32) when nobody reads any more."""
    # Past Python's own buffer: what is left there after EPIPE would make a second error when the process ends.
    rest = text.encode(errors="backslashreplace")
    while rest:
        rest = rest[os.write(1, rest) :]


def on_signals(callbacks: dict) -> None:
    """Call callbacks[signal number] (no arguments) from the event loop when that signal comes.

    One that came while process.replace() held them back is delivered now.
    """
    loop = asyncio.get_running_loop()
    for number, callback in callbacks.items():
        loop.add_signal_handler(number, callback)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, list(callbacks))


def on_stop_signals(callback) -> None:
    """Call `callback` (no arguments) from the event loop at SIGTERM and SIGINT instead of dying of them."""
    on_signals({signal.SIGTERM: callback, signal.SIGINT: callback})


def lock_file(path: str):
    """Take the lock that a file stands for; return what holds it until its close(), or None if another has it."""
    file = open(path, "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


class SystemLog:
    """The system's log; lines that it does not take are lost."""

    def __init__(self, path: str = "/dev/log"):
        """Raises OSError where there is none."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def write(self, severity: int, text: str) -> None:
        """severity: 0..7 as RFC 5424 section 6.2.1 has it."""
        try:
            # facility 3: system daemons
            self._socket.send(f"<{3 << 3 | severity}>wayhomed[{os.getpid()}]: {text}".encode())
        except OSError:
            pass
