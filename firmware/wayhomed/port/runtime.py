"""Files, wall clock, users and signals: what the daemon asks of the operating system besides its network.

All file calls raise OSError with its errno, on both Pythons.
"""

import os
import sys

from . import MICROPYTHON

if MICROPYTHON:
    from . import runtime_micropython as _backend
else:
    from . import runtime_cpython as _backend

__all__ = [
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


def write_file(path: str, data: bytes, mode: int) -> None:
    """Replace a file so that at any moment, power cuts included, either the old or the new content is whole there.

    The new content goes to a neighbour, is forced to disk, takes the old name, and the directory is forced to disk too.
    Raises OSError (28 = disk full, 13 and 30 = may not write); the old file is then untouched and no neighbour is left.
    """
    neighbour = path + ".new"
    try:
        _backend.write_and_sync(neighbour, data, mode)
        _backend.rename_and_sync(neighbour, path)
    except OSError:
        try:
            remove_file(neighbour)
        except OSError:
            pass  # the first error is the one to tell
        raise


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
