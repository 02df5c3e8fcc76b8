"""A board that is a guest: wayhomed under MicroPython on Debian's kernel, in the place of a host of a lab.

    with Lab.up("board-on-carrier") as lab, GuestBoard(lab, "board", build) as board:
        board.join("http://203.0.113.10:8080", key)

The cables of that host are pulled and plugged into the guest: its interfaces, addresses and routes are the plan's.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import HostError
from . import layout
from .guest import BOARD, Guest, GuestError, GuestProcess, Network
from .lab import Lab
from .waiting import wait_until

_FIRMWARE = Path(__file__).parents[3] / "firmware"
_STATE = "/var/lib/wayhome"
_SOCKET = "/run/wayhome/wayhomed.sock"
_LOG = "/var/log/wayhomed"
_MEMORY_MB = {"amd64": 256, "arm64": 256}
_START_SECONDS = 60
_JOIN_SECONDS = 120


@dataclass(frozen=True)
class TunnelPeer:
    """A peer as the kernel's WireGuard has it.

    endpoint: where it sends to. handshake_s: when the session was agreed on, in seconds since 1970, 0 for never.
    """

    endpoint: str
    handshake_s: int
    received_bytes: int
    sent_bytes: int


class GuestHost:
    """A guest in the place of a lab's host, with that host's cables. It is there once start() has returned.

    options: further ones of Guest.
    """

    def __init__(self, lab: Lab, host: str, build: Path, **options: Any) -> None:
        self.lab = lab
        self.name = host
        self._plan = lab.plan
        self._host = lab.plan.host(host)
        # an interface's name has 15 letters at most, and other labs may run beside this one in a switch of their own
        self._taps = {link.interface: f"guest{number}" for number, link in enumerate(self._host.links)}
        networks = [Network(tap, lab.switch.namespace) for tap in self._taps.values()]
        self.guest = Guest(build, networks=networks, **options)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Boot the guest and plug it in."""
        self.guest.start()
        for link in self._host.links:
            self.lab.host(self.name).unplug(link.interface)
            bridge = layout.bridge(link.lan)
            self.lab.switch.run(["ip", "link", "set", "dev", self._taps[link.interface], "master", bridge, "up"])
        self.guest.put("/etc/hosts", layout.hosts_file(self._plan, self._host).encode())
        self.guest.run(["sh", "-eu", "-c", self._network_script()])

    def stop(self) -> None:
        """Switch the guest off, and plug the lab's own host in again."""
        self.guest.stop()

    def change_address(self, interface: str, address: str) -> None:
        """Give an interface another IPv4 address of its LAN, as a provider does; its routes stay."""
        link = self._host.link(interface)
        length = layout.prefix_length(self._plan.lans[link.lan], link.ipv4[0])
        routes = [f"route replace {route}" for route in layout.routes(self._plan, self._host)]
        lines = [f"address flush dev {interface} scope global", f"address add {address}/{length} dev {interface}"]
        self.guest.run(["ip", "-batch", "-"], input="\n".join([*lines, *routes]) + "\n")

    def _network_script(self) -> str:
        lines = []
        for number in range(len(self._host.links)):
            lines.append(f"link set dev eth{number} name plan{number}")
        for number, link in enumerate(self._host.links):
            lan = self._plan.lans[link.lan]
            lines.append(f"link set dev plan{number} name {link.interface}")
            for address in link.addresses:
                nodad = " nodad" if address.version == 6 else ""
                length = layout.prefix_length(lan, address)
                lines.append(f"address add {address}/{length} dev {link.interface}{nodad}")
            lines.append(f"link set dev {link.interface} up")
        lines += [f"route add {route}" for route in layout.routes(self._plan, self._host)]
        text = "".join(f"echo {value} >/proc/sys/{name}\n" for name, value in layout.sysctls(self._host).items())
        text += "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"
        uplink = self._plan.uplink(self._host)
        if self._host.forwards and uplink is not None:
            text += f"nft -f - <<'END'\n{layout.router_rules(self._host, uplink)}END\n"
        return text


class GuestBoard(GuestHost):
    """A lab's host, played by a guest. Its daemon is started by start(), or by the `with` block.

    disk: a file with an ext4 file system that holds the daemon's state, and outlives the guest.
    """

    def __init__(
        self, lab: Lab, host: str, build: Path, *, architecture: str = "amd64", disk: Path | None = None
    ) -> None:
        disks = [disk] if disk else []
        memory_mb = _MEMORY_MB[architecture]
        super().__init__(lab, host, build, architecture=architecture, memory_mb=memory_mb, root=BOARD, disks=disks)
        self._has_disk = disk is not None
        self.daemon: GuestProcess | None = None

    def start(self) -> None:
        """Boot the guest, plug it in, start the daemon; return once its local API answers."""
        super().start()
        self.guest.run(["mkdir", "-p", _STATE, "/run/wayhome", "/var/log"])
        if self._has_disk:
            self.guest.run(["mount", "-t", "ext4", "/dev/vda", _STATE])
        self.guest.run(["tar", "-x", "-C", "/"], input=installed("none"))
        self.start_daemon()

    def start_daemon(self, *more: str) -> None:
        """Start wayhomed, and wait until its local API answers."""
        words = ["wayhomed", "--state", _STATE, "--socket", _SOCKET, *more]
        script = f'exec "$@" >>{_LOG} 2>&1'
        daemon = self.guest.popen(["sh", "-c", script, "wayhomed", *words])

        def answers() -> bool:
            if daemon.poll() is not None:
                raise HostError(f"wayhomed ended in the guest:\n{self.log()[-2000:]}")
            return self.guest.run(["test", "-S", _SOCKET], check=False).returncode == 0

        wait_until(answers, _START_SECONDS, "the local API of the board in the guest")
        self.daemon = daemon

    def ctl(self, *words: str, timeout: float = 60) -> Any:
        """Run `wayhomectl WORDS --json`; return what it printed."""
        command, *options = words
        command_line = ["wayhomectl", command, "--socket", _SOCKET, *options, "--json"]
        done = self.guest.run(command_line, timeout=timeout)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def join(self, url: str, auth_key: str, *more: str, name: str = "") -> None:
        """Have it join by an auth key. Raises GuestError with what wayhomectl said."""
        self.guest.put("/root/key", auth_key.encode(), 0o600)
        words = ["up", "--login-server", url, "--auth-key-file", "/root/key", "--hostname", name or self.name, *more]
        try:
            self.ctl(*words, timeout=_JOIN_SECONDS)
        except GuestError as error:
            raise GuestError(f"{error}\nwayhomed's log:\n{self.log()[-3000:]}") from None

    def log(self) -> str:
        return self.guest.run(["cat", _LOG], check=False).stdout

    def wireguard(self) -> list[TunnelPeer]:
        """Return the kernel's view of the tunnel's peers."""
        lines = self.guest.run(["wg", "show", "all", "dump"]).stdout.splitlines()
        fields = [line.split("\t") for line in lines]
        return [TunnelPeer(one[3], int(one[5]), int(one[6]), int(one[7])) for one in fields if len(one) == 9]


def installed(service: str) -> bytes:
    """Return what the board's installer lays out from this checkout for a service manager, as a tar archive."""
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="wayhome-guest-") as folder:
        words = ["sh", str(_FIRMWARE / "package/install"), "--service", service, "--root", folder]
        subprocess.run(words, check=True, capture_output=True)
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in sorted(Path(folder).iterdir()):
                tar.add(path, path.name)
    return archive.getvalue()
