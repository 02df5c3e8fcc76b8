"""A host of a running lab: run things in it, look at its counters, pull its cables."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import HostError
from . import conntrack, layout, namespaces, nat, plan, shaper, waiting
from .conntrack import Flow
from .plan import Shape

if TYPE_CHECKING:
    from .lab import Lab

# nsenter's words for the kinds of namespaces that the keeper holds
_NSENTER = (("net", "net"), ("mount", "mnt"), ("uts", "uts"))
_ANSWER_SECONDS = 60

Output = int | IO[Any] | None


class LabError(HostError):
    """A lab could not be built, or is not there."""


class Host:
    """One host of a running lab: a network, mount and host-name namespace of its own."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab = lab
        self.name = name

    @property
    def namespace(self) -> str:
        """The path of the host's network namespace, for `nsenter --net=`, `ip link set netns` and setns."""
        return self._path("net")

    def entering(self) -> list[str]:
        """Return the words to put before a command, so that it runs in this host.

        Such a process does not belong to the lab's pid namespace: whoever starts it has to end it. Use run and popen
        instead where you can.
        """
        return ["nsenter", *(f"--{word}={self._path(kind)}" for word, kind in _NSENTER), "--"]

    def run(
        self,
        words: Sequence[str | Path],
        *,
        check: bool = True,
        timeout: float | None = 60,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return it with its output as text.

        env adds to this program's environment. Raises LabError with the command's output if check is set and it
        failed, subprocess.TimeoutExpired (the command is killed) after so many seconds.
        """
        with self.popen(
            words,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            text=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode != 0:
            raise LabError(
                f"on {self.name}, `{' '.join(map(str, words))}` failed with status {process.returncode}:\n"
                f"{stdout[-4000:]}{stderr[-4000:]}".rstrip()
            )
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def popen(
        self,
        words: Sequence[str | Path],
        *,
        stdin: Output = subprocess.DEVNULL,
        stdout: Output = subprocess.DEVNULL,
        stderr: Output = None,
        env: Mapping[str, str] | None = None,
        text: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> "subprocess.Popen[Any]":
        """Start a command and return it; taking the lab down ends it (SIGTERM, 5 s later SIGKILL).

        stdout and stderr are as subprocess.Popen has them; unlike there stdout is thrown away if nothing is said.
        process.pid is the command's own number on this machine. It leads a session of its own, so that Ctrl-C
        reaches the tool alone, which then ends the lab in order.
        """
        command = self._command(words)
        with namespaces.children_in(self.lab.pid_namespace):
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                text=text,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.lab.track(process)
        return process

    def run_on_terminal(self, words: Sequence[str | Path]) -> int:
        """Run a command with this program's own terminal and signals; return its exit status as a shell has it.

        It starts in this program's folder, and finds wayhomectl and the rest of this installation by name.
        """
        # Entering a mount namespace leads to its root folder.
        words = ["env", f"--chdir={os.getcwd()}", *words]
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        with namespaces.children_in(self.lab.pid_namespace):
            process = subprocess.Popen(self._command(words), env={**os.environ, "PATH": path})
        self.lab.track(process)
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                continue  # the command has got it as well, and decides
            return status if status >= 0 else 128 - status

    def _command(self, words: Sequence[str | Path]) -> list[str]:
        return [*self.entering(), *(str(word) for word in words)]

    def address(self, interface: str | None = None, family: int = 4, number: int = 0) -> str:
        """Return an address of this host: of its first interface if none is named; number 1 is the second one.

        Raises LabError if the host has none of that family there.
        """
        host = self.lab.plan.host(self.name)
        link = host.links[0] if interface is None else host.link(interface)
        addresses = link.ipv4 if family == 4 else link.ipv6
        if number >= len(addresses):
            raise LabError(f"{self.name} has no {f'IPv{family}'} address number {number} on {link.interface}")
        return str(addresses[number])

    def reaches(self, address: str) -> bool:
        """Tell whether one ping is answered within a second."""
        return self.run(["ping", "-n", "-c1", "-W1", address], check=False).returncode == 0

    def web_log(self) -> list[dict[str, Any]]:
        """Return the requests that this host's web server has answered: client, method, path, host, status (see
        services.py). Raises LabError if the plan gives the host no web server.
        """
        if self.lab.plan.host(self.name).web is None:
            raise LabError(f"{self.name} runs no web server in this plan")
        return [line for line in self.web_lines() if "client" in line]

    def web_is_ready(self) -> bool:
        return any("ready" in line for line in self.web_lines())

    def web_lines(self) -> list[dict[str, Any]]:
        """Return all that this host's web server has written (see services.py)."""
        # the last line may be half written
        lines = self.web_log_path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def web_log_path(self) -> Path:
        return self.lab.folder / f"{self.name}.web.log"

    def read_counters(self, interface: str | None = None) -> dict[str, int]:
        """Return an interface's counters: rx_bytes, rx_packets, tx_bytes, tx_packets, rx_dropped, tx_dropped."""
        name = interface or self.lab.plan.host(self.name).links[0].interface
        stats = json.loads(self.run(["ip", "-json", "-stats", "link", "show", "dev", name]).stdout)[0]["stats64"]
        return {
            f"{direction}_{key}": int(stats[direction][key])
            for direction in ("rx", "tx")
            for key in ("bytes", "packets", "dropped")
        }

    def read_firewall_counters(self) -> dict[str, tuple[int, int]]:
        """Return a router's own counters as (packets, bytes): forwarded_out, forwarded_in, refused_in, blocked_udp."""
        listed = json.loads(self.run(["nft", "--json", "list", "counters", "table", "inet", "lab"]).stdout)["nftables"]
        counters = [entry["counter"] for entry in listed if "counter" in entry]
        return {counter["name"]: (counter["packets"], counter["bytes"]) for counter in counters}

    def read_conntrack(self) -> list[Flow]:
        """Return the flows that this host's connection tracking knows."""
        return conntrack.parse(self.run(["conntrack", "-L", "-o", "extended"]).stdout)

    def block_udp(self, to: str | None = None) -> None:
        """Have this router forward no UDP from now on (or only none to and from one address); flows that run stop."""
        self._load_rules(nat.switch_text(udp_blocked=True, to=to))

    def unblock_udp(self) -> None:
        self._load_rules(nat.switch_text(udp_blocked=False))

    def forget_mappings(self) -> None:
        """Have this router forget every flow and mapping, as switching it off and on would."""
        settings = self.lab.plan.host(self.name).nat
        self._load_rules(nat.forget_text(settings.kind if settings is not None else None))
        self.run(["conntrack", "-F"])

    def change_address(self, interface: str, address: str, *, keep_flows: bool = False) -> None:
        """Give an interface another address of its LAN instead of its first one of that family, as a provider does.

        The host's routes stay, and its neighbours' lead to where it is now. A NAT on it forgets its mappings, or with
        keep_flows only those that the kernel itself drops with the address. Raises PlanError if the LAN has no such
        address.
        """
        before = self.lab.plan
        changed = plan.with_address(before, self.name, interface, address)
        self.run(["sh", "-eu", "-c", layout.move_script(before, changed, self.name, interface)])
        for neighbour in before.hosts:
            text = layout.reroute_script(before, changed, neighbour) if neighbour != self.name else ""
            if text:
                self.lab.host(neighbour).run(["sh", "-eu", "-c", text])
        if before.host(self.name).nat is not None and not keep_flows:
            self.forget_mappings()
        self.lab.plan_has_changed(changed)

    def unplug(self, interface: str) -> None:
        """Pull the cable: the interface stays, with its addresses, but has no carrier."""
        self._set_port(interface, "down")

    def plug(self, interface: str) -> None:
        """Put the cable back; frames pass when this returns."""
        port = self._set_port(interface, "up")
        waiting.wait_until(lambda: port not in self.lab.idle_ports(), _ANSWER_SECONDS, f"{interface} of {self.name}")
        self.run(["sh", "-c", layout.wait_for_link_text(interface)])

    def shape(self, interface: str, *, up: Shape | None = None, down: Shape | None = None) -> None:
        """Change what a shaped link does to packets from now on; None is an unshaped direction.

        Only for links that the plan gives a shape. Raises LabError otherwise.
        """
        order = {"up": shaper.shape_data(up), "down": shaper.shape_data(down)}
        self._ask_shaper({"name": f"{self.name} {interface}", **order})

    def read_shaper_counters(self, interface: str) -> dict[str, dict[str, int]]:
        """Return {"up": {"delivered", "lost", "dropped"}, "down": ...} of a shaped link, in frames."""
        return self._ask_shaper({"name": f"{self.name} {interface}"})

    def _ask_shaper(self, order: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            try:
                connection.connect(str(self.lab.shaper_path))
            except FileNotFoundError:
                raise LabError(f"no link of the plan {self.lab.plan.name} is shaped") from None
            connection.send(json.dumps(order).encode())
            answer: dict[str, Any] = json.loads(connection.recv(4096))
        if "error" in answer:
            raise LabError(f"{answer['error']} in the plan {self.lab.plan.name}")
        return answer

    def _set_port(self, interface: str, state: str) -> str:
        """Return the port in the switch that was set."""
        link = self.lab.plan.host(self.name).link(interface)
        port = next(one for one in layout.ports(self.lab.plan) if one.host == self.name and one.link == link)
        self.lab.switch.run(["ip", "link", "set", "dev", port.host_side, state])
        return port.host_side

    def _load_rules(self, text: str) -> None:
        if self.lab.plan.uplink(self.lab.plan.host(self.name)) is None or not self.lab.plan.host(self.name).forwards:
            raise LabError(f"{self.name} is no router with an uplink, so it has no rules to change")
        self.run(["nft", "-f", "-"], input=text)

    def _path(self, kind: str) -> str:
        return f"/proc/{self.lab.keeper.pid}/fd/{self.descriptor(kind)}"

    def descriptor(self, kind: str) -> int:
        """Return the keeper's descriptor of this host's namespace of a kind: net, mnt or uts."""
        return self.lab.record.hosts[self.name][kind]
