"""A guest in which this machine's systemd runs as the first process of a container, and the board is its service.

The guest is the router of the plan `board-on-carrier`; coordinator, relay and a second node are in the lab, outside.
"""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from shared.direct import Mesh
from wayhome.images import micropython
from wayhome.lab.guest_board import GuestHost
from wayhome.lab.waiting import wait_until

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
CONFIGURATION = "/etc/wayhome/wayhomed.conf"
TIME_SERVERS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
_AUTH_KEY = "/etc/wayhome/auth.key"
_SECONDS = 120

# Only what the service needs is started: journal, and the target that the test asks for.
_SYSTEMD = """
mkdir -p /etc/systemd/system /sys/fs/cgroup/board
# all that this machine would do at its own start: its /tmp would be searched, which may be large
rm -rf /usr/lib/systemd/system/*.target.wants /etc/systemd/system/*.target.wants
for unit in sysinit basic; do
    printf '[Unit]\\nDescription=%s\\nDefaultDependencies=no\\n' $unit >/etc/systemd/system/$unit.target
done
printf '[Unit]\\nRequires=systemd-journald.service\\nAllowIsolate=yes\\n' >/etc/systemd/system/board.target
echo $$ >/sys/fs/cgroup/board/cgroup.procs
exec unshare --pid --fork --mount --cgroup --mount-proc sh -euc '
    umount -l /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec env container=guest /lib/systemd/systemd --unit=board.target --show-status=no'
"""

# Time servers that are right, whatever the machine's clock is set to after their start.
_TIME_SERVERS = """
import select, socket, sys
sys.path.insert(0, "/usr/lib/wayhome")
from wayhomed.port import packets, system_clock
from wayhomed.wire import address, ntp
off_ms = system_clock.wall_ms() - system_clock.up_ms()
listening = {}
waiting = select.poll()
for ip in sys.argv[1:]:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.bind(packets.inet_address(address.ip_from_text(ip), ntp.PORT))
    waiting.register(link, select.POLLIN)
    listening[link.fileno()] = link
print("listening")
while True:
    for link, _event in waiting.poll():
        link = listening.get(link, link)
        question, asker = link.recvfrom(512)
        now_ms = system_clock.up_ms() + off_ms
        link.sendto(ntp.encode_answer(question, now_ms, now_ms), asker)
"""


class SystemdBoard(GuestHost):
    """A guest with the package installed as a person would, and configured to join; nothing of it runs yet."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(mesh.lab, "board", BUILD, memory_mb=1536)
        self.mesh = mesh
        self.configuration = {
            "login-server": mesh.url,
            "auth-key-file": _AUTH_KEY,
            "hostname": "board",
            "advertise-routes": "192.168.1.0/24",
            "ntp-servers": ", ".join(TIME_SERVERS),
        }

    def start(self) -> None:
        super().start()
        self.systemd = self.guest.popen(["sh", "-euc", _SYSTEMD])
        wait_until(self._is_running, _SECONDS, "systemd in the guest")
        self._install_micropython()
        self.inside(ROOT / "firmware/package/install", "--service", "systemd")
        self.guest.put(_AUTH_KEY, self.mesh.key.encode(), 0o600)
        self.guest.run(["chown", "wayhome", _AUTH_KEY])
        self.configure()
        self._serve_time()

    def _install_micropython(self) -> None:
        tree = io.BytesIO()
        with tarfile.open(fileobj=tree, mode="w") as tar:
            tar.add(micropython.fetch(BUILD), "micropython")
        self.guest.run(["tar", "-x", "-C", "/opt"], input=tree.getvalue())
        words = micropython.command(Path("/opt/micropython"))
        line = f'#!/bin/sh\nexec {" ".join(words[: words.index("-X")])} "$@"\n'
        self.guest.put("/usr/local/bin/micropython", line.encode(), 0o755)

    def _is_running(self) -> bool:
        assert self.systemd.poll() is None, self.systemd.stderr
        found = min(self.guest.run(["busybox", "pidof", "systemd"], check=False).stdout.split(), key=int, default="")
        self._enter = ["nsenter", "--pid", "--mount", "--cgroup", "-t", found]
        return bool(found) and "running" in self.inside("systemctl", "is-system-running", check=False)

    def inside(self, *words: str | Path, check: bool = True) -> str:
        """Run a command where systemd is; return its output."""
        return self.guest.run([*self._enter, *words], check=check, timeout=_SECONDS).stdout

    def configure(self, **changed: str) -> None:
        """Write the configuration file, with these settings changed (a - in a name is written _)."""
        self.configuration |= {name.replace("_", "-"): value for name, value in changed.items()}
        text = "".join(f"{name} = {value}\n" for name, value in self.configuration.items())
        self.guest.put(CONFIGURATION, text.encode())

    def show(self, name: str, unit: str = "wayhomed") -> str:
        """Return a property of a unit."""
        return self.inside("systemctl", "show", "--value", "--property", name, unit).strip()

    def journal(self) -> str:
        words = ["journalctl", "--no-pager", "--output", "short-monotonic", "-u", "wayhomed", "-u", "wayhomed-helper"]
        return self.inside(*words, check=False)

    def ctl(self, *words: str) -> Any:
        return json.loads(self.inside("wayhomectl", *words, "--json").strip().splitlines()[-1])

    # --- The tunnel ---

    def interface(self) -> str:
        """Return the index of the tunnel's interface: another one would have another."""
        return self.guest.run(["cat", "/sys/class/net/wayhome0/ifindex"]).stdout.strip()

    def handshake_s(self) -> int:
        """Return when the session with the second node was agreed on, 0 for never."""
        told = self.guest.run(["wg", "show", "wayhome0", "latest-handshakes"], check=False).stdout.split()
        return max([int(seconds) for seconds in told[1::2]], default=0)  # a node that we were before says nothing

    def wait_applied(self) -> None:
        def is_applied() -> bool:
            try:
                return bool(self.ctl("status")["tunnel"]["applied"])
            except Exception as error:  # it is between two processes
                if "wayhomectl" not in str(error):
                    raise
                return False

        wait_until(is_applied, _SECONDS, "the tunnel")

    def wait_for_session(self) -> int:
        """Return when the session with the second node began, once there is one."""
        self.wait_applied()
        traveller = self.lab.host("traveller")

        def is_there() -> bool:
            traveller.run(["ping", "-c", "1", "-W", "1", self.ctl("status")["self"]["addresses"][0]], check=False)
            return self.handshake_s() > 0

        wait_until(is_there, _SECONDS, "a session")
        return self.handshake_s()

    # --- The clock ---

    def _serve_time(self) -> None:
        self.guest.put("/run/time_servers.py", _TIME_SERVERS.encode())
        self._time_servers = self.guest.popen(["/usr/local/bin/micropython", "/run/time_servers.py", *TIME_SERVERS])
        assert next(self._time_servers.lines(_SECONDS), "") == "listening", self._time_servers.stderr

    def set_clocks(self, to_s: int) -> None:
        """Set the machine's clock, and the battery-backed one."""
        self.guest.run(["date", "--set", f"@{to_s}"])
        self.guest.run(["busybox", "hwclock", "--systohc", "--utc"])

    def clock_s(self) -> int:
        return int(self.guest.run(["date", "+%s"]).stdout)

    def battery_clock_s(self) -> int:
        return int(self.guest.get("/sys/class/rtc/rtc0/since_epoch"))
