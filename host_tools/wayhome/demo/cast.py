"""Who plays in the demo: each class starts one real program on a lab host and knows how to ask it things."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..cli.admin_client import AdminClient
from ..errors import HostError
from ..lab.daemon_command import Runtime, preferred_runtime, wayhomectl_words, wayhomed_words
from ..lab.lab import Host
from ..lab.waiting import wait_until

_BIN = Path(sys.executable).parent
_START_SECONDS = 30


class Coordinator:
    """`wayhome serve` on a lab host, driven by the same commands a person would type there."""

    def __init__(self, host: Host, folder: Path, url: str, listen: str, relay_listen: str) -> None:
        self.host = host
        self.state = folder / "coordinator"
        self.url = url
        self._listen = listen
        self._relay_listen = relay_listen
        self.log = folder / "coordinator.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it and wait until its admin socket answers. Raises HostError with its last words if it ends."""
        words: list[str | Path] = [_BIN / "wayhome", "serve", "--state", self.state, "--url", self.url]
        words += ["--listen", self._listen, "--relay-listen", self._relay_listen, *more]
        with self.log.open("ab") as log:
            process = self.host.popen(words, stdout=log, stderr=log)
        self.process = process

        def answers() -> bool:
            if process.poll() is not None:
                raise HostError(f"wayhome serve ended:\n{self.log.read_text()[-2000:]}")
            return (self.state / "wayhome.sock").exists()

        wait_until(answers, _START_SECONDS, "the coordinator's admin socket")

    def ask(self, *words: str) -> Any:
        """Run a `wayhome` command with --json on the coordinator's host; return what it printed."""
        done = self.host.run([_BIN / "wayhome", *words, "--state", self.state, "--json"])
        return json.loads(done.stdout)

    def look(self, *segments: str) -> Any:
        """Return what the admin API says at once, where starting a command would cost more than the answer."""
        return AdminClient(self.state / "wayhome.sock").get(*segments)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the nodes it knows, by name."""
        return {node["name"]: node for node in self.look("nodes")}


class Board:
    """`wayhomed` on a lab host, with `wayhomectl` beside it, both under one Python: MicroPython if it can be had."""

    def __init__(self, host: Host, folder: Path, runtime: Runtime | None = None) -> None:
        self.runtime = runtime or preferred_runtime()
        self.host = host
        self.state = folder / f"wayhomed-{host.name}"
        self.socket = folder / f"wayhomed-{host.name}.sock"
        self.log = folder / f"wayhomed-{host.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until its local API answers."""
        words: list[str | Path] = [*wayhomed_words(self.runtime), "--state", self.state, "--socket", self.socket]
        with self.log.open("ab") as log:
            process = self.host.popen(words, stdout=log, stderr=log)
        self.process = process

        def answers() -> bool:
            if process.poll() is not None:
                raise HostError(f"wayhomed ended:\n{self.log.read_text()[-2000:]}")
            return self.socket.exists()

        wait_until(answers, _START_SECONDS, "the board's local API")

    def ctl(self, *words: str, timeout: float = 60) -> Any:
        """Run `wayhomectl WORDS --json`; return what it printed."""
        command, *options = words
        done = self.host.run(
            [*wayhomectl_words(self.runtime), command, "--socket", self.socket, *options, "--json"], timeout=timeout
        )
        return json.loads(done.stdout.strip().splitlines()[-1])

    def join(self, url: str, auth_key: str, *more: str, name: str = "board") -> "subprocess.Popen[str]":
        """Start `wayhomectl up`; the key goes by a file, as a person should do it."""
        key_file = self.state.parent / f"{self.host.name}.key"
        key_file.write_text(auth_key)
        key_file.chmod(0o600)
        words: list[str | Path] = ["up", "--socket", self.socket, "--login-server", url]
        words += ["--auth-key-file", key_file, "--hostname", name, *more]
        return self.host.popen(
            [*wayhomectl_words(self.runtime), *words, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def resident_kib(self) -> int:
        """Return the daemon's RSS without its WireGuard child's."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0
