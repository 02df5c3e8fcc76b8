"""The local API and wayhomectl, as a user meets them."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent.fakes import Peer, until, world
from wayhome.lab.daemon_command import RUNTIMES, wayhomectl_words, wayhomed_words
from wayhomed.agent import icmp, local_api
from wayhomed.agent import state as state_module
from wayhomed.agent.local_api import LocalApi
from wayhomed.core.netcheck import Netcheck
from wayhomed.core.path import PathState, Reason
from wayhomed.core.paths import PathView
from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import monotonic_ms
from wayhomed.wire import address, keys

FIRMWARE = Path(__file__).parents[2] / "firmware"
WAYHOMECTL = wayhomectl_words("cpython")
WAYHOMED = wayhomed_words("cpython")


@pytest.fixture(autouse=True, params=RUNTIMES)
def python_of_the_commands(request):
    """Run each test with the commands on either Python; the daemon that they ask is in this process."""
    WAYHOMECTL[:] = wayhomectl_words(request.param)
    WAYHOMED[:] = wayhomed_words(request.param)
    yield
    WAYHOMECTL[:] = wayhomectl_words("cpython")
    WAYHOMED[:] = wayhomed_words("cpython")


def environment():
    return {**os.environ, "PYTHONPATH": str(FIRMWARE)}


@contextlib.asynccontextmanager
async def served(tmp_path):
    # pytest's own folders are closed to other users, which one test needs
    with tempfile.TemporaryDirectory(prefix="wayhome-socket-") as folder:
        Path(folder).chmod(0o755)
        async with _served(tmp_path, Path(folder)) as w:
            yield w


@contextlib.asynccontextmanager
async def _served(tmp_path, folder):
    async with world(tmp_path) as w:
        w.socket = folder / "wayhomed.sock"
        w.api = LocalApi(w.board, str(w.socket))
        w.serving = asyncio.create_task(w.api.run(asyncio.create_task))
        try:
            yield w
        finally:
            w.serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await w.serving
            assert not w.socket.exists()


async def ctl(w, *words, uid=None):
    """Return (status, stdout, stderr) of wayhomectl."""
    process = await asyncio.create_subprocess_exec(
        *WAYHOMECTL,
        *words,
        "--socket",
        str(w.socket),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=(lambda: os.setuid(uid)) if uid is not None else None,
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def ask(w, request):
    """Return the lines that the daemon answers."""
    reader, writer = await asyncio.open_unix_connection(str(w.socket))
    writer.write(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
    lines = [json.loads(line) async for line in reader]
    writer.close()
    return lines


async def test_up_tells_its_steps_and_ends_when_packets_can_flow(tmp_path):
    async with served(tmp_path) as w:
        key_file = tmp_path / "key"
        key_file.write_text("the-key\n")
        status, out, err = await ctl(
            w, "up", "--login-server", w.coordinator.url, "--auth-key-file", str(key_file), "--accept-routes"
        )
        assert status == 0, err
        assert w.board.is_up()
        assert w.coordinator.registered[0]["Auth"] == {"AuthKey": "the-key"}
        assert w.state.prefs.accept_routes
        for step in ("connecting to http", "joined as board", "relay connected"):
            assert step in err
        assert "running" in out
        assert "board.tail.example" in out


async def test_up_prints_the_link_and_waits_for_the_person(tmp_path):
    async with served(tmp_path) as w:
        asked = []

        def register(request):
            if asked and not request["Followup"]:
                return {"MachineAuthorized": True}
            asked.append(request)
            return {"AuthURL": "http://mesh.example/register/abc"} if not request["Followup"] else None

        w.coordinator.register = register
        joining = asyncio.create_task(ctl(w, "up", "--login-server", w.coordinator.url))
        await until(lambda: len(asked) == 2)
        assert (await ctl(w, "status"))[1].count("http://mesh.example/register/abc") == 1
        w.coordinator.drop()
        status, _out, err = await joining
        assert status == 0, err
        assert err.count("http://mesh.example/register/abc") == 1


async def test_up_with_a_bad_key_says_why_and_what_next(tmp_path):
    async with served(tmp_path) as w:
        w.coordinator.register = lambda request: {"Error": "this auth key was revoked"}
        status, out, err = await ctl(w, "up", "--login-server", w.coordinator.url, "--auth-key", "x", "--json")
        assert status == 1
        assert "revoked" in json.loads(out)["error"]
        assert "next:" in err


async def test_up_that_takes_too_long_says_what_is_missing(tmp_path):
    async with served(tmp_path) as w:
        status, _out, err = await ctl(w, "up", "--login-server", "http://127.0.0.1:1", "--timeout", "1")
        assert status == 1
        assert "not up after 1 s" in err
        assert "refused" in err
        assert "wayhomectl status" in err


async def test_up_says_when_the_kernel_refuses(tmp_path):
    async with served(tmp_path) as w:
        w.data_plane.failure = DataPlaneError("not allowed: wayhomed needs root")
        status, _out, err = await ctl(w, "up", "--login-server", w.coordinator.url, "--timeout", "1")
        assert status == 1
        assert "needs root" in err


async def test_a_route_that_can_not_be_is_refused_at_once_and_nothing_changes(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        status, _out, err = await ctl(w, "up", "--advertise-routes", "100.64.0.0/10")
        assert status == 1
        assert "100.64.0.0/10 can't be offered: overlaps the mesh's own addresses" in err
        assert w.state.prefs.advertise_routes == []


async def test_up_needs_a_coordinator_once(tmp_path):
    async with served(tmp_path) as w:
        status, _out, err = await ctl(w, "up")
        assert status == 1
        assert "--login-server" in err
        assert not w.state.prefs.want_running


async def test_settings_that_are_not_named_stay(tmp_path):
    async with served(tmp_path) as w:
        url = w.coordinator.url
        await ctl(w, "up", "--login-server", url, "--advertise-routes", "192.168.1.0/24, 10.0.0.0/8", "--no-snat")
        status, _out, err = await ctl(w, "up", "--hostname", "attic")
        assert status == 0, err
        prefs = w.state.prefs.as_json()
        assert prefs["AdvertiseRoutes"] == ["192.168.1.0/24", "10.0.0.0/8"]
        assert prefs["SNAT"] is False
        assert prefs["Hostname"] == "attic"
        await ctl(w, "up", "--advertise-routes", "", "--snat")
        prefs = w.state.prefs.as_json()
        assert prefs["AdvertiseRoutes"] == []
        assert prefs["SNAT"] is True


async def test_a_full_disk_refuses_the_change_and_nothing_else(tmp_path, monkeypatch):
    async with served(tmp_path) as w:
        await w.joined()
        before = (tmp_path / "state" / "state.json").read_bytes()

        def full(path, *_rest):
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(state_module.runtime, "write_file", full)
        monkeypatch.setattr(state_module.runtime, "Replacement", full)
        status, _out, err = await ctl(w, "up", "--hostname", "other")
        assert status == 1
        assert "the disk is full" in err
        assert w.state.prefs.hostname == ""
        assert (tmp_path / "state" / "state.json").read_bytes() == before
        assert w.board.is_up()
        # a netmap that can't be kept is told, and works all the same
        w.coordinator.tell({"PeersChanged": [Peer(5, "new").as_json()]})
        await until(lambda: 5 in w.board.netmap.peers)
        w.board.saver.save_now(w.board.netmap)
        assert "the disk is full" in (await ctl(w, "status"))[1]
        monkeypatch.undo()
        w.board.saver.save_now(w.board.netmap)
        assert "the disk is full" not in (await ctl(w, "status"))[1]


async def test_down_and_status_before_the_first_up(tmp_path):
    async with served(tmp_path) as w:
        status, out, _err = await ctl(w, "status", "--json")
        assert status == 0
        assert json.loads(out)["state"] == "stopped"
        assert (await ctl(w, "down"))[0] == 0
        assert (await ctl(w, "routes"))[0] == 0


async def test_down_ends_when_the_machine_is_as_it_was(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        status, out, _err = await ctl(w, "down", "--json")
        assert status == 0
        assert json.loads(out)["state"] == "stopped"
        assert w.data_plane.stops == 1
        assert not w.data_plane.standing


async def test_logout_has_the_coordinator_end_the_key_and_forgets_it_here(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        before, machine = keys.key_text(keys.NODE, w.node_key), w.state.machine_private
        status, out, err = await ctl(w, "logout", "--json")
        assert status == 0, err
        told = json.loads(out)
        assert (told["state"], told["self"], told["coordinator"]["joined"]) == ("stopped", None, False)
        assert not w.data_plane.standing
        asked = w.coordinator.registered[-1]
        assert (asked["NodeKey"], asked["Expiry"], "Auth" in asked) == (before, "1970-01-01T00:02:03Z", False)
        assert "stopped (logged out)" in (await ctl(w, "status"))[1]
        # The next daemon reads the same, and the next login is another key's.
        await w.stop_board()
        assert not (tmp_path / "state/netmap.json").exists()
        await w.start_board()
        assert (w.state.registered, w.state.prefs.want_running) == (False, False)
        assert w.state.prefs.login_server == w.coordinator.url
        await w.joined()
        asked = w.coordinator.registered[-1]
        assert asked["NodeKey"] != before and w.state.machine_private == machine


async def test_logout_that_the_coordinator_does_not_hear_forgets_nothing_unless_so_wished(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        key = w.node_key
        await w.coordinator.stop()
        status, _out, err = await ctl(w, "logout")
        assert status == 1
        assert "the tunnel is down, but the coordinator could not be told: " in err and "--anyway" in err
        assert (w.state.registered, w.node_key, w.board.standing) == (True, key, False)
        status, _out, err = await ctl(w, "logout", "--anyway")
        assert status == 0, err
        assert not w.state.registered and w.node_key != key


async def test_logout_that_the_coordinator_refuses_says_so(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        w.coordinator.register = lambda request: {"Error": "no such node"}
        status, _out, err = await ctl(w, "logout")
        assert status == 1 and "the coordinator refuses: no such node" in err
        w.coordinator.register = lambda request: 503
        status, _out, err = await ctl(w, "logout")
        assert status == 1 and "503" in err
        assert w.state.registered


async def test_logout_before_the_first_up_asks_nobody(tmp_path):
    async with served(tmp_path) as w:
        assert (await ctl(w, "logout"))[0] == 0
        assert not w.coordinator.registered


async def test_a_new_tunnel_comes_with_a_new_disco_key_so_that_peers_begin_their_sessions_anew(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        before = w.coordinator.polls[-1]["DiscoKey"]
        assert (await ctl(w, "down"))[0] == 0
        assert (await ctl(w, "up"))[0] == 0
        await until(lambda: w.coordinator.polls[-1]["DiscoKey"] != before)


async def test_status_and_routes_show_peers(tmp_path):
    async with served(tmp_path) as w:
        nas = Peer(2, "router")
        allowed = [*nas.as_json()["Addresses"], "192.168.7.0/24"]
        w.coordinator.first_fields = {"Peers": [nas.as_json(AllowedIPs=allowed, Online=False)]}
        w.up("key", AdvertiseRoutes=["10.0.0.0/8"])
        await until(w.board.is_up)
        _status, out, _err = await ctl(w, "status")
        assert "router" in out
        assert "192.168.7.0/24" in out
        peer = json.loads((await ctl(w, "status", "--json"))[1])["peers"][0]
        assert peer["addresses"] == ["100.64.0.2", "fd7a:115c:a1e0::2"]
        assert peer["online"] is False
        assert peer["path"] == "relay home"
        routes = json.loads((await ctl(w, "routes", "--json"))[1])
        assert routes["advertised"] == [{"prefix": "10.0.0.0/8", "approved": False}]
        assert routes["peers"] == [{"prefix": "192.168.7.0/24", "via": "router", "used": False}]
        assert "see up --accept-routes" in (await ctl(w, "routes"))[1]


async def test_what_the_owner_does_not_allow_is_told_with_its_reason(tmp_path):
    async with served(tmp_path) as w:
        thief = Peer(2, "thief")
        allowed = [*thief.as_json()["Addresses"], "192.168.1.0/24", "0.0.0.0/0"]
        w.coordinator.first_fields = {"Peers": [thief.as_json(AllowedIPs=allowed)]}
        w.data_plane.shown = {
            "refused": [
                {"prefix": "192.168.1.0/24", "node": "thief", "reason": "it overlaps the LAN"},
                {"prefix": "8.8.8.8/32", "node": "this node", "reason": "not an address of the mesh"},
            ],
            "published": [{"name": "nas", "address": "100.64.0.3", "target": "192.168.1.10"}],
        }
        w.up("key", AcceptRoutes=True)
        await until(w.board.is_up)
        lines = (await ctl(w, "status"))[1].splitlines()
        assert "refused      192.168.1.0/24 of thief: it overlaps the LAN" in lines
        assert "refused      8.8.8.8/32 of this node: not an address of the mesh" in lines
        lines = (await ctl(w, "routes"))[1].splitlines()
        assert [line.split(None, 2) for line in lines[1:]] == [
            ["100.64.0.3", "here", "published: nas, 192.168.1.10"],
            ["192.168.1.0/24", "thief", "refused: it overlaps the LAN"],
            ["0.0.0.0/0", "thief", "not used: an exit node, which nobody chose"],
            ["8.8.8.8/32", "this", "node  refused: not an address of the mesh"],
        ]


# --- Paths ---

RELAYED = PathView(PathState.PROBING, None, 0, 0, Reason.ASKING, 2, 4)
NO_ANSWER = RELAYED._replace(reason=Reason.NO_ANSWER)
DIRECT = PathView(PathState.DIRECT, (bytes([203, 0, 113, 30]), 41641), 3, 0, Reason.DIRECT, 2, 4)


class FakePaths:
    """The paths to all peers, as a test has them; whatever else the daemon wants of them is done by the real ones."""

    def __init__(self, board):
        self._board, self._real = board, board.paths
        self.shown = RELAYED
        self.netcheck = None
        self.measured = Netcheck()
        self.answers = []  # what ping() gives, one after the other; the last one for ever
        self.asked = 0
        self.looks = 0

    def __getattr__(self, name):
        return getattr(self._real, name)

    def view(self, node_key):
        self.looks += 1
        return self.shown._replace(since_ms=monotonic_ms())

    def show(self, view):
        self.shown = view
        self._board._tell()

    def endpoints(self):
        return [((bytes([192, 168, 1, 2]), 41641), 1), ((bytes([203, 0, 113, 2]), 40000), 2)]

    async def run_netcheck(self, timeout_ms):
        return self.measured

    def local_ips(self):
        return []

    async def ping(self, peer, timeout_ms, by_relay):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def with_a_peer(tmp_path, name="laptop", **fields):
    """Give a world with one peer whose path the test decides: w.paths."""
    async with served(tmp_path) as w:
        w.coordinator.first_fields = {"Peers": [Peer(2, "laptop").as_json(Name=f"{name}.tail.example.", **fields)]}
        await w.joined()
        w.paths = w.board.paths = FakePaths(w.board)
        yield w


async def test_status_says_by_which_path_a_peer_is_reached_and_why_not_directly(tmp_path):
    async with with_a_peer(tmp_path) as w:
        w.paths.shown = NO_ANSWER
        out = (await ctl(w, "status"))[1]
        assert "relay home" in out
        assert "not direct: no answer from its 2 addresses to 4 pings\n" in out
        peer = json.loads((await ctl(w, "status", "--json"))[1])["peers"][0]
        assert (peer["path"], peer["reason"], peer["endpoint"]) == ("relay home", "no answer", "")
        w.paths.netcheck = Netcheck()
        w.paths.netcheck.asked4 = 2
        assert "UDP does not get out of this network" in " ".join((await ctl(w, "status"))[1].split())
        w.paths.shown = DIRECT
        assert "direct 203.0.113.30:41641, 3 ms" in (await ctl(w, "status"))[1]
        peer = json.loads((await ctl(w, "status", "--json"))[1])["peers"][0]
        assert (peer["path"], peer["why"], peer["latency_ms"]) == ("direct 203.0.113.30:41641", "", 3)


class Watcher:
    """wayhomectl status --watch, while it runs."""

    def __init__(self, w, *words):
        self._w, self._words = w, words

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *WAYHOMECTL,
            *("status", "--watch", "--socket", str(self._w.socket)),
            *self._words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        return self

    async def __aexit__(self, *_):
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def line(self, part=""):
        """Return the next line that holds a text."""
        async with asyncio.timeout(60):
            while True:
                line = (await self._process.stdout.readline()).decode()
                assert line, (await self._process.stderr.read()).decode()
                if part in line:
                    return line.rstrip("\n")

    async def interrupted(self):
        """Press Ctrl-C; return (status, the rest of stdout, stderr)."""
        self._process.send_signal(signal.SIGINT)
        return await self.ended()

    async def ended(self):
        """Return (status, the rest of stdout, stderr) when it has ended by itself."""
        stdout, stderr = await self._process.communicate()
        return self._process.returncode, stdout.decode(), stderr.decode()


async def test_a_watcher_is_told_each_change_of_a_path_with_its_time_until_ctrl_c(tmp_path):
    async with with_a_peer(tmp_path) as w, Watcher(w) as watcher:
        assert "being tried" in await watcher.line("not direct")
        await watcher.line("Ctrl-C ends it")
        w.paths.show(DIRECT)
        text = await watcher.line()
        assert text[2] == text[5] == ":"
        assert text[9:].startswith("laptop: direct by 203.0.113.30:41641 (was relay home for ")
        w.paths.show(RELAYED._replace(reason=Reason.LOST))
        assert "laptop: by relay home (was direct 203.0.113.30:41641 for " in await watcher.line()
        w.coordinator.tell({"PeersChanged": [Peer(5, "phone").as_json()]})
        assert "phone: new, by relay home" in await watcher.line()
        assert await watcher.interrupted() == (0, "", "")


async def test_a_watcher_for_scripts_gets_one_document_a_line_at_each_change(tmp_path):
    async with with_a_peer(tmp_path) as w, Watcher(w, "--json") as watcher:
        assert json.loads(await watcher.line())["peers"][0]["reason"] == "asking"
        looks = w.paths.looks
        w.paths.show(RELAYED._replace(asked=9))  # figures alone are no change
        await until(lambda: w.paths.looks > looks + 1)
        w.paths.show(DIRECT)
        assert json.loads(await watcher.line())["peers"][0]["path"] == "direct 203.0.113.30:41641"
        assert await watcher.interrupted() == (0, "", "")


async def test_a_watcher_learns_that_the_daemon_has_ended(tmp_path):
    async with with_a_peer(tmp_path) as w, Watcher(w) as watcher:
        await watcher.line("Ctrl-C ends it")
        w.serving.cancel()
        status, _out, err = await watcher.ended()
        assert status == 1
        assert "next: " in err


async def test_only_so_many_may_watch_and_one_who_leaves_makes_room(tmp_path):
    async with with_a_peer(tmp_path) as w:
        watching = [await asyncio.open_unix_connection(str(w.socket)) for _ in range(local_api._MAX_WATCHERS)]
        for reader, writer in watching:
            writer.write(b'{"command":"status","watch":true}\n')
            assert "status" in json.loads(await reader.readline())
        status, _out, err = await ctl(w, "status", "--watch")
        assert status == 1
        assert "4 others are watching already" in err
        assert "next: end one of them" in err
        assert (await ctl(w, "status"))[0] == 0
        watching[0][1].close()
        await until(lambda: w.api._watchers < local_api._MAX_WATCHERS)
        async with Watcher(w) as watcher:
            await watcher.line("Ctrl-C ends it")
        for _reader, writer in watching:
            writer.close()


async def test_a_watcher_that_reads_nothing_costs_nothing_and_is_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(local_api, "_SLOW_MS", 200)
    monkeypatch.setattr(local_api, "_STATUS_GAP_MS", 0)
    # Each status is larger than what the kernel keeps for a reader.
    async with with_a_peer(tmp_path) as w:
        w.data_plane.shown = {"problems": ["x" * 1000 for _ in range(1000)]}
        _reader, writer = await asyncio.open_unix_connection(str(w.socket), limit=1024)
        writer.write(b'{"command":"status","watch":true}\n')
        await until(lambda: w.api._watchers == 1)
        assert "result" in (await ask(w, {"command": "log"}))[-1]
        await until(lambda: w.api._watchers == 0)
        writer.close()
        assert "result" in (await ask(w, {"command": "log"}))[-1]


def by_relay(latency_ms=20.0):
    return {"path": "relay", "endpoint": "", "region": 900, "latency_ms": latency_ms}


def directly(latency_ms=3.14):
    return {"path": "direct", "endpoint": "203.0.113.30:41641", "region": 0, "latency_ms": latency_ms}


async def test_a_ping_goes_on_until_it_is_answered_directly(tmp_path):
    async with with_a_peer(tmp_path) as w:
        w.paths.answers = [by_relay(), directly()]
        status, out, err = await ctl(w, "ping", "laptop")
        assert (status, err) == (0, "")
        assert out == (
            "laptop (100.64.0.2) by relay home: 20.0 ms\nlaptop (100.64.0.2) direct by 203.0.113.30:41641: 3.1 ms\n"
        )
        w.paths.asked = 0
        told = json.loads((await ctl(w, "ping", "laptop", "--json"))[1])
        assert w.paths.asked == 1
        assert (told["direct"], told["lost"], told["answers"][0]["by"]) == (True, 0, "direct")
        assert (await ctl(w, "ping", "laptop", "--until-direct"))[0] == 0
        w.paths.asked = 0
        assert (await ctl(w, "ping", "laptop", "--no-until-direct"))[1].count("direct by") == 3
        assert w.paths.asked == 3


async def test_a_ping_that_is_never_answered_directly_says_why_and_fails_only_if_asked_to(tmp_path):
    async with with_a_peer(tmp_path) as w:
        w.paths.shown, w.paths.answers = NO_ANSWER, [by_relay()]
        status, out, _err = await ctl(w, "ping", "laptop", "--count", "1")
        assert status == 0
        assert out.splitlines()[-1] == "not direct: no answer from its 2 addresses to 4 pings"
        status, out, _err = await ctl(w, "ping", "laptop", "--count", "1", "--until-direct", "--json")
        assert status == 1
        assert json.loads(out)["why"] == "no answer from its 2 addresses to 4 pings"


async def test_a_ping_survives_silence_and_tells_it(tmp_path):
    async with with_a_peer(tmp_path) as w:
        w.paths.answers = [OSError(110, "laptop did not answer"), directly()]
        status, out, _err = await ctl(w, "ping", "laptop")
        assert status == 0
        assert out.splitlines()[0] == "laptop did not answer"
        w.paths.answers = [OSError(110, "laptop did not answer")]
        status, out, err = await ctl(w, "ping", "laptop", "--count", "2")
        assert (status, out) == (1, "laptop did not answer\n")
        assert "laptop did not answer" in err
        assert "next: " in err


async def test_ways_that_exclude_each_other_are_refused(tmp_path):
    async with served(tmp_path) as w:
        for one, other in (("tunnel", "relay"), ("relay", "until-direct"), ("until-direct", "no-until-direct")):
            status, _out, err = await ctl(w, "ping", "laptop", "--" + one, "--" + other)
            assert status == 2
            assert f"--{one} and --{other} contradict each other" in err


async def test_netcheck_measures_and_tells_it_in_words(tmp_path):
    async with with_a_peer(tmp_path) as w:
        found = w.paths.measured
        found.asked4 = found.answered4 = 2
        found.mapped4 = [((bytes([203, 0, 113, 2]), 40000), 2)]
        found.mapping_varies = False
        found.latencies_ms = {(900, 4): 12}
        status, out, err = await ctl(w, "netcheck")
        assert status == 0
        assert err == "asking the relays how they see this machine ...\n"
        for part in ("gets out: 2 of 2", "203.0.113.2:40000", "easy NAT", "home   Home  12 ms  -     home", "(STUN)"):
            assert part in out, out
        told = json.loads((await ctl(w, "netcheck", "--json"))[1])
        assert told["relays"][0]["latency_ms"] == {"ipv4": 12, "ipv6": None}
        assert told["endpoints"][0] == {
            "endpoint": "192.168.1.2:41641",
            "type": 1,
            "from": "an address of this machine",
        }
        assert (told["outside"], told["nat"]) == (["203.0.113.2:40000"], "easy")


async def test_without_a_tunnel_netcheck_says_what_to_do(tmp_path):
    async with served(tmp_path) as w:
        status, _out, err = await ctl(w, "netcheck")
        assert status == 1
        assert "next: join first: wayhomectl up" in err
        await w.joined()
        await ctl(w, "down")
        status, _out, err = await ctl(w, "netcheck")
        assert status == 1
        assert "next: run wayhomectl up" in err


async def test_a_strangers_name_does_not_steer_the_terminal(tmp_path):
    evil = "\x1b]0;pwned\x07\x9b2J\x7f"
    async with with_a_peer(tmp_path, evil, Hostinfo={"Hostname": evil}) as w:
        w.paths.answers = [directly()]
        told = await ctl(w, "status"), await ctl(w, "status", "--json"), await ctl(w, "ping", "100.64.0.2")
        told += await ctl(w, "ping", "100.64.0.2", "--json"), await ctl(w, "ping", evil)
        for _status, out, err in told:
            assert "pwned" in out + err
            assert not [c for c in out + err if (c < " " and c != "\n") or "\x7f" <= c < "\xa0"]


async def test_a_reader_that_has_gone_ends_it_without_noise(tmp_path):
    async with served(tmp_path) as w:
        reading, writing = os.pipe()
        os.close(reading)
        process = await asyncio.create_subprocess_exec(
            *WAYHOMECTL,
            *("status", "--watch", "--socket", str(w.socket)),
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        os.close(writing)
        assert await process.communicate() == (None, b"")
        assert process.returncode == 141


async def test_ping_of_nobody_says_so(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        status, out, err = await ctl(w, "ping", "printer")
        assert (status, out) == (1, "")  # and is not asked again and again
        assert "nobody in the mesh is called printer" in err


TUNNEL = {
    "addresses": ["100.64.0.1"],
    "routes": ["100.64.0.2/32", "192.168.2.0/24"],
    "published": [{"name": "nas", "address": "100.64.0.3", "target": "192.168.1.10"}],
}


async def test_a_ping_is_not_said_to_go_through_the_tunnel_where_packets_do_not(tmp_path):
    async with with_a_peer(tmp_path) as w:
        w.data_plane.shown = TUNNEL
        for target, why in (
            ("board", "board is this machine itself"),
            ("100.64.0.1", "100.64.0.1 is this machine itself"),
            ("100.64.0.3", "published by this machine, for others in the mesh; here it is 192.168.1.10"),
            ("192.168.1.10", "packets for 192.168.1.10 do not go through the tunnel"),
        ):
            status, out, err = await ctl(w, "ping", target)
            assert (status, out) == (1, "")
            assert why in err


async def test_a_ping_through_the_tunnel_is_repeated_less_often_for_it_never_becomes_direct(tmp_path, monkeypatch):
    asked = []

    async def no_answer(ip, timeout_ms, what):
        asked.append(address.ip_text(ip))
        raise OSError(110, what + ": no answer within 5 s")

    async with with_a_peer(tmp_path) as w:
        w.data_plane.shown = TUNNEL
        monkeypatch.setattr(icmp, "ping", no_answer)
        status, out, err = await ctl(w, "ping", "192.168.2.9")
        assert asked == ["192.168.2.9"] * 3
        assert (status, out) == (1, "192.168.2.9 through the tunnel: no answer within 5 s\n" * 2)
        assert "192.168.2.9 through the tunnel: no answer" in err


async def test_the_log_ring_is_shown(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        assert "in the mesh as board" in (await ctl(w, "log"))[1]


async def test_reading_is_for_whoever_may_open_the_socket_and_changing_for_root(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        assert stat.S_IMODE(w.socket.stat().st_mode) == 0o660
        w.socket.chmod(0o666)  # as if user nobody were of the socket's group
        assert await as_nobody(w, {"command": "status"}) == "result"
        assert await as_nobody(w, {"command": "down"}) == "error"
        assert await as_nobody(w, {"command": "logout", "anyway": True}) == "error"
        assert await as_nobody(w, {"command": "up", "prefs": {"Hostname": "evil"}}) == "error"
        assert w.board.is_up()
        assert w.state.prefs.hostname == ""


async def as_nobody(w, request):
    """Return the last line's kind when user 65534 asks."""

    def child():
        os.setgid(65534)
        os.setuid(65534)

    script = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode()+b'\\n')\nd=b''\n"
        "while True:\n    p=s.recv(65536)\n    if not p: break\n    d+=p\nsys.stdout.write(d.decode())"
    )
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", script, str(w.socket), json.dumps(request), stdout=subprocess.PIPE, preexec_fn=child
    )
    stdout, _stderr = await process.communicate()
    return next(iter(json.loads(stdout.decode().splitlines()[-1])))


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"[]\n",
        b"{\n",
        b"\xff\n",
        b'{"command":"reboot"}\n',
        b'{"command":5}\n',
        b'{"command":"up","prefs":5}\n',
        b'{"command":"up","prefs":{"Colour":"blue"}}\n',
        b'{"command":"up","timeout_ms":-5}\n',
        b'{"command":"ping"}\n',
        b'{"command":"ping","target":"x","timeout_ms":true}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 70_000,
    ],
)
async def test_requests_that_make_no_sense_get_an_error(tmp_path, request_line):
    async with served(tmp_path) as w:
        lines = await ask(w, request_line)
        assert list(lines[-1]) == ["error", "next"]
        assert not w.state.prefs.want_running
        assert "result" in (await ask(w, {"command": "status"}))[-1]


async def test_a_client_that_hangs_up_disturbs_nobody(tmp_path):
    async with served(tmp_path) as w:
        w.coordinator.register = lambda request: None
        for _ in range(40):
            _reader, writer = await asyncio.open_unix_connection(str(w.socket))
            writer.write(b'{"command":"up","prefs":{"LoginServer":"%s"}}\n' % w.coordinator.url.encode())
            writer.close()
        assert "result" in (await ask(w, {"command": "status"}))[-1]


async def test_an_unknown_command_or_option_is_told(tmp_path):
    async with served(tmp_path) as w:
        assert (await ctl(w, "start"))[0] == 2
        status, _out, err = await ctl(w, "up", "--login", "x")
        assert status == 2
        assert "--login-server" in err
        status, _out, err = await ctl(w, "up", "--auth-key-file", "/no/such/file")
        assert status == 2
        assert "/no/such/file" in err
        empty = tmp_path / "empty"
        empty.write_text("\n")
        status, _out, err = await ctl(w, "up", "--auth-key-file", str(empty))
        assert status == 2
        assert "holds no auth key" in err


@pytest.mark.parametrize(
    "command",
    [[], ["up"], ["down"], ["logout"], ["status"], ["ping"], ["netcheck"], ["routes"], ["log"], ["bugreport"]],
)
def test_every_help_has_an_example(command):
    done = subprocess.run(
        [*WAYHOMECTL, *command, "--help"], capture_output=True, text=True, env=environment(), check=True
    )
    assert "example: wayhomectl" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_without_a_daemon_wayhomectl_says_how_to_start_it(tmp_path):
    words = [*WAYHOMECTL, "status", "--socket", str(tmp_path / "none.sock")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 1
    assert "wayhomed is not running" in done.stderr
    assert "start it" in done.stderr


def test_wayhomed_refuses_in_words_what_it_can_not_use(tmp_path):
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "state.json").write_text('{"Version": 99}')
    own = ["--interface", f"refused{os.getpid()}"]  # other tests may run beside, in this very network
    for words, status, part in (
        (["--help"], 0, "example: wayhomed"),
        (["--port", "0"], 2, "--port"),
        (["--nonsense"], 2, "--help"),
        ([*own, "--state", "/proc/nothing"], 1, "--state"),
        ([*own, "--state", str(newer)], 1, "newer wayhomed"),
        ([*own, "--state", str(tmp_path / "a"), "--socket", "/proc/nothing/x.sock"], 1, "--socket"),
        (["--state", str(tmp_path / "b"), "--interface", "a/b"], 2, "--interface"),
    ):
        done = subprocess.run(
            [*WAYHOMED, *words], capture_output=True, text=True, env=environment(), check=False, timeout=60
        )
        assert done.returncode == status, (words, done.stderr)
        assert part in done.stdout + done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
