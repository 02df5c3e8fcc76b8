"""The daemon's session with its coordinator, good and bad."""

import asyncio
import json
import secrets

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent import control_session
from wayhomed.agent.control_session import Phase
from wayhomed.wire import keys

pytestmark = pytest.mark.both_pythons


async def test_it_joins_by_an_auth_key_and_tells_what_it_is(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        w.up("the-key", AdvertiseRoutes=["192.168.1.0/24"], Hostname="attic")
        await until(w.board.is_up)
        request = w.coordinator.registered[0]
        assert request["Auth"] == {"AuthKey": "the-key"}
        assert 113 <= request["Version"] <= 120
        assert request["NodeKey"] == keys.key_text(keys.NODE, w.node_key)
        assert request["OldNodeKey"] == keys.key_text(keys.NODE, bytes(32))
        assert request["Hostinfo"]["RoutableIPs"] == ["192.168.1.0/24"]
        assert request["Hostinfo"]["Hostname"] == "attic"
        assert "GoVersion" not in request["Hostinfo"]
        assert "Compress" not in w.coordinator.polls[0]
        await until(lambda: w.coordinator.updates[-1]["Hostinfo"].get("NetInfo", {}).get("PreferredDERP") == 900)
        update = w.coordinator.updates[-1]
        assert update["OmitPeers"] is True
        assert update["DiscoKey"] == keys.key_text(keys.DISCO, w.board.disco_public)
        assert "Endpoints" not in w.coordinator.updates[0], "while nothing is known, nothing is said"
        await until(lambda: w.coordinator.updates[-1].get("Endpoints") == ["192.168.1.2:41641"])
        assert w.coordinator.updates[-1]["EndpointTypes"] == [1]
        assert list(w.data_plane.plans[-1].peers) == [w.coordinator.peers[0].key]
        assert w.data_plane.private_key == w.state.node_private


async def test_the_auth_key_is_never_written_or_logged_and_serves_once(tmp_path):
    async with world(tmp_path) as w:
        await w.joined("very-secret-key")
        w.coordinator.drop()
        await until(lambda: len(w.coordinator.registered) == 2)
        assert "Auth" not in w.coordinator.registered[1]
        assert "very-secret-key" not in "".join(w.log)
        assert "very-secret-key" not in (tmp_path / "state" / "state.json").read_text()
        private = keys.key_text(keys.PRIVATE, w.state.node_private)
        assert private not in "".join(w.log)


async def test_a_refused_auth_key_is_told_and_not_tried_again(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: {"Error": "this auth key has been used"}
        w.up("used")
        await until(lambda: w.board.session.phase == Phase.NEEDS_LOGIN)
        assert "this auth key has been used" in w.board.session.error
        await asyncio.sleep(0.1)
        assert len(w.coordinator.registered) == 1
        w.coordinator.register = lambda request: {"MachineAuthorized": True}
        await w.joined("good")


async def test_it_joins_by_a_link_that_a_person_opens(tmp_path):
    async with world(tmp_path) as w:
        let_in = []
        held = []

        def register(request):
            if let_in:
                return {"MachineAuthorized": True}
            if not request["Followup"]:
                return {"AuthURL": "http://mesh.example/register/abc"}
            held.append(request)
            return None

        w.coordinator.register = register
        w.up()
        await until(lambda: held)
        assert w.board.session.auth_url == "http://mesh.example/register/abc"
        assert w.board.session.phase == Phase.NEEDS_LOGIN
        assert held[0]["Followup"] == "http://mesh.example/register/abc"
        let_in.append(True)
        w.coordinator.drop()  # what holds the request may die; the next one finds us let in
        await until(w.board.is_up)
        assert w.board.session.auth_url == ""


async def test_a_link_that_timed_out_is_replaced_by_a_new_one(tmp_path):
    async with world(tmp_path) as w:
        urls = iter(["http://mesh.example/1", "http://mesh.example/2"])
        w.coordinator.register = lambda request: {"AuthURL": next(urls)} if len(w.coordinator.registered) < 3 else None
        w.up()
        await until(lambda: len(w.coordinator.registered) == 3)
        assert w.board.session.auth_url == "http://mesh.example/2"
        assert w.coordinator.registered[2]["Followup"] == "http://mesh.example/2"


async def test_an_expired_key_is_rotated_and_the_old_one_serves_until_then(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        old = w.node_key
        held = []

        def register(request):
            if request["NodeKey"] == keys.key_text(keys.NODE, old):
                return {"NodeKeyExpired": True}
            if not held:
                # the new key is on disk before the coordinator has heard of it
                saved = json.loads((tmp_path / "state" / "state.json").read_text())
                held.append(saved["NextNodeKey"])
                assert w.data_plane.private_key == w.state.node_private
                assert w.node_key == old
            return {"MachineAuthorized": True}

        w.coordinator.register = register
        w.coordinator.drop()
        await until(lambda: w.node_key != old)
        assert w.coordinator.registered[-1]["OldNodeKey"] == keys.key_text(keys.NODE, old)
        assert held[0] == keys.key_text(keys.PRIVATE, w.state.node_private)
        await until(lambda: w.data_plane.private_key == w.state.node_private)
        await until(lambda: w.node_key in w.relay.clients)
        saved = json.loads((tmp_path / "state" / "state.json").read_text())
        assert "NextNodeKey" not in saved


async def test_a_coordinator_that_calls_every_key_expired_is_not_asked_for_ever(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: {"NodeKeyExpired": True}
        w.up("key")
        await until(lambda: w.board.session.phase == Phase.NEEDS_LOGIN)
        assert len(w.coordinator.registered) == 2
        assert "expired" in w.board.session.error


async def test_an_expired_node_is_reported_and_its_tunnels_stay(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        await w.joined()
        own = w.coordinator.first(keys.key_text(keys.NODE, w.node_key))["Node"]
        w.coordinator.tell({"Node": {**own, "Expired": True}})
        await until(lambda: w.board.session.phase == Phase.NEEDS_LOGIN)
        assert "wayhomectl up" in w.board.session.error
        assert w.data_plane.standing
        assert list(w.data_plane.plans[-1].peers) == [w.coordinator.peers[0].key]


async def test_a_machine_that_waits_for_approval_says_so(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        own = w.coordinator.first(keys.key_text(keys.NODE, w.node_key))["Node"]
        w.coordinator.tell({"Node": {**own, "MachineAuthorized": False}})
        await until(lambda: w.board.session.phase == Phase.NEEDS_APPROVAL)
        w.coordinator.tell({"Node": own})
        await until(lambda: w.board.session.phase == Phase.RUNNING)


async def test_changes_reach_the_data_plane_by_difference(tmp_path):
    async with world(tmp_path) as w:
        nas, phone = Peer(2, "nas"), Peer(3, "phone")
        w.coordinator.peers = [nas]
        await w.joined()
        w.coordinator.tell({"PeersChanged": [phone.as_json()]})
        await until(lambda: set(w.data_plane.plans[-1].peers) == {nas.key, phone.key})
        w.coordinator.tell({"PeersRemoved": [2]})
        await until(lambda: set(w.data_plane.plans[-1].peers) == {phone.key})


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"Peers":5}',
        b'{"Node":null,"PeersRemoved":["x"]}',
        b'{"PeersChanged":[{"ID":9,"Key":"nodekey:00"}]}',
        b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        secrets.token_bytes(2000),
    ],
)
async def test_a_broken_netmap_ends_the_poll_and_the_old_netmap_stays(tmp_path, message):
    async with world(tmp_path) as w:
        nas = Peer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        w.coordinator.tell(message)
        await until(lambda: len(w.coordinator.polls) == 2)
        assert list(w.board.netmap.peers) == [2]
        assert w.data_plane.stops == 0
        assert all(list(plan.peers) in ([], [nas.key]) for plan in w.data_plane.plans)
        await until(w.board.is_up)


async def test_a_first_netmap_without_our_node_is_refused_and_told(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.first_fields = {"Node": None}
        w.up("key")
        await until(lambda: "Node" in w.board.session.error)
        assert w.board.netmap.node is None
        w.coordinator.first_fields = {}
        await until(w.board.is_up)


async def test_tunnels_outlive_the_coordinator_and_the_session_comes_back(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        await w.joined()
        await w.coordinator.stop()
        await until(lambda: not w.board.session.connected)
        await until(lambda: "refused" in w.board.session.error)
        assert w.board.is_up()
        assert w.data_plane.standing
        await w.coordinator.start()
        await until(lambda: w.board.session.connected)
        assert w.board.session.error == ""
        assert w.data_plane.stops == 0


async def test_a_restart_without_a_coordinator_comes_up_working(tmp_path):
    async with world(tmp_path) as w:
        nas = Peer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await w.stop_board()
        await w.coordinator.stop()
        plans = len(w.data_plane.plans)
        await w.start_board()
        await until(w.board.is_up)
        assert list(w.data_plane.plans[-1].peers) == [nas.key]
        assert len(w.data_plane.plans) > plans
        await w.coordinator.start()
        await until(lambda: w.board.session.connected)


async def test_a_netmap_of_another_key_is_not_used(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        await w.joined()
        w.state.node_private = keys.new_private(secrets.token_bytes(32))
        w.state.save()
        w.state.save = lambda: None
        await w.stop_board()
        await w.coordinator.stop()
        await w.start_board()
        assert w.board.netmap.node is None
        await w.coordinator.start()


@pytest.mark.parametrize("content", [b"", b'{"Node":', b'{"Node":5}', b'{"KeepAlive":true}'])
async def test_a_kept_netmap_that_does_not_parse_is_logged_and_the_next_one_takes_its_place(tmp_path, content):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        await w.joined()
        await w.stop_board()
        kept = tmp_path / "state" / "netmap.json"
        kept.write_bytes(content)
        await w.start_board()
        await until(w.board.is_up)
        assert [line for line in w.log if "netmap.json is damaged" in line]
        await until(lambda: b"nas" in kept.read_bytes())


async def test_a_coordinator_without_the_key_that_it_names_is_refused(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.named_key = keys.public_of(keys.new_private(secrets.token_bytes(32)))
        w.up("key")
        await until(lambda: "does not hold the key" in w.board.session.error)
        assert w.coordinator.registered == []
        assert w.state.server_key is None


async def test_another_key_over_http_is_not_believed_until_the_owner_says_so(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        first_key = w.state.server_key
        w.coordinator.noise_private = keys.new_private(secrets.token_bytes(32))
        w.coordinator.drop()
        await until(lambda: "--accept-new-key" in w.board.session.error)
        assert w.state.server_key == first_key
        assert w.data_plane.standing
        w.board.session.login("", False, False, True)
        await until(lambda: w.board.session.connected)
        assert w.state.server_key == keys.public_of(w.coordinator.noise_private)


async def test_streams_cut_anywhere_are_survived(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        for limit in (1, 20, 70, 130, 150, 175, 200, 260, 300, 340, 400, 600, 900, 1300):
            w.coordinator.truncate_at = limit
            w.up("key")
            await until(lambda: w.board.session.error)
            assert w.board.session.phase == Phase.CONNECTING
        w.coordinator.truncate_at = None
        w.up("key")
        await until(w.board.is_up)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 5000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"publicKey":"x"}',
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\n\r\n\x02\x00\x30" + bytes(48),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\n\r\n\x03\x00\x04nono",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_whatever_answers_in_the_coordinators_place_is_told_and_tried_again(tmp_path, garbage):
    async with world(tmp_path) as w:
        w.coordinator.garbage = garbage
        w.up("key")
        await until(lambda: w.board.session.error)
        w.coordinator.garbage = b""
        await until(w.board.is_up)


async def test_https_to_a_server_without_tls_is_told_in_words(tmp_path):
    async def refuse(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with world(tmp_path) as w, await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        w.up("key", LoginServer=f"https://127.0.0.1:{port}")
        await until(lambda: w.board.session.error)
        assert w.board.session.error == "127.0.0.1 does not speak TLS there; is it http:// or another port?"


@pytest.mark.parametrize("answer", [500, 401, b"", b"{", b"[]", b'{"AuthURL":5}', b"x" * 2_000_000])
async def test_a_broken_answer_to_registering_is_told_and_tried_again(tmp_path, answer):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: answer
        if isinstance(answer, bytes) and len(answer) > 60_000:
            w.coordinator.register = lambda request: b'"' + b"x" * 60_000
        w.up("key")
        await until(lambda: w.board.session.error)
        w.coordinator.register = lambda request: {"MachineAuthorized": True}
        await until(w.board.is_up)


async def test_a_poll_without_a_message_for_too_long_is_made_again(tmp_path, monkeypatch):
    async with world(tmp_path) as w:
        await w.joined()
        monkeypatch.setattr(w.place.module(control_session), "WATCHDOG_MS", 1)
        w.coordinator.tell({"KeepAlive": True})
        await until(lambda: len(w.coordinator.polls) >= 2)
        monkeypatch.undo()
        await until(lambda: w.board.session.connected)


async def test_a_ping_request_is_answered_over_noise_and_only_once(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        ping = {"URL": "https://unused/machine/ping/1", "URLIsNoise": True, "Log": True}
        w.coordinator.tell({"KeepAlive": True, "PingRequest": ping})
        await until(lambda: ("HEAD", "/machine/ping/1", {}) in w.coordinator.requests)
        w.coordinator.tell({"PingRequest": ping})
        w.coordinator.tell({"PingRequest": {**ping, "URL": "https://unused/machine/ping/2"}})
        await until(lambda: ("HEAD", "/machine/ping/2", {}) in w.coordinator.requests)
        assert w.coordinator.requests.count(("HEAD", "/machine/ping/1", {})) == 1


async def test_a_ping_of_another_server_is_left_alone(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        for url in ("http://192.168.1.1/reboot", "https://192.168.1.1/reboot", "nonsense", "https://a/\r\nx"):
            w.coordinator.tell({"PingRequest": {"URL": url, "URLIsNoise": False}})
        w.coordinator.tell({"PingRequest": {"URL": "https://unused/machine/ping/9", "URLIsNoise": True}})
        await until(lambda: ("HEAD", "/machine/ping/9", {}) in w.coordinator.requests)
        assert not [path for _method, path, _fields in w.coordinator.requests if "reboot" in path]


async def test_a_ping_of_a_stranger_is_answered_with_an_error(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        ping = {"URL": "https://x/machine/ping/3", "URLIsNoise": True, "Types": "disco", "IP": "100.64.0.99"}
        w.coordinator.tell({"PingRequest": ping})
        await until(lambda: [r for r in w.coordinator.requests if r[1] == "/machine/ping/3"])
        method, _path, response = next(r for r in w.coordinator.requests if r[1] == "/machine/ping/3")
        assert method == "POST"
        assert response["IP"] == "100.64.0.99"
        assert response["Err"]


async def test_a_coordinator_can_not_switch_the_board_off(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        w.coordinator.tell({"Debug": {"Exit": 1}})
        await until(lambda: any("does not" in text for text in w.log))
        assert w.data_plane.standing
        assert w.board.session.connected


async def test_a_change_of_settings_is_told_without_a_new_connection(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        w.board.change_prefs({"AdvertiseRoutes": ["10.9.0.0/16"]})
        await until(lambda: w.coordinator.updates[-1]["Hostinfo"]["RoutableIPs"] == ["10.9.0.0/16"])
        w.board.change_prefs({"AdvertiseRoutes": []})
        await until(lambda: w.coordinator.updates[-1]["Hostinfo"]["RoutableIPs"] == [])
        assert len(w.coordinator.polls) == 1


async def test_another_coordinator_gets_another_node_key_and_no_old_netmap(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "nas")]
        await w.joined()
        old = w.node_key
        w.board.change_prefs({"LoginServer": "http://127.0.0.1:1"})
        assert w.node_key != old
        assert w.board.netmap.node is None
        assert w.state.server_key is None
        assert not (tmp_path / "state" / "netmap.json").exists()
        await until(lambda: w.data_plane.private_key == w.state.node_private)
        await until(lambda: not w.data_plane.plans[-1].peers)


async def test_down_leaves_the_machine_as_it_was_and_up_comes_back(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        w.board.change_prefs({"WantRunning": False})
        await until(lambda: not w.board.standing and w.data_plane.stops == 1)
        await until(lambda: w.board.session.phase == Phase.STOPPED)
        assert w.relay.clients == {} or not w.board.links.relays.is_up(900)
        await w.joined()


async def test_a_stop_takes_everything_down(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        await w.stop_board()
        assert w.data_plane.stops == 1
        await w.start_board()


async def test_a_node_that_was_deleted_and_joined_anew_begins_its_sessions_anew(tmp_path):
    async with world(tmp_path) as w:
        nas = Peer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await until(lambda: w.data_plane.plans[-1].peers)
        own = w.coordinator.first(keys.key_text(keys.NODE, w.node_key))["Node"]
        before = len(w.data_plane.plans)
        w.coordinator.tell({"Node": {**own, "ID": 7}})
        await until(lambda: len(w.data_plane.plans) >= before + 2)
        assert [bool(plan.peers) for plan in w.data_plane.plans[before : before + 2]] == [False, True]


async def test_a_daemon_that_was_killed_in_the_middle_of_a_down_finishes_it_at_its_next_start(tmp_path):
    async with world(tmp_path) as w:
        await until(lambda: w.data_plane.clean_ups == 1)
        await w.joined()
        await w.stop_board()
        await w.start_board()
        await until(lambda: w.data_plane.standing)
        assert w.data_plane.clean_ups == 1  # start() does it where the tunnel is wanted
