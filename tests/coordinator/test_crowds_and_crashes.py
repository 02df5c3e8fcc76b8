"""Ten thousand idle connections, and a coordinator that is killed while clients are at work."""

import asyncio
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from shared.running_coordinator import running
from wayhome.bench.control_client import ConnectionEnded, ControlClient, Identity
from wayhome.cli.admin_client import AdminClient
from wayhome.errors import HostError
from wayhome.http_front import FrontLimits
from wayhomed.wire.keys import MACHINE, key_from_text


async def test_ten_thousand_idle_connections_keep_nobody_else_out():
    limits = FrontLimits(strangers=500, strangers_per_address=100)
    async with running(limits=limits) as server:
        friend = await server.join("friend")
        stream = friend.poll()
        await stream.message()
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1500
        idle: list[socket.socket] = []
        try:
            for number in range(10_000):
                one = socket.socket()
                one.setblocking(False)
                # from many addresses, each with as many as it may have
                one.bind((f"127.0.{1 + number % 50}.1", 0))
                one.connect_ex(("127.0.0.1", server.port))
                idle.append(one)
                if len(idle) > min(room, 4000):
                    idle.pop(0).close()
                if number % 50 == 49:
                    # a full backlog would drop some of them unseen: go on when the server has taken these
                    async with asyncio.timeout(60):
                        while server.front.counters.connections < number + 1:
                            await asyncio.sleep(0.001)
                if number % 1000 == 500:
                    newcomer = await server.join(f"newcomer-{number}")
                    assert (await newcomer.poll().message())["Node"]
            assert server.front.strangers <= 500 and len(server.front.open) < 600
            assert server.front.counters.ended_to_make_room > 9_000
            assert not stream.ended and (await friend.update()).status == 200
        finally:
            for one in idle:
                one.close()


async def test_idle_strangers_within_noise_make_room_too():
    async with running(limits=FrontLimits(strangers=20, strangers_per_address=20)) as server:
        friend = await server.join("friend")
        stream = friend.poll()
        await stream.message()
        for _ in range(100):
            stranger = await server.connect()
            await stranger.ask("POST", "/machine/set-dns")
        assert len(server.coordinator.links.open) <= 22
        assert not stream.ended and (await friend.update()).status == 200


class Served:
    """`wayhome serve` in a process of its own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.admin = AdminClient(self.state / "wayhome.sock")

    async def start(self) -> None:
        words = ["serve", "--state", self.state, "--url", self.url, "--listen", f"127.0.0.1:{self.port}", "--no-relay"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 (it outlives this function, and is started rarely)
                [sys.executable, "-c", "from wayhome.cli.main import main; main()", *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        async with asyncio.timeout(60):
            while True:
                assert self.process.poll() is None, self.log.read_text()[-2000:]
                try:
                    async with ClientSession() as session, session.get(self.url + "/key?v=130") as answer:
                        self.server_key = key_from_text(MACHINE, (await answer.json())["publicKey"])
                    await asyncio.to_thread(self.admin.get, "status")
                    return
                except (ClientError, OSError, HostError):
                    await asyncio.sleep(0.05)

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)


class Worker:
    """A client that remembers what was acknowledged to it, and comes back by itself."""

    def __init__(self, served: Served, key: str, number: int) -> None:
        self.served = served
        self.key = key
        self.number = number
        self.identity = Identity()
        # endpoints' ports, each one higher than the one before
        self.acknowledged = 0
        self.sent = 0
        self.joined = False
        self.polls = 0

    async def work(self, until: asyncio.Event) -> None:
        while not until.is_set():
            try:
                await self.session(until)
            except (ConnectionEnded, OSError, TimeoutError):
                await asyncio.sleep(0.05)

    async def session(self, until: asyncio.Event) -> None:
        client = await ControlClient.connect("127.0.0.1", self.served.port, self.served.server_key, self.identity)
        try:
            client.hostinfo["Hostname"] = f"worker-{self.number}"
            answer = await client.register(auth_key="" if self.joined else self.key)
            assert answer["MachineAuthorized"], answer
            self.joined = True
            stream = client.poll()
            assert (await stream.message())["Node"]["Name"]
            self.polls += 1
            while not until.is_set():
                self.sent += 1
                wanted = self.sent
                answer = await client.update(Endpoints=[f"192.0.2.1:{wanted}"])
                if answer.status != 200:
                    raise ConnectionEnded(f"the update was answered {answer.status}")
                self.acknowledged = wanted
                await asyncio.sleep(0.005)
        finally:
            client.close()


async def test_nothing_acknowledged_is_lost_when_the_coordinator_is_killed_and_clients_come_back(tmp_path: Path):
    served = Served(tmp_path)
    await served.start()
    served.admin.post("users", body={"name": "anna", "display_name": ""})
    made: Any = served.admin.post("keys", body={"user": "anna", "tags": [], "reusable": True, "ephemeral": False})
    workers = [Worker(served, made["key"], number) for number in range(8)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(worker.work(stop)) for worker in workers]
    chance = random.Random(20261123)
    known: dict[str, tuple[str, ...]] = {}
    for _ in range(4):
        await asyncio.sleep(0.3 + chance.random() * 0.7)
        served.kill()
        was_told = [(worker.joined, worker.acknowledged, worker.polls) for worker in workers]
        await served.start()
        nodes: Any = await asyncio.to_thread(served.admin.get, "nodes")
        by_name = {node["name"]: node for node in nodes}
        for worker, (joined, acknowledged, polls) in zip(workers, was_told, strict=True):
            if joined:
                node = by_name[f"worker-{worker.number}"]
                assert known.setdefault(node["name"], tuple(node["addresses"])) == tuple(node["addresses"])
                if acknowledged:
                    # that, or a later one: whose answer did not come any more, or sent since the server is back
                    assert acknowledged <= int(node["endpoints"][0].rpartition(":")[2]) <= worker.sent
            async with asyncio.timeout(60):
                while worker.polls == polls:
                    await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*tasks)
    assert len(known) == 8 and len(set(known.values())) == 8
    assert served.kill(signal.SIGTERM) == 0


async def test_a_server_told_to_stop_says_goodbye_and_ends_well(tmp_path: Path):
    served = Served(tmp_path)
    await served.start()
    served.admin.post("users", body={"name": "anna", "display_name": ""})
    made: Any = served.admin.post("keys", body={"user": "anna", "tags": [], "reusable": True, "ephemeral": False})
    client = await ControlClient.connect("127.0.0.1", served.port, served.server_key)
    await client.register(auth_key=made["key"])
    await client.poll().message()
    nonsense = b"GET /key HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(nonsense)
    assert b" 400 " in await reader.readline()
    writer.close()
    assert served.kill(signal.SIGTERM) == 0
    async with asyncio.timeout(60):
        await client.lost
    assert not (served.state / "wayhome.sock").exists()
    log = served.log.read_text()
    assert "First start" in log and "joined by auth key" in log
    assert "Traceback" not in log and made["key"].split("-", 3)[3] not in log
    assert (served.state / "noise.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "ftp://h"], "no URL of a server"),
        (["--url", "http://h/path"], "more than a host"),
        (["--url", "http://127.0.0.1:1", "--listen", "nonsense"], "no address"),
        (["--url", "http://127.0.0.1:1", "--listen", "192.0.2.77:80", "--no-relay"], "cannot listen"),
        (["--url", "https://127.0.0.1:1", "--cert", "/nowhere.pem", "--key", "/nowhere.key"], "certificate"),
        (["--url", "https://127.0.0.1:1", "--cert", "/nowhere.pem"], "both files"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(tmp_path: Path, words: list[str], said: str):
    done = subprocess.run(
        [sys.executable, "-c", "from wayhome.cli.main import main; main()", "serve", "--state", tmp_path, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert json.dumps(done.stderr.strip()).count("\\n") == 0, done.stderr
