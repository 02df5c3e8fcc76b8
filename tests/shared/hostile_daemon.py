"""A real wayhomed in a network namespace of its own, and a coordinator that attacks it. Prints what was seen as JSON.

unshare --net python hostile_daemon.py RUNTIME FOLDER
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agent.fakes import FakeCoordinator, FakeRelay, Peer, until
from agent.test_hostile_coordinator_cpython import FLOODS, NONSENSE, framed
from wayhome.lab.daemon_command import wayhomed_words

INTERFACE = f"evil{os.getpid() % 100_000}"  # wireguard-go's sockets have one folder for all namespaces
LAPTOP, PHONE = Peer(2, "laptop"), Peer(77, "phone")


class Daemon:
    """The daemon under attack."""

    def __init__(self, runtime: str, folder: Path) -> None:
        self._socket = folder / "sock" / "wayhomed.sock"
        words = ["--state", folder / "state", "--socket", self._socket, "--config", folder / "none"]
        words += ["--interface", INTERFACE, "--lab-plain-relays"]
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen([*wayhomed_words(runtime), *map(str, words)], stderr=self._log)

    async def ask(self, **request) -> dict:
        """Return the local API's last answer."""
        await until(self._socket.exists)
        reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=1 << 24)
        writer.write(json.dumps(request).encode() + b"\n")
        answer: dict = {}
        while line := await reader.readline():
            answer = json.loads(line)
            if "result" in answer or "error" in answer:
                break
        writer.close()
        return answer

    def memory_kib(self) -> tuple[int, int]:
        """Return (resident now, resident at most)."""
        fields = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            if ":" in line
        )
        return int(fields["VmRSS"].split()[0]), int(fields["VmHWM"].split()[0])


async def main(runtime: str, folder: Path) -> None:
    relay, coordinator = FakeRelay(), FakeCoordinator()
    await relay.start()
    coordinator.relay_port = relay.port
    coordinator.peers = [LAPTOP]
    await coordinator.start()
    daemon = Daemon(runtime, folder)
    try:
        print(json.dumps(await attack(daemon, coordinator)))
    finally:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.wait(60)
    sys.stdout.flush()
    os._exit(0)  # the fakes' connections need no orderly end


async def attack(daemon: Daemon, coordinator: FakeCoordinator) -> dict:
    """Let the coordinator do its worst; return what was seen."""
    up = {"command": "up", "prefs": {"LoginServer": coordinator.url, "AcceptRoutes": True}, "timeout_ms": 60_000}
    answer = await daemon.ask(**up, auth_key="key")
    assert "result" in answer, answer
    before, number = daemon.memory_kib(), socket.if_nametoindex(INTERFACE)
    attacks = dict(FLOODS)
    for position in (9, 21, 23):
        message = NONSENSE[position]
        attacks[repr(message[:40])] = lambda message=message: framed(len(message), [message])
    for name, make in attacks.items():
        polls = len(coordinator.polls)
        await coordinator.pour(make())
        await until(lambda polls=polls: len(coordinator.polls) > polls, 60)
        status: dict = {"coordinator": {"connected": False}}
        while not status["coordinator"]["connected"]:
            status = (await daemon.ask(command="status"))["result"]
            await asyncio.sleep(0.02)
        print(name, *daemon.memory_kib(), file=sys.stderr)
    coordinator.peers = [LAPTOP, PHONE]
    coordinator.tell({"PeersChanged": [PHONE.as_json()]})
    names: list = []
    while "phone" not in names or not status["up"]:
        status = (await daemon.ask(command="status"))["result"]
        names = [peer["name"] for peer in status["peers"]]
        await asyncio.sleep(0.05)
    log = (await daemon.ask(command="log"))["result"]["lines"]
    return {
        "before_kib": before[0],
        "after_kib": daemon.memory_kib()[0],
        "peak_kib": daemon.memory_kib()[1],
        "same_interface": socket.if_nametoindex(INTERFACE) == number,
        "peers": names,
        "runtime": status["runtime"],
        "log": log,
    }


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
