"""A guest in which this machine's systemd runs as the first process of a container, and the board is its service.

The coordinator and its relay run in the guest itself, a second node in a network namespace of its own there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from wayhome.images import micropython
from wayhome.lab.guest import Guest, GuestProcess
from wayhome.lab.waiting import wait_until

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
_BIN = Path(sys.executable).parent
_URL = "http://10.9.0.1:8080"
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

_NETWORK = """
ip netns add far
ip link add near type veth peer name far netns far
ip address add 10.9.0.1/24 dev near
ip link set near up
ip -n far address add 10.9.0.2/24 dev far
ip -n far link set far up
ip -n far link set lo up
ip -n far route add default via 10.9.0.1
ip link add lan0 type dummy
ip address add 192.168.77.1/24 dev lan0
ip link set lan0 up
"""


class SystemdBoard:
    """A guest with the package installed as a person would; nothing of it runs yet."""

    def __init__(self) -> None:
        self.guest = Guest(BUILD, memory_mb=1536)
        self.background: list[GuestProcess] = []

    def __enter__(self) -> "SystemdBoard":
        self.guest.start()
        try:
            self._furnish()
        except BaseException:
            self.guest.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.guest.stop()

    def _furnish(self) -> None:
        self.guest.run(["sh", "-euc", _NETWORK])
        self.systemd = self.guest.popen(["sh", "-euc", _SYSTEMD])
        wait_until(self._is_running, _SECONDS, "systemd in the guest")
        tree = micropython.fetch(BUILD)
        self.guest.run(["cp", "-a", tree, "/opt/micropython"])
        words = micropython.command(Path("/opt/micropython"))
        line = f'#!/bin/sh\nexec {" ".join(words[: words.index("-X")])} "$@"\n'
        self.guest.put("/usr/local/bin/micropython", line.encode(), 0o755)
        self.inside(ROOT / "firmware/package/install", "--service", "systemd")

    def _is_running(self) -> bool:
        assert self.systemd.poll() is None, self.systemd.stderr
        return "running" in self.inside("systemctl", "is-system-running", check=False)

    def inside(self, *words: str | Path, check: bool = True) -> str:
        """Run a command where systemd is; return its output."""
        script = 'exec nsenter --pid --mount --cgroup -t "$(pgrep -o -x systemd)" "$@"'
        return self.guest.run(["sh", "-euc", script, "inside", *map(str, words)], check=check, timeout=_SECONDS).stdout

    def show(self, name: str, unit: str = "wayhomed") -> str:
        """Return a property of a unit."""
        return self.inside("systemctl", "show", "--value", "--property", name, unit).strip()

    def journal(self) -> str:
        words = ["journalctl", "--no-pager", "--output", "short-monotonic", "-u", "wayhomed", "-u", "wayhomed-helper"]
        return self.inside(*words, check=False)

    def ctl(self, *words: str) -> Any:
        return json.loads(self.inside("wayhomectl", *words, "--json").strip().splitlines()[-1])

    def serve_mesh(self) -> None:
        """Start coordinator, relay and the second node; the board joins, and the two have a session."""
        serve = [_BIN / "wayhome", "serve", "--state", "/run/coordinator", "--url", _URL]
        serve += ["--listen", "10.9.0.1:8080", "--relay-listen", "10.9.0.1:8443", "--stun-listen", "10.9.0.1:3478"]
        self.background.append(self.guest.popen(serve))
        self._wait_for_file("/run/coordinator/wayhome.sock", "the coordinator in the guest")
        self._ask("user", "create", "anna")
        self.guest.put("/root/key", self._ask("key", "create", "--user", "anna", "--reusable")["key"].encode(), 0o600)
        script = "exec ip netns exec far wayhomed --state /run/far --socket /run/far.sock --port 41642"
        self.background.append(self.guest.popen(["sh", "-c", script]))
        self._wait_for_file("/run/far.sock", "the second node")
        up = ["up", "--login-server", _URL, "--auth-key-file", "/root/key"]
        self.inside("wayhomectl", *up, "--hostname", "board", "--advertise-routes", "192.168.77.0/24")
        self.far("wayhomectl", *up, "--socket", "/run/far.sock", "--hostname", "far")

    def far(self, *words: str, check: bool = True) -> str:
        return self.guest.run(["ip", "netns", "exec", "far", *words], check=check, timeout=_SECONDS).stdout

    def handshake_s(self) -> int:
        """Return when the session with the second node was agreed on, 0 for never."""
        told = self.guest.run(["wg", "show", "wayhome0", "latest-handshakes"], check=False).stdout.split()
        return int(told[1]) if len(told) == 2 else 0

    def _ask(self, *words: str) -> Any:
        return json.loads(
            self.guest.run([_BIN / "wayhome", *words, "--state", "/run/coordinator", "--json"], timeout=_SECONDS).stdout
        )

    def _wait_for_file(self, path: str, what: str) -> None:
        def is_there() -> bool:
            last = self.background[-1]
            assert last.poll() is None, last.stdout[-2000:] + last.stderr[-2000:]
            return self.guest.run(["test", "-e", path], check=False).returncode == 0

        wait_until(is_there, _SECONDS, what)
