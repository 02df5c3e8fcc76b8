"""A guest whose board is started by busybox's init, with a watchdog, and no other programs than such boards have.

busybox's init is the first process of a process namespace: the guest's own first process is the lab's agent.
"""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from shared.direct import Mesh
from wayhome.lab.guest import BOARD
from wayhome.lab.guest_board import GuestHost
from wayhome.lab.waiting import wait_until

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
INITTAB = "/etc/inittab"
WATCHDOG_S = 30  # half of what it is, for the tests' sake
_WATCHDOG = "/sys/class/watchdog/watchdog0"
_SECONDS = 120

# what such a system has before anything is installed
_SYSTEM = f"""
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
printf root:x:0: >/etc/group
echo '::respawn:/usr/bin/syslogd -n -O /var/log/messages' >{INITTAB}
mkdir -p /var/log /etc/wayhome
"""


class BusyboxBoard(GuestHost):
    """A guest with the package installed by hand, and configured to join; init has not been started."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(mesh.lab, "board", BUILD, memory_mb=256, root=BOARD, watchdog=True)
        self.mesh = mesh

    def start(self) -> None:
        super().start()
        self.guest.run(["sh", "-euc", _SYSTEM])
        self.guest.run(["tar", "-x", "-C", "/root"], input=_firmware())
        device = "/root/firmware/wayhomed/linux/watchdog_device.py"
        self.guest.run(["sed", "-i", f"s/^WANTED_S = const(60)/WANTED_S = const({WATCHDOG_S})/", device])
        self.guest.run(["/root/firmware/package/install", "--service", "busybox"])
        self.guest.put("/etc/wayhome/auth.key", self.mesh.key.encode(), 0o600)
        self.guest.run(["chown", "wayhome", "/etc/wayhome/auth.key"])
        lines = [f"login-server = {self.mesh.url}", "auth-key-file = /etc/wayhome/auth.key", "hostname = board"]
        self.guest.put("/etc/wayhome/wayhomed.conf", "\n".join([*lines, "ntp-servers = none", ""]).encode())

    def start_init(self) -> None:
        self.init = self.guest.popen(["unshare", "--pid", "--fork", "--mount", "--mount-proc", "busybox", "init"])
        self.wait_applied()

    def text(self, *words: str) -> str:
        return self.guest.run(words, check=False).stdout.strip()

    def pid_of(self, words: str) -> str:
        """Return the id of the process whose command line has these words, "" while there is none."""
        for line in self.text("ps", "-o", "pid,args").splitlines():
            pid, _space, command = line.strip().partition(" ")
            if words in command and not command.startswith("unshare"):
                return pid
        return ""

    def pid(self) -> str:
        """Return the daemon's process id, "" while there is none."""
        return self.pid_of("start_wayhomed.py")

    def status_of(self, pid: str) -> dict[str, str]:
        """Return what the kernel says of a process."""
        lines = self.guest.run(["cat", f"/proc/{pid}/status"]).stdout.splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def ctl(self, *words: str) -> Any:
        done = self.guest.run(["wayhomectl", *words, "--json"], check=False)
        return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None

    def wait_applied(self) -> None:
        def is_applied() -> bool:
            told = self.ctl("status")
            return told is not None and told["tunnel"]["applied"]

        wait_until(is_applied, _SECONDS, "the tunnel")

    def interface(self) -> str:
        """Return the index of the tunnel's interface: another one would have another."""
        return self.text("cat", "/sys/class/net/wayhome0/ifindex")

    def log(self) -> str:
        return self.text("cat", "/var/log/messages")

    def watchdog_runs(self) -> bool:
        return self.text("cat", f"{_WATCHDOG}/state") == "active"

    def watchdog_timeout_s(self) -> int:
        return int(self.text("cat", f"{_WATCHDOG}/timeout"))

    def up_s(self) -> float:
        """Return how long the guest has been up, by its own clock, by which its watchdog goes."""
        return float(self.guest.get("/proc/uptime").split()[0])

    def inittab(self) -> str:
        return self.guest.get(INITTAB).decode()

    def change_inittab(self, text: str) -> None:
        """Have init read another list of what it keeps running."""
        self.guest.put(INITTAB, text.encode())
        self.guest.run(["kill", "-HUP", self.pid_of("busybox init")])


def _firmware() -> bytes:
    """Return the checkout's firmware folder as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("wayhomed", "package"):
            tar.add(ROOT / "firmware" / name, f"firmware/{name}", filter=_no_caches)
    return archive.getvalue()


def _no_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry
