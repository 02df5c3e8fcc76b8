"""`wayhomectl bugreport`: all that helps, and no secret, wherever one stands."""

import asyncio
import base64
import json
import stat
import subprocess
from binascii import hexlify

import pytest

from agent.fakes import Peer, until, world
from agent.test_local_api_cpython import WAYHOMECTL, ctl, environment, served
from wayhomed.agent import bugreport
from wayhomed.agent.configuration import Configuration
from wayhomed.agent.status import in_one_line
from wayhomed.wire import keys

AUTH_KEY = "wayhome-auth-1-" + "s3cr3tAuthKey" * 3
TOKEN = "t0ken" * 8
TITLES = ("versions", "in one line", "status", "peers", "interfaces", "routes", "kernel settings", "nftables", "log")


def forms(secret: bytes) -> list[str]:
    """Return the texts that a key may stand in a file as."""
    return [
        hexlify(secret).decode(),
        hexlify(secret).decode().upper(),
        base64.b64encode(secret).decode(),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
    ]


def private_of(public: bytes, *places) -> bytes:
    """Return the private key of a public one, searched in all that these objects hold."""
    seen, todo = set(), list(places)
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, bytes) and len(one) == 32 and keys.public_of(one) == public:
            return one
        if isinstance(one, dict):
            todo.extend(one.values())
        elif isinstance(one, list | tuple | set):
            todo.extend(one)
        elif type(one).__module__.startswith("wayhomed."):
            todo.extend(vars(one).values())
    raise AssertionError("the private key is nowhere")


async def joined(w):
    """Have the board join, with secrets in every place where one may stand."""
    status, _out, err = await ctl(w, "up", "--login-server", w.coordinator.url, "--auth-key", AUTH_KEY)
    assert status == 0, err
    board = w.board
    secrets = [
        board.state.machine_private,
        board.state.node_private,
        private_of(board.disco_public, board.paths),
    ]
    for text in forms(secrets[0])[:2] + [keys.key_text(keys.PRIVATE, secrets[1]), AUTH_KEY, TOKEN]:
        # what a careless line, or somebody who says it back to us, would bring
        board.log.warning("the coordinator says: " + text + " is not welcome")
        board.session.error = "not welcome: " + text
    return [form for secret in secrets for form in forms(secret)] + [AUTH_KEY, TOKEN]


@pytest.fixture
def configured(tmp_path, monkeypatch):
    path = tmp_path / "wayhomed.conf"
    path.write_text(
        f"hostname = board\nauth-key = {AUTH_KEY}\ntoken = {TOKEN}\n# pass https://anna:{TOKEN}@host/{TOKEN}\n"
    )
    made = Configuration(str(path))
    return made


async def test_a_report_has_every_section_and_no_secret(tmp_path, configured):
    async with served(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        secrets = await joined(w)
        w.board.configuration = configured
        status, out, err = await ctl(w, "bugreport")
        assert status == 0, err
        for title in TITLES:
            assert f"\n== {title}" in out, title
        assert "hostname = board" in out
        assert "lo up mtu" in out.replace("loopback ", "")
        assert '"nas' in out
        assert "== log ==\n20" in out
        for secret in secrets:
            assert secret not in out + err, secret
        assert "(left out) is not welcome" in out


async def test_no_secret_is_in_any_log_line(tmp_path):
    async with served(tmp_path) as w:
        refusals = iter([{"Error": f"the key {AUTH_KEY} was revoked"}])
        w.coordinator.register = lambda request: next(refusals, {"MachineAuthorized": True})
        status, _out, _err = await ctl(w, "up", "--login-server", w.coordinator.url, "--auth-key", AUTH_KEY)
        assert status == 1
        status, out, _err = await ctl(w, "log")
        assert "was revoked" in out
        assert AUTH_KEY not in out


async def test_a_report_goes_to_a_file_that_only_its_owner_may_read(tmp_path):
    async with served(tmp_path) as w:
        path = tmp_path / "report.txt"
        status, out, err = await ctl(w, "bugreport", "--output", str(path))
        assert (status, out) == (0, ""), err
        assert str(path) in err
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "== log ==" in path.read_text()
        status, _out, err = await ctl(w, "bugreport", "--output", "/no/such/place")
        assert status == 1
        assert "/no/such/place" in err


async def test_a_section_that_can_not_be_read_is_told_and_the_rest_comes(tmp_path):
    async with world(tmp_path) as w:

        def fails():
            raise OSError(13, "permission denied")

        lines = await bugreport.lines_of(w.board, "routes", fails)
        assert lines == ["", "== routes ==", "could not be read: [Errno 13] permission denied"]


async def test_a_section_is_bounded(tmp_path):
    async with world(tmp_path) as w:
        lines = await bugreport.lines_of(w.board, "rules", lambda: [str(n) for n in range(5000)])
        assert lines[2] == "0"
        assert lines[-1] == "(4000 lines more)"


def test_without_a_daemon_the_report_says_so_and_has_what_there_is(tmp_path):
    words = [*WAYHOMECTL, "bugreport", "--json", "--socket", str(tmp_path / "none.sock")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True)
    lines = json.loads(done.stdout)["lines"]
    assert any("wayhomed is not running" in line for line in lines)
    assert any(line.startswith("wayhomed ") and "CPython" in line for line in lines)


async def test_the_link_that_lets_the_machine_in_is_for_wayhomectl_status_alone(tmp_path):
    async with served(tmp_path) as w:
        link = "http://mesh.example/register/f00dfeed"
        w.coordinator.register = lambda request: {"AuthURL": link} if not request["Followup"] else None
        joining = asyncio.create_task(ctl(w, "up", "--login-server", w.coordinator.url))
        await until(lambda: w.board.session.auth_url == link)
        assert link not in in_one_line(w.board)
        assert "status shows the link" in in_one_line(w.board)
        _status, out, _err = await ctl(w, "bugreport")
        assert "f00dfeed" not in out
        assert "http://mesh.example/(left out)" in out
        w.coordinator.register = lambda request: {"MachineAuthorized": True}
        w.coordinator.drop()
        assert (await joining)[0] == 0
