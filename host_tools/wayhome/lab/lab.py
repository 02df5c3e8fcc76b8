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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import layout, namespaces, plan, record, shaper, waiting
from .host import Host as Host
from .host import LabError as LabError
from .interpreter import python_environment
from .plan import Plan
from .record import Process, Record

SWITCH = "(switch)"  # no host can be called so
_BUILD_SECONDS = 60
_END_SECONDS = 5.0  # how long a process may take to end by SIGTERM when its lab goes down
_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
_TOOLS = ("ip", "nft", "nsenter")


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
        name = name or f"{_fit_for_a_name(wanted_plan.name)}-{secrets.token_hex(3)}"
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
                record.end(made.keeper)
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
        return cls(found, plan_of(found), None)

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
        # in one step, for others that look at this lab at the same time
        temporary = self.folder / "addresses.json.new"
        temporary.write_text(json.dumps(plan.addresses(changed)))
        temporary.rename(self.folder / "addresses.json")

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
            self.keeper.send(signal.SIGKILL)
            for process in self._processes:
                process.wait()
            record.end(self.keeper)
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
        _finish("the switch", self._start_shell(["nsenter", f"--net={namespace_of[SWITCH]}", "--"], switch))
        started = []
        for host in self.plan.hosts.values():
            words = self._hosts[host.name].entering()
            started.append((host.name, self._start_shell(words, layout.host_script(self.plan, host))))
        for name, process in started:
            _finish(name, process)
        waiting.wait_until(lambda: not self.idle_ports(), _BUILD_SECONDS, "the switch to carry frames")
        self._start_shaper()
        self._start_web_servers()

    def _start_shell(self, entering: list[str], script: str) -> "subprocess.Popen[str]":
        # In the lab's pid namespace: a script that waits for an interface would wait for ever if we were killed.
        with namespaces.children_in(self.pid_namespace):
            return subprocess.Popen(
                [*entering, "sh", "-eu", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def idle_ports(self) -> list[str]:
        """Return the interfaces of the switch that do not carry frames."""
        return layout.idle_ports(json.loads(self.switch.run(["ip", "-json", "-details", "link"]).stdout))

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


def plan_of(found: Record) -> Plan:
    """Return the plan of a running lab, as it is by now: hosts may have moved. Raises LabError if the lab has ended."""
    try:
        built_from = plan.parse(found.plan, (found.folder / "plan.toml").read_text())
    except FileNotFoundError:
        raise LabError(f"the lab {found.name} has just ended") from None
    try:
        moved = (found.folder / "addresses.json").read_text()
    except FileNotFoundError:
        return built_from
    return plan.with_addresses(built_from, json.loads(moved))


def _fit_for_a_name(plan_name: str) -> str:
    """Return a plan's name as the beginning of a lab's: a file may be called anything."""
    return re.sub(r"[^a-z0-9]+", "-", plan_name.lower())[:30].strip("-") or "lab"


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


def _finish(where: str, process: "subprocess.Popen[str]") -> None:
    try:
        output, _ = process.communicate(timeout=_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError(f"setting up {where} was not done after {_BUILD_SECONDS} seconds") from None
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
    asked = record.processes_of(keeper)
    for process in asked:
        process.send(signal.SIGTERM)
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
        raise LabError(f"the lab needs {', '.join(missing)}: apt install iproute2 nftables util-linux")
