"""A board that starts where something is missing comes up as far as it can, says what it waits for, and goes on."""

import asyncio
import json

import pytest

from agent.clocks import NOW_S, Y2099_S, FakeMachine, helping, time_servers
from agent.fakes import Peer, until, world
from wayhomed.agent import control_session
from wayhomed.agent.clock import Settings as ClockSettings
from wayhomed.agent.control_session import Phase
from wayhomed.agent.missing import waiting_for
from wayhomed.agent.state import StateError
from wayhomed.agent.status import full_status, in_one_line
from wayhomed.agent.version import BUILD_S
from wayhomed.core import expiry
from wayhomed.core.times import text_from_seconds
from wayhomed.linux.errors import DataPlaneError

UPLINK = [(2, bytes((192, 168, 1, 1)), [bytes((192, 168, 1, 2))])]
DAY_S = 86_400


def told(seconds: int) -> dict:
    return {"ControlTime": text_from_seconds(seconds)}


# --- No clock ---


@pytest.mark.parametrize("shows_s", [0, Y2099_S])
async def test_a_board_that_knows_no_time_joins_and_learns_it_from_the_coordinator(tmp_path, shows_s):
    machine = FakeMachine(shows_s)
    async with helping(machine, tmp_path / "helper") as helper:
        async with world(tmp_path, clock=ClockSettings([], helper, machine=machine)) as w:
            w.coordinator.first_fields = told(NOW_S)
            shown_at_start = []
            start = w.data_plane.start

            async def started(private_key):
                shown_at_start.append(machine.shows_ms)
                await start(private_key)

            w.data_plane.start = started
            await w.joined("let-me-in")
            assert shown_at_start == [BUILD_S * 1000], "before the tunnel stands, the clock is set to the floor"
            await until(lambda: machine.shows_ms == NOW_S * 1000)
            assert w.board.trusted_now_s() == NOW_S
            await until(lambda: waiting_for(w.board) == "")
            assert (await full_status(w.board))["clock"]["trusted"] is True


async def test_keys_are_not_judged_until_the_time_is_known(tmp_path):
    nas = Peer(2, "nas")
    nas_ends = {"KeyExpiry": text_from_seconds(NOW_S - DAY_S)}
    async with world(tmp_path, clock=ClockSettings([], machine=FakeMachine(0))) as w:
        w.coordinator.peers = [nas]
        own_ends = {"KeyExpiry": text_from_seconds(NOW_S + DAY_S)}
        w.coordinator.first_fields = {"Peers": [nas.as_json(**nas_ends)]}
        await w.joined("let-me-in")
        assert w.board.session.phase == Phase.RUNNING
        assert w.board.trusted_now_s() == 0 and "the time" in waiting_for(w.board)
        assert not w.board.netmap.peers[2].is_expired(w.board.trusted_now_s())
        own = {**w.coordinator.first("nodekey:" + w.node_key.hex())["Node"], **own_ends}
        w.coordinator.tell({"Node": own, **told(NOW_S)})
        await until(lambda: w.board.trusted_now_s() == NOW_S)
        assert w.board.netmap.peers[2].is_expired(w.board.trusted_now_s())
        assert w.board.session.phase == Phase.RUNNING


async def test_the_time_comes_with_keep_alives_too(tmp_path):
    async with world(tmp_path, clock=ClockSettings([], machine=FakeMachine(0))) as w:
        await w.joined("let-me-in")
        w.coordinator.tell({"KeepAlive": True, **told(NOW_S)})
        await until(lambda: w.board.trusted_now_s() == NOW_S)


async def test_a_restart_without_coordinator_and_time_has_the_tunnel_with_the_last_netmap(tmp_path):
    machine = FakeMachine(0)
    async with world(tmp_path, clock=ClockSettings([], machine=machine)) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        w.coordinator.first_fields = told(NOW_S)
        w.data_plane.uplinks = UPLINK
        await w.joined("let-me-in")
        await w.coordinator.stop()
        await w.stop_board()
        w.settings.clock = ClockSettings([], machine=FakeMachine(0, "next boot"))
        await w.start_board()
        await until(lambda: w.board.applied)
        assert list(w.data_plane.plans[-1].peers) == [w.coordinator.peers[0].key]
        assert w.board.clock.now_s() == NOW_S, "the time that was written down has passed for sure"
        await until(lambda: "the coordinator (connecting to" in waiting_for(w.board))
        assert "the time (not known" in waiting_for(w.board)
        assert in_one_line(w.board).startswith("up as ") or waiting_for(w.board) in in_one_line(w.board)
        await w.coordinator.start()
        await until(lambda: waiting_for(w.board) == "")


async def test_time_servers_serve_a_board_whose_coordinator_is_away(tmp_path):
    async with time_servers(NOW_S, NOW_S) as (_servers, names, port):
        settings = ClockSettings(names, machine=FakeMachine(0), port=port)
        async with world(tmp_path, clock=settings) as w:
            await w.coordinator.stop()
            w.data_plane.uplinks = UPLINK
            w.up("let-me-in")
            await until(lambda: w.board.clock.trusted)
            await until(lambda: waiting_for(w.board).startswith("the coordinator"))
            await w.coordinator.start()


# --- No network ---


async def test_a_board_without_uplink_says_so_in_one_line_and_nothing_that_only_follows_from_it(tmp_path):
    async with world(tmp_path) as w:
        await w.coordinator.stop()
        w.up("let-me-in")
        await until(lambda: waiting_for(w.board).startswith("the uplink ("))
        assert "the coordinator" not in waiting_for(w.board)
        await until(lambda: any(line.startswith("waiting for: the uplink") for line in w.log))
        await w.coordinator.start()
        w.data_plane.uplinks = UPLINK
        w.data_plane.news.set()
        await until(w.board.is_up)
        assert "the uplink" not in waiting_for(w.board)


async def test_an_uplink_that_comes_back_ends_all_waiting_at_once(tmp_path, monkeypatch):
    async with world(tmp_path) as w:
        w.data_plane.uplinks = UPLINK
        await w.joined("let-me-in")
        await w.coordinator.stop()
        await w.relay.stop()
        w.data_plane.uplinks = []
        w.data_plane.news.set()
        await until(lambda: w.board.has_uplink is False and not w.board.session.connected)
        # As after an hour: the next try would be half a minute away.
        w.board.session._backoff.failures = 1000
        await until(lambda: w.board.session._backoff.failures > 1000)
        await w.coordinator.start()
        await w.relay.start()
        w.data_plane.uplinks = UPLINK
        w.data_plane.news.set()
        await until(w.board.is_up, 15)


async def test_a_board_whose_relay_is_away_says_so(tmp_path):
    async with world(tmp_path) as w:
        await w.relay.stop()
        w.up("let-me-in")
        await until(lambda: "the relay home (" in waiting_for(w.board))
        await w.relay.start()
        await until(w.board.is_up)
        assert "the relay" not in waiting_for(w.board)


async def test_a_link_that_a_person_has_to_open_is_what_is_waited_for(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: None if request["Followup"] else {"AuthURL": "http://mesh.example/1"}
        w.up()
        await until(lambda: "somebody to open the link" in waiting_for(w.board))


async def test_a_tunnel_that_can_not_be_made_is_named_and_after_down_nothing_is_missing(tmp_path):
    async with world(tmp_path) as w:
        w.data_plane.failure = DataPlaneError("wireguard-go is not installed; install the package wireguard-go")
        w.up("let-me-in")
        await until(lambda: "the tunnel (wireguard-go is not installed" in waiting_for(w.board))
        w.board.change_prefs({"WantRunning": False})
        assert waiting_for(w.board) == ""


# --- No disk ---


async def test_a_full_disk_stops_nothing_and_is_named(tmp_path):
    async with world(tmp_path) as w:

        def full(*_anything):
            raise StateError("state/netmap.json can't be written: the disk is full")

        w.state.save_time = w.state.begin_netmap = full
        await w.joined("let-me-in")
        await until(lambda: "a disk that can be written (" in waiting_for(w.board))
        assert "the disk is full" in waiting_for(w.board)
        await until(lambda: "warn-disk-not-writable" in (w.coordinator.updates[-1].get("DebugFlags") or ()))


# --- The end of the key ---


async def test_the_end_of_the_key_is_warned_of_weeks_ahead_in_log_status_and_to_the_coordinator(tmp_path, monkeypatch):
    monkeypatch.setattr(control_session, "_UPDATES_AT_ONCE", 100)
    machine = FakeMachine(NOW_S)
    async with world(tmp_path, clock=ClockSettings([], machine=machine)) as w:
        await w.joined("let-me-in")
        node = w.coordinator.first("nodekey:" + w.node_key.hex())["Node"]
        ends_s = NOW_S + 40 * DAY_S
        w.coordinator.tell({"Node": {**node, "KeyExpiry": text_from_seconds(ends_s)}, **told(NOW_S)})
        await until(lambda: w.board.netmap.node.key_expiry_s == ends_s)
        assert "expires" not in json.dumps((await full_status(w.board))["problems"])
        for days, shown in ((28, "28 days"), (14, "14 days"), (7, "7 days"), (3, "3 days"), (1, "less than a day")):
            machine.pass_s(ends_s - days * DAY_S - w.board.trusted_now_s())
            w.coordinator.tell(
                {"Node": {**node, "KeyExpiry": text_from_seconds(ends_s), "Name": f"board{days}.tail.example."}}
            )
            warning = f"the node key expires in {shown}; renew it in time, on this machine: wayhomectl up --renew-key"
            await until(lambda text=warning: text in w.log)
            assert warning in (await full_status(w.board))["problems"]
            flag = f"warn-key-expires-within-{days}-days"
            await until(lambda text=flag: text in (w.coordinator.updates[-1].get("DebugFlags") or ()))
        machine.pass_s(DAY_S + 1)
        w.coordinator.tell({"Node": {**node, "KeyExpiry": text_from_seconds(ends_s), "Name": "over.tail.example."}})
        await until(lambda: w.board.session.phase == Phase.NEEDS_LOGIN)
        assert (await full_status(w.board))["problems"].count(expiry.EXPIRED) == 1
        assert w.data_plane.standing, "the tunnels stay; who is reached by them can still renew the key"


async def test_a_key_is_renewed_before_it_ends(tmp_path):
    async with world(tmp_path) as w:
        await w.joined("let-me-in")
        old = w.node_key
        w.board.session.login("", False, True, False)
        assert w.board.session.phase != Phase.RUNNING
        await until(lambda: w.node_key != old and w.board.is_up())
        assert w.coordinator.registered[-1]["OldNodeKey"] == "nodekey:" + old.hex()
        await asyncio.sleep(0)
