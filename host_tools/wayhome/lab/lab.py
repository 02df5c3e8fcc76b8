"""A running lab: build it from a plan, run things in its hosts, take it down.

    with Lab.up("story") as lab:
        print(lab.host("traveller").run(["curl", "-s", "http://wayhome.example/"]).stdout)

Needs root. Everything lives in namespaces held by one keeper process (see keeper.py); if this program is killed, the
keeper notices and ends with all that runs in the lab.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ..errors import HostError
from . import conntrack, layout, namespaces, nat, plan, record, shaper, waiting
from .conntrack import Flow
from .interpreter import python_environment
from .plan import Plan, Shape
from .record import Process, Record

SWITCH = "(switch)"  # no host can be called so
_BUILD_SECONDS = 60
_END_SECONDS = 5.0  # how long a process may take to end by SIGTERM when its lab goes down
_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
_TOOLS = ("ip", "nft", "nsenter")


class LabError(HostError):
    """A lab could not be built, or is not there."""


Output = int | IO[Any] | None


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
        cwd: str | Path | None = None,
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
                cwd=cwd,
                text=text,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.lab.track(process)
        return process

    def run_on_terminal(self, words: Sequence[str | Path]) -> int:
        """Run a command with this program's own terminal and signals; return its exit status as a shell has it."""
        with namespaces.children_in(self.lab.pid_namespace):
            process = subprocess.Popen(self._command(words))
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

    def web_log(self) -> list[dict[str, Any]]:
        """Return the requests that this host's web server has answered: client, method, path, host, status (see
        services.py). Raises LabError if the plan gives the host no web server.
        """
        if self.lab.plan.host(self.name).web is None:
            raise LabError(f"{self.name} runs no web server in this plan")
        return [line for line in self._web_lines() if "client" in line]

    def web_is_ready(self) -> bool:
        return any("ready" in line for line in self._web_lines())

    def _web_lines(self) -> list[dict[str, Any]]:
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

    def change_address(self, interface: str, address: str) -> None:
        """Give an interface another IPv4 address of its LAN instead of its first one, as a provider does at night.

        The host's routes stay; a NAT on it forgets its mappings. Raises PlanError if the LAN has no such address.
        """
        changed = plan.with_address(self.lab.plan, self.name, interface, address)
        host = self.lab.plan.host(self.name)
        old = host.link(interface).ipv4
        self.run(["sh", "-eu", "-c", layout.move_script(changed, changed.host(self.name), interface, old)])
        if host.nat is not None:
            self.forget_mappings()
        self.lab.plan_has_changed(changed)

    def unplug(self, interface: str) -> None:
        """Pull the cable: the interface stays, with its addresses, but has no carrier."""
        self._set_port(interface, "down")

    def plug(self, interface: str) -> None:
        self._set_port(interface, "up")

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
            connection.settimeout(_BUILD_SECONDS)
            try:
                connection.connect(str(self.lab.shaper_path))
            except FileNotFoundError:
                raise LabError(f"no link of the plan {self.lab.plan.name} is shaped") from None
            connection.send(json.dumps(order).encode())
            answer: dict[str, Any] = json.loads(connection.recv(4096))
        if "error" in answer:
            raise LabError(f"{answer['error']} in the plan {self.lab.plan.name}")
        return answer

    def _set_port(self, interface: str, state: str) -> None:
        link = self.lab.plan.host(self.name).link(interface)
        port = next(one for one in layout.ports(self.lab.plan) if one.host == self.name and one.link == link)
        self.lab.switch.run(["ip", "link", "set", "dev", port.host_side, state])

    def _load_rules(self, text: str) -> None:
        if self.lab.plan.uplink(self.lab.plan.host(self.name)) is None or not self.lab.plan.host(self.name).forwards:
            raise LabError(f"{self.name} is no router with an uplink, so it has no rules to change")
        self.run(["nft", "-f", "-"], input=text)

    def _path(self, kind: str) -> str:
        return f"/proc/{self.lab.keeper.pid}/fd/{self.descriptor(kind)}"

    def descriptor(self, kind: str) -> int:
        """Return the keeper's descriptor of this host's namespace of a kind: net, mnt or uts."""
        return self.lab.record.hosts[self.name][kind]


# nsenter's words for the kinds of namespaces that the keeper holds
_NSENTER = (("net", "net"), ("mount", "mnt"), ("uts", "uts"))


class Lab:
    """A running network. Made by Lab.up, or by Lab.attach for one that an earlier command left running."""

    def __init__(self, made: Record, built_from: Plan, lifeline: int | None) -> None:
        assert made.keeper is not None
        self.record = made
        self.plan = built_from
        self.keeper = made.keeper
        self._lifeline = lifeline
        self._processes: list[subprocess.Popen[Any]] = []
        self._hosts = {name: Host(self, name) for name in (*built_from.hosts, SWITCH)}
        self._is_up = True

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def pid_namespace(self) -> str:
        return f"/proc/{self.keeper.pid}/ns/pid"

    @property
    def folder(self) -> Path:
        """Where the lab's own files are (logs of its services); gone with the lab."""
        return self.record.folder

    @classmethod
    def up(cls, wanted: Plan | str | Path, *, name: str | None = None) -> "Lab":
        """Build a lab from a plan, a shipped plan's name or a file's path, and return it once it is ready.

        Use it as a context manager. name is made up if not given; it only has to be unique on this machine. Labs left
        behind by killed programs are removed first. Raises LabError or plan.PlanError; nothing is left then.
        """
        wanted_plan = wanted if isinstance(wanted, Plan) else plan.load(wanted)
        _require_root()
        _require_tools()
        record.remove_orphans()
        name = name or f"{wanted_plan.name[:30]}-{secrets.token_hex(3)}"
        if not _LAB_NAME.match(name):
            raise LabError(f"{name!r} is no name for a lab: 1 to 40 of a-z, 0-9 and - are")
        made = Record(name, str(wanted_plan.name), owner=Process.of(os.getpid()))
        record.claim(made)
        lifeline = -1
        try:
            (made.folder / "plan.toml").write_text(wanted_plan.text)
            made, lifeline = _start_keeper(made, wanted_plan)
            record.update(made)
            lab = cls(made, wanted_plan, lifeline)
            lab._build()
        except BaseException:
            if lifeline >= 0:
                os.close(lifeline)
            if made.keeper is not None:
                made.keeper.kill()
            record.remove(made)
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> "Lab":
        """Return a lab that is running already; leaving it does not take it down. Raises LabError."""
        _require_root()
        found = record.load(name)
        if found is None or not found.is_running():
            running = ", ".join(one.name for one in record.load_all() if one.is_running())
            raise LabError(f"no lab {name} is running ({running or 'none is; `wayhome lab up` starts one'})")
        built_from = plan.parse(found.plan, (found.folder / "plan.toml").read_text())
        moved = found.folder / "addresses.json"
        if moved.exists():
            built_from = plan.with_addresses(built_from, json.loads(moved.read_text()))
        return cls(found, built_from, None)

    @property
    def switch(self) -> Host:
        """The namespace of the bridges: a place for tcpdump to see every LAN."""
        return self._hosts[SWITCH]

    @property
    def shaper_path(self) -> Path:
        return self.folder / "shaper.sock"

    wait_until = staticmethod(waiting.wait_until)

    def plan_has_changed(self, changed: Plan) -> None:
        """Take over a plan in which a running host has another address."""
        self.plan = changed
        text = json.dumps(plan.addresses(changed))
        (self.folder / "addresses.json").write_text(text)

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def host(self, name: str) -> Host:
        """Return a host; raises plan.PlanError if the plan has none of that name."""
        self.plan.host(name)
        return self._hosts[name]

    def track(self, process: "subprocess.Popen[Any]") -> None:
        """Have a process ended when the lab goes down."""
        self._processes = [one for one in self._processes if one.returncode is None]
        self._processes.append(process)

    def down(self) -> None:
        """End everything in the lab and the lab itself. May be called twice."""
        if not self._is_up:
            return
        self._is_up = False
        try:
            if self._lifeline is None:
                _end_others(self.keeper)
            _end(self._processes)
        finally:
            self.keeper.kill()
            for process in self._processes:
                process.wait()
            if self._lifeline is not None:
                os.close(self._lifeline)
            record.remove(self.record)

    def leave_running(self) -> None:
        """Let the lab outlive this program; from now on it ends by `wayhome lab down` or Lab.attach(name).down()."""
        if self._lifeline is None:
            return
        self.record = replace(self.record, owner=None)
        record.update(self.record)
        os.write(self._lifeline, b"\0")
        os.close(self._lifeline)
        self._lifeline = None

    def _build(self) -> None:
        namespace_of = {name: host.namespace for name, host in self._hosts.items()}
        switch = layout.switch_script(self.plan, namespace_of.__getitem__)
        # By its network namespace alone: within the lab's mount namespaces the keeper has another number.
        _finish("the switch", _start_shell(["nsenter", f"--net={namespace_of[SWITCH]}", "--"], switch))
        started = []
        for host in self.plan.hosts.values():
            words = self._hosts[host.name].entering()
            started.append((host.name, _start_shell(words, layout.host_script(self.plan, host))))
        for name, process in started:
            _finish(name, process)
        self._start_shaper()
        self._start_web_servers()

    def _start_shaper(self) -> None:
        """Start the process that carries frames through the shaped links, if there are any."""
        links = [
            {
                "name": f"{port.host} {port.link.interface}",
                "host_side": port.host_side,
                "shaper_side": port.shaper_side,
                "bridge_side": port.bridge_side,
                "interface": port.link.interface,
                # In the lab's own pid namespace, and so in its /proc, the keeper is number 1.
                "host_namespace": f"/proc/1/fd/{self._hosts[port.host].descriptor('net')}",
                "up": shaper.shape_data(port.link.up),
                "down": shaper.shape_data(port.link.down),
                "seed": number * 1000,
            }
            for number, port in enumerate(layout.ports(self.plan))
            if port.shaped
        ]
        if not links:
            return
        log_path = self.folder / "shaper.log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control, log_path.open("w") as log:
            control.bind(str(self.shaper_path))
            control.listen()
            process = self.switch.popen(
                [sys.executable, "-m", "wayhome.lab.shaper", str(control.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=python_environment(),
                pass_fds=[control.fileno()],
            )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            process.stdin.write(json.dumps({"links": links}))
            process.stdin.close()
            if process.stdout.readline() != "ready\n":
                raise LabError(f"the shaper of links ended: {log_path.read_text()[-2000:]}")

    def _start_web_servers(self) -> None:
        serving = {}
        for host in self.plan.hosts.values():
            if host.web is not None:
                lab_host = self._hosts[host.name]
                with lab_host.web_log_path.open("w") as log:
                    words = [sys.executable, "-m", "wayhome.lab.services", "web", str(host.web)]
                    process = lab_host.popen(words, stdout=log, stderr=log, env=python_environment())
                serving[lab_host] = process
        for lab_host, process in serving.items():
            _wait_for_web(lab_host, process)


def _wait_for_web(host: Host, process: "subprocess.Popen[Any]") -> None:
    """Return once the host's web server listens. Raises LabError if it has ended instead."""
    what = f"the web server of {host.name}"
    waiting.wait_until(lambda: host.web_is_ready() or process.poll() is not None, _BUILD_SECONDS, what)
    if process.poll() is not None:
        raise LabError(f"{what} ended: {host.web_log_path.read_text()[-2000:]}")


def _start_keeper(made: Record, wanted: Plan) -> tuple[Record, int]:
    """Start a lab's keeper; return the record with it, and the end of the lifeline that keeps it alive."""
    hosts = [
        {"name": host.name, "hosts_file": layout.hosts_file(wanted, host), "sysctls": layout.sysctls(host)}
        for host in wanted.hosts.values()
    ]
    hosts.append({"name": SWITCH, "hosts_file": "127.0.0.1 localhost\n", "sysctls": layout.SWITCH_SYSCTLS})
    reading, lifeline = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "wayhome.lab.keeper", str(reading)],
            input=json.dumps({"hosts": hosts}),
            capture_output=True,
            text=True,
            pass_fds=[reading],
            env=python_environment(),
            timeout=_BUILD_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"the lab's namespaces could not be made: {done.stderr.strip()[-2000:]}")
        answer = json.loads(done.stdout)
        return replace(made, keeper=Process.of(answer["pid"]), hosts=answer["hosts"]), lifeline
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        os.close(reading)


def _start_shell(entering: list[str], script: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [*entering, "sh", "-eu", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process


def _finish(where: str, process: "subprocess.Popen[str]") -> None:
    output, _ = process.communicate(timeout=_BUILD_SECONDS)
    if process.returncode != 0:
        raise LabError(f"setting up {where} failed: {output.strip()[:2000]}")


def _end(processes: "Sequence[subprocess.Popen[Any]]") -> None:
    """SIGTERM all that still run, then SIGKILL those that have not ended in time."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _END_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_others(keeper: Process) -> None:
    """SIGTERM every process of the lab that other programs have started, and give them time to end."""
    try:
        inside = os.readlink(f"/proc/{keeper.pid}/ns/pid")
    except OSError:
        return  # it is gone, and all of them with it
    asked = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == keeper.pid:
            continue
        try:
            if os.readlink(entry / "ns/pid") == inside:
                process = Process.of(int(entry.name))
                process.send(signal.SIGTERM)
                asked.append(process)
        except OSError:
            continue  # it has just ended
    deadline = time.monotonic() + _END_SECONDS
    while any(process.is_running() for process in asked) and time.monotonic() < deadline:
        time.sleep(0.02)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab is built from network namespaces, which needs root: run this with sudo")


def _require_tools() -> None:
    from shutil import which

    missing = [tool for tool in _TOOLS if which(tool) is None]
    if missing:
        raise LabError(
            f"the lab needs {', '.join(missing)}: apt install iproute2 nftables util-linux (or run ./inv setup)"
        )
