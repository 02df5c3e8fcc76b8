import json

import pytest
from aiohttp import web

from relay.derp_client import DerpClient
from relay.people import ANNE, BERT, CARL, wireguard
from wayhome.errors import HostError
from wayhome.relay.admission import AllowedKeys, AnyOf, AskedCoordinator, Everybody, turn_out_the_refused
from wayhome.relay.service import admit_nobody
from wayhomed.wire.keys import NODE, key_text

KEY = key_text(NODE, ANNE.public)


# --- a list of keys ---


async def test_keys_of_the_file_come_in_and_no_others(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{KEY}   # anne\n{key_text(NODE, BERT.public)}\n")
    allowed = AllowedKeys(path)
    assert await allowed(ANNE.public, "192.0.2.1")
    assert await allowed(BERT.public, "192.0.2.1")
    assert await allowed(CARL.public, "192.0.2.1") is None


async def test_a_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path):
    path = tmp_path / "keys"
    path.write_text(KEY)
    allowed = AllowedKeys(path)
    path.write_text(key_text(NODE, BERT.public) + "\n")
    assert await allowed(ANNE.public, "") is None
    assert await allowed(BERT.public, "")
    path.write_text("nonsense")
    assert await allowed(BERT.public, "")
    path.unlink()
    assert await allowed(BERT.public, "")


def test_a_file_with_something_else_in_it_is_told_with_its_line(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"{KEY}\nnodekey:12\n")
    with pytest.raises(HostError, match="line 2"):
        AllowedKeys(path)
    with pytest.raises(HostError, match="cannot read"):
        AllowedKeys(tmp_path / "none")


# --- a coordinator ---


class Coordinator:
    """Answers /verify as it is told, and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.status = 200
        self.body = b'{"Allow":true}'

    async def verify(self, request):
        self.asked.append(json.loads(await request.read()))
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
async def coordinator():
    answers = Coordinator()
    app = web.Application()
    app.router.add_post("/verify", answers.verify)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    answers.url = f"http://127.0.0.1:{runner.addresses[0][1]}/verify"
    yield answers
    await runner.cleanup()


@pytest.fixture
async def door(coordinator):
    now = [100.0]
    one = AskedCoordinator(coordinator.url, lambda: now[0])
    one.now = now
    yield one
    await one.close()


async def test_the_coordinator_is_asked_about_key_and_address(coordinator, door):
    assert await door(ANNE.public, "198.51.100.7")
    assert coordinator.asked == [{"NodePublic": KEY, "Source": "198.51.100.7"}]


async def test_its_answer_counts_for_a_short_while(coordinator, door):
    assert await door(ANNE.public, "")
    coordinator.body = b'{"Allow":false}'
    assert await door(ANNE.public, "")
    assert len(coordinator.asked) == 1
    door.now[0] += 31
    assert await door(ANNE.public, "") is None
    coordinator.body = b'{"Allow":true}'
    assert await door(ANNE.public, "") is None
    door.now[0] += 4
    assert await door(ANNE.public, "")
    assert len(coordinator.asked) == 3


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"Allow":false}'),
        (200, b"{}"),
        (200, b""),
        (200, b"true"),
        (200, b'{"Allow":"true"}'),
        (200, b'{"Allow":1}'),
        (200, b'{"Allow":true' + b" " * 5000 + b"}"),
        (200, b"[" * 4000),
        (500, b'{"Allow":true}'),
        (403, b'{"Allow":true}'),
        (302, b'{"Allow":true}'),
    ],
)
async def test_any_answer_but_a_clear_yes_is_a_no(coordinator, door, status, body):
    coordinator.status, coordinator.body = status, body
    assert await door(ANNE.public, "") is None


async def test_a_coordinator_that_is_not_there_lets_nobody_in_and_is_asked_again(coordinator, door):
    coordinator.status = 500
    assert await door(ANNE.public, "") is None
    coordinator.status = 200
    assert await door(ANNE.public, "")
    nowhere = AskedCoordinator("http://127.0.0.1:1/verify")
    assert await nowhere(ANNE.public, "") is None
    await nowhere.close()


def test_a_url_that_is_none_is_told_in_words():
    with pytest.raises(HostError, match="--verify-url"):
        AskedCoordinator("mesh.example.net/verify")


# --- several doors ---


class Only:
    """A door for one person, who may be turned out later."""

    def __init__(self, person) -> None:
        self.key = person.public

    async def __call__(self, node_key, source):
        return "theirs" if node_key == self.key else None

    async def has_refused(self, node_key, source):
        return node_key != self.key


async def test_any_door_is_enough_and_all_lead_into_one_mesh():
    doors = AnyOf([Only(BERT), Only(CARL)])
    assert await doors(ANNE.public, "") is None
    assert await doors(BERT.public, "") == await doors(CARL.public, "") == "relay"
    assert await AnyOf([])(ANNE.public, "") is None


async def test_only_who_is_refused_at_every_door_is_out():
    doors = AnyOf([Only(BERT), Only(CARL)])
    assert await doors.has_refused(ANNE.public, "")
    assert not await doors.has_refused(BERT.public, "")
    assert not await doors.has_refused(CARL.public, "")


async def test_everybody_and_nobody():
    assert await Everybody()(ANNE.public, "") is not None
    assert not await Everybody().has_refused(ANNE.public, "")
    assert await admit_nobody(ANNE.public, "") is None


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [(200, b'{"Allow":false}', True), (200, b'{"Allow":true}', False), (200, b"{}", False), (500, b"", False)],
)
async def test_only_a_clear_no_turns_somebody_out(coordinator, door, status, body, refused):
    assert await door(ANNE.public, "")
    coordinator.status, coordinator.body = status, body
    # a yes from a moment ago does not count here
    assert await door.has_refused(ANNE.public, "") is refused


async def test_a_key_taken_from_the_file_is_out(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n")
    allowed = AllowedKeys(file)
    assert not await allowed.has_refused(ANNE.public, "")
    file.write_text("# nobody\n")
    assert await allowed.has_refused(ANNE.public, "")


async def test_who_may_no_longer_be_here_is_sent_away_and_nobody_else(serve):
    place = await serve()
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    await turn_out_the_refused(place.relay, Only(BERT))
    assert await anne.is_closed()
    assert [client["node_key"] for client in place.relay.clients()] == [key_text(NODE, BERT.public)]
    bert.send_packet(BERT, wireguard(1))
    assert await bert.packet() == (BERT.public, wireguard(1))
