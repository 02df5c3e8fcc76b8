"""The local API and wayhomectl, as a user meets them."""

import asyncio
import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent import state as state_module
from wayhomed.agent.local_api import LocalApi
from wayhomed.linux.errors import DataPlaneError

FIRMWARE = Path(__file__).parents[2] / "firmware"
WAYHOMECTL = [sys.executable, "-c", "from wayhomed.agent.wayhomectl import main; main()"]
WAYHOMED = [sys.executable, "-c", "from wayhomed.agent.main import main; main()"]


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
        api = LocalApi(w.board, str(w.socket))
        serving = asyncio.create_task(api.run(asyncio.create_task))
        try:
            yield w
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
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

        def full(path, data, mode):
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(state_module.runtime, "write_file", full)
        status, _out, err = await ctl(w, "up", "--hostname", "other")
        assert status == 1
        assert "the disk is full" in err
        assert w.state.prefs.hostname == ""
        assert (tmp_path / "state" / "state.json").read_bytes() == before
        assert w.board.is_up()
        # a netmap that can't be kept is told, and works all the same
        w.coordinator.tell({"PeersChanged": [Peer(5, "new").as_json()]})
        await until(lambda: 5 in w.board.netmap.peers)
        w.board._save_netmap()
        assert "the disk is full" in (await ctl(w, "status"))[1]
        monkeypatch.undo()
        w.board._save_netmap()
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
        assert "refused      2 of" in (await ctl(w, "status"))[1]
        lines = (await ctl(w, "routes"))[1].splitlines()
        assert [line.split(None, 2) for line in lines[1:]] == [
            ["100.64.0.3", "here", "published: nas, 192.168.1.10"],
            ["192.168.1.0/24", "thief", "refused: it overlaps the LAN"],
            ["0.0.0.0/0", "thief", "not used: an exit node, which nobody chose"],
            ["8.8.8.8/32", "this", "node  refused: not an address of the mesh"],
        ]


async def test_ping_of_nobody_says_so(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        status, _out, err = await ctl(w, "ping", "printer", "--count", "1")
        assert status == 1
        assert "nobody in the mesh is called printer" in err


async def test_the_log_ring_is_shown(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        assert "session: running" in (await ctl(w, "log"))[1]


async def test_reading_is_for_whoever_may_open_the_socket_and_changing_for_root(tmp_path):
    async with served(tmp_path) as w:
        await w.joined()
        assert stat.S_IMODE(w.socket.stat().st_mode) == 0o660
        w.socket.chmod(0o666)  # as if user nobody were of the socket's group
        assert await as_nobody(w, {"command": "status"}) == "result"
        assert await as_nobody(w, {"command": "down"}) == "error"
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


@pytest.mark.parametrize("command", [[], ["up"], ["down"], ["status"], ["ping"], ["routes"], ["log"]])
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
    for words, status, part in (
        (["--help"], 0, "example: wayhomed"),
        (["--port", "0"], 2, "--port"),
        (["--nonsense"], 2, "--help"),
        (["--state", "/proc/nothing"], 1, "--state"),
        (["--state", str(newer)], 1, "newer wayhomed"),
        (["--state", str(tmp_path / "a"), "--socket", "/proc/nothing/x.sock"], 1, "--socket"),
        (["--state", str(tmp_path / "b"), "--interface", "a/b"], 1, "interface"),
    ):
        done = subprocess.run(
            [*WAYHOMED, *words], capture_output=True, text=True, env=environment(), check=False, timeout=30
        )
        assert done.returncode == status, (words, done.stderr)
        assert part in done.stdout + done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
