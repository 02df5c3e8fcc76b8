"""The kernel's watchdog: once open, it restarts the machine unless it is written to in time.

Source: <linux/watchdog.h>; of the magic close, Documentation/watchdog/watchdog-api.rst.
"""

import struct

from wayhomed.port import const
from wayhomed.port.ffi import errno_after_call, libc

from .errors import DataPlaneError

# Fixed by the kernel, for the architectures that we build for (mips and powerpc differ)
_SETTIMEOUT = const(0xC0045706)
_GETTIMEOUT = const(0x80045707)
_OPEN = const(0o2000001)  # O_WRONLY, O_CLOEXEC
_REASONS = {
    2: "there is none",
    13: "permission denied; its file must belong to the daemon's user or group",
    16: "another program feeds it already",
    19: "its driver is missing",
    25: "it is no watchdog",
}
# Chosen by us: a start on a slow board from a slow disk must fit in
WANTED_S = const(60)


class WatchdogDevice:
    """An open watchdog. period_ms: what it lets pass between two feedings."""

    def __init__(self, path: str, library=None):
        """Open it; from now on it runs. Raises DataPlaneError. library: of C functions, the tests' to replace."""
        self._path = path
        library = library or libc()
        self._write = library.func("i", "write", "iPL")
        self._close = library.func("i", "close", "i")
        control = library.func("i", "ioctl", "iLp")
        self._descriptor = library.func("i", "open", "sii")(path, _OPEN, 0)
        if self._descriptor < 0:
            raise self._problem(errno_after_call())
        seconds = bytearray(struct.pack("i", WANTED_S))
        control(self._descriptor, _SETTIMEOUT, seconds)  # one that can't be set says below what it has
        if control(self._descriptor, _GETTIMEOUT, seconds) < 0:
            failure = errno_after_call()
            self._close(self._descriptor)
            raise self._problem(failure)
        self.period_ms = max(1, struct.unpack("i", seconds)[0]) * 1000

    def _problem(self, errno: int) -> DataPlaneError:
        why = _REASONS.get(errno, "errno %d" % errno)
        return DataPlaneError(
            "the watchdog %s can't be used: %s; leave out --watchdog to go without" % (self._path, why)
        )

    def feed(self) -> None:
        self._write(self._descriptor, b"\0", 1)

    def release(self) -> None:
        """Switch it off and close it: nobody will feed it, and the machine goes on."""
        self._write(self._descriptor, b"V", 1)  # the magic close; a driver with "nowayout" does not heed it
        self._close(self._descriptor)

    def hand_over(self) -> None:
        """Close it so that it runs on: who comes next in this process opens it within its period."""
        self.feed()
        self._close(self._descriptor)
