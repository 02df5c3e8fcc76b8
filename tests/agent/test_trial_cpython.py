"""Confirm or revert, in the whole daemon: what is changed over the mesh goes back unless it is confirmed over it."""

import asyncio
import contextlib

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent.refused import Refused
from wayhomed.core import trial
from wayhomed.wire.errors import BadWire

pytestmark = pytest.mark.both_pythons
OVER_MESH = {"from": "100.64.0.9"}
LAN = "192.168.1.0/24"
SOON_MS = 300


@contextlib.asynccontextmanager
async def joined(tmp_path):
    """Give a board that is up, with a peer at 100.64.0.9."""
    async with world(tmp_path) as w:
        await w.joined()
        w.coordinator.tell({"PeersChanged": [Peer(9, "laptop").as_json()]})
        await until(lambda: w.board.trials.is_over_mesh(OVER_MESH))
        yield w


def change(w, **fields) -> None:
    w.board.change_prefs(fields, True)


def routes(w) -> list:
    return w.state.prefs.as_json()["AdvertiseRoutes"]


def is_on_trial(w) -> bool:
    return w.board.trials.status()["on"]


@contextlib.asynccontextmanager
async def quick(tmp_path, monkeypatch):
    """Give such a board whose trials are short."""
    async with joined(tmp_path) as w:
        with monkeypatch.context() as patched:
            patched.setattr(w.place.module(trial), "TRIAL_MS", SOON_MS)
            yield w


async def test_what_nobody_confirms_goes_back_by_itself(tmp_path, monkeypatch):
    async with quick(tmp_path, monkeypatch) as w:
        change(w, AdvertiseRoutes=[LAN], SNAT=False)
        assert routes(w) == [LAN] and is_on_trial(w)
        await until(lambda: w.coordinator.updates and not routes(w))
        assert w.state.prefs.snat and not is_on_trial(w)
        assert "not confirmed" in w.board.trials.troubles()[0].what
        await restart(w)
        assert routes(w) == []


async def test_a_down_over_the_mesh_comes_up_again(tmp_path, monkeypatch):
    async with quick(tmp_path, monkeypatch) as w:
        change(w, WantRunning=False)
        await until(lambda: any("not confirmed" in line for line in w.log))
        await until(w.board.is_up)
        assert w.state.prefs.want_running


async def test_what_is_confirmed_over_the_mesh_stays(tmp_path, monkeypatch):
    async with joined(tmp_path) as w:
        change(w, AdvertiseRoutes=[LAN])
        assert (await w.board.trials.confirm(OVER_MESH, 0))["confirmed"] == "the offered routes"
        assert not is_on_trial(w) and w.board.trials.troubles() == []
        await restart(w)
        assert routes(w) == [LAN]
        with pytest.raises(Refused, match="nothing waits"):
            await w.board.trials.confirm(OVER_MESH, 0)


async def test_a_confirmation_from_elsewhere_proves_nothing(tmp_path):
    async with joined(tmp_path) as w:
        change(w, AdvertiseRoutes=[LAN])
        for request in ({"from": "192.168.1.5"}, {"from": "here"}, {"from": "nonsense"}, {"from": "0.0.0.0"}):
            with pytest.raises(Refused, match="does not come over the mesh"):
                await w.board.trials.confirm(request, 0)
        assert is_on_trial(w)
        await w.board.trials.confirm({"from": "here", "here": True}, 0)
        assert not is_on_trial(w)


async def test_a_daemon_that_is_killed_meanwhile_starts_as_before(tmp_path):
    async with joined(tmp_path) as w:
        change(w, AdvertiseRoutes=[LAN])
        change(w, AcceptRoutes=True)
        await restart(w)
        assert routes(w) == [] and not w.state.prefs.accept_routes
        assert "before a restart" in w.board.trials.troubles()[0].what
        await restart(w)
        assert w.board.trials.troubles() == []


async def test_a_name_or_a_change_made_here_is_not_on_trial(tmp_path):
    async with joined(tmp_path) as w:
        change(w, Hostname="attic")
        w.board.change_prefs({"AdvertiseRoutes": [LAN]})
        assert not is_on_trial(w)
        assert not w.board.trials.is_over_mesh({"from": "here"})
        assert not w.board.trials.is_over_mesh({"for_good": True, **OVER_MESH})


async def test_another_coordinator_can_not_be_tried(tmp_path):
    async with joined(tmp_path) as w:
        with pytest.raises(BadWire, match="no way back"):
            change(w, LoginServer="https://other.example")
        assert w.state.prefs.login_server == w.coordinator.url and not is_on_trial(w)


async def test_a_file_that_nobody_confirms_is_not_taken_at_the_next_start_either(tmp_path, monkeypatch):
    async with quick(tmp_path, monkeypatch) as w:
        w.configure(f"advertise-routes = {LAN}")
        await restart(w)
        await until(w.board.is_up)
        w.configure("advertise-routes = 10.9.0.0/16")
        w.board.reload(True)
        assert routes(w) == ["10.9.0.0/16"] and is_on_trial(w)
        await until(lambda: routes(w) == [LAN])
        assert any("not confirmed" in problem for problem in w.board.configuration.problems)
        await restart(w)
        assert routes(w) == [LAN]
        w.board.reload(True)
        assert routes(w) == ["10.9.0.0/16"]
        await w.board.trials.confirm({"from": "here", "here": True}, 0)
        await restart(w)
        assert routes(w) == ["10.9.0.0/16"] and w.board.configuration.problems == []


async def restart(w) -> None:
    await asyncio.sleep(0)
    await w.stop_board()
    await w.start_board()
