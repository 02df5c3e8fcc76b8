"""Files, wall clock, users and signals: what the daemon asks of the operating system besides its network.

All file calls raise OSError with its errno, on both Pythons.
"""

import os
import sys

from . import MICROPYTHON, const

if MICROPYTHON:
    from . import runtime_micropython as _backend
else:
    from . import runtime_cpython as _backend

_PIECE_BYTES = const(16_384)

__all__ = [
    "Replacement",
    "SystemLog",
    "hostname",
    "is_there",
    "lock_file",
    "make_directory",
    "mode_of",
    "on_signals",
    "on_stop_signals",
    "operating_system",
    "python_name",
    "read_file",
    "read_pieces",
    "remove_file",
    "user_id",
    "wall_clock_s",
    "write_file",
    "write_stderr",
    "write_stdout",
]

SystemLog = _backend.SystemLog
lock_file = _backend.lock_file
make_directory = _backend.make_directory
mode_of = _backend.mode_of
on_signals = _backend.on_signals
on_stop_signals = _backend.on_stop_signals
operating_system = _backend.operating_system
remove_file = _backend.remove_file
user_id = _backend.user_id
wall_clock_s = _backend.wall_clock_s
write_stderr = _backend.write_stderr
write_stdout = _backend.write_stdout


def python_name() -> str:
    """Return which Python runs this, as "CPython 3.11.7"."""
    name = "MicroPython" if MICROPYTHON else "CPython"
    return name + " " + ".".join([str(number) for number in sys.implementation.version[:3]])


def read_file(path: str, limit_bytes: int):
    """Return the file's bytes, None if there is no such file. Raises OSError, EFBIG (27) for more than the limit."""
    try:
        file = open(path, "rb")
    except OSError as error:
        if error.errno == 2:
            return None
        raise
    try:
        data = file.read(limit_bytes + 1)
    finally:
        file.close()
    if len(data) > limit_bytes:
        raise OSError(27, path + " is larger than it may be")
    return data


def read_pieces(path: str, limit_bytes: int):
    """Return an iterator over a file's bytes, so that it is never held whole; None if there is no such file.

    Raises OSError, from the iterator EFBIG (27) for more than the limit.
    """
    try:
        file = open(path, "rb")
    except OSError as error:
        if error.errno == 2:
            return None
        raise
    return _pieces_of(file, path, limit_bytes)


def _pieces_of(file, path: str, limit_bytes: int):
    try:
        while True:
            data = file.read(_PIECE_BYTES)
            if not data:
                return
            limit_bytes -= len(data)
            if limit_bytes < 0:
                raise OSError(27, path + " is larger than it may be")
            yield data
    finally:
        file.close()


class Replacement:
    """A file's new content, written piece by piece beside the old one, whose place it takes at keep().

    At any moment, power cuts included, either the old or the new content is whole under the name: the new goes to a
    neighbour, is forced to disk, takes the old name, and the directory is forced to disk too. Raises OSError (28 = disk
    full, 13 and 30 = may not write); the old file is then untouched and no neighbour is left.
    """

    def __init__(self, path: str, mode: int):
        self._path = path
        self._neighbour = path + ".new"
        self._file = _backend.NewFile(self._neighbour, mode)
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _PIECE_BYTES:
            self._empty_buffer()

    def keep(self) -> None:
        """Put what was written in the old content's place."""
        self._empty_buffer()
        try:
            self._file.sync()
            self._file.close()
            _backend.rename_and_sync(self._neighbour, self._path)
        except OSError:
            self.drop()
            raise

    def drop(self) -> None:
        """Forget what was written."""
        self._file.close()
        try:
            remove_file(self._neighbour)
        except OSError:
            pass  # whatever went wrong first is the one to tell

    def _empty_buffer(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        try:
            self._file.write(bytes(data))
        except OSError:
            self.drop()
            raise


def write_file(path: str, data: bytes, mode: int) -> None:
    """Replace a file's content as a Replacement does."""
    made = Replacement(path, mode)
    made.write(data)
    made.keep()


def is_there(path: str) -> bool:
    """Tell whether a file or directory of this name can be seen."""
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def hostname() -> str:
    """Return the machine's own name, "wayhome" if it has none."""
    try:
        data = read_file("/proc/sys/kernel/hostname", 256) or b""
    except OSError:
        data = b""
    name = str(data, "utf-8").strip()
    return name if name and name != "(none)" else "wayhome"
