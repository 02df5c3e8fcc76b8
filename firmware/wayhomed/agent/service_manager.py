"""What systemd is told of the daemon: that it is ready, how it is, that it lives. Without a NOTIFY_SOCKET: nothing.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os

from wayhomed.port import const, packets
from wayhomed.port.tasks import sleep_ms

from .status import in_one_line

_NEWS_MS = const(3_600_000)  # only news make another line; this limit makes none
_GAP_MS = const(1_000)  # between two lines
_MAX_STATUS = const(300)


class ServiceManager:
    """The service manager that started us, if it wants to be told. Whatever it does, the daemon goes on."""

    def __init__(self, environment=os.getenv):
        path = environment("NOTIFY_SOCKET") or ""
        self._where = path if path.startswith("/") else "\0" + path[1:] if path.startswith("@") else ""
        self._watchdog = environment("WATCHDOG_USEC") or ""
        self._watchdog_pid = environment("WATCHDOG_PID") or ""

    def tell(self, text: str) -> None:
        """Send lines of NAME=VALUE."""
        if not self._where:
            return
        link = packets.unix_datagram()
        try:
            link.connect(packets.unix_address(self._where))
            link.send(text.encode())
        except OSError:
            pass  # it is told again when something changes
        finally:
            link.close()

    def watchdog_ms(self) -> int:
        """Return how long we may be silent before we are restarted; 0 = for ever."""
        if not self._where or not self._watchdog.isdigit():
            return 0
        if self._watchdog_pid not in ("", _own_pid()):
            return 0  # it is meant for the process that started us
        return int(self._watchdog) // 1000

    def ready(self) -> None:
        self.tell("READY=1")

    def alive(self) -> None:
        self.tell("WATCHDOG=1")

    def reloading(self) -> None:
        self.tell("RELOADING=1")

    def stopping(self) -> None:
        self.tell("STOPPING=1")

    async def keep_status(self, board) -> None:
        """Tell in one line how the daemon is, whenever that changes; for ever."""
        told = ""
        while True:
            line = in_one_line(board)[:_MAX_STATUS].replace("\n", " ")
            if line != told:
                told = line
                self.tell("STATUS=" + line)
                await sleep_ms(_GAP_MS)
                continue
            await board.news(_NEWS_MS)


def _own_pid() -> str:
    with open("/proc/self/stat") as file:
        return file.read(16).split(" ")[0]
