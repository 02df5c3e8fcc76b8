"""The daemon's direct paths: what goes out of the shared port, what WireGuard is told, what the coordinator hears."""

import asyncio
import secrets
from contextlib import asynccontextmanager

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent import daemon, paths
from wayhomed.core.path import PathState, Reason
from wayhomed.linux.errors import DataPlaneError
from wayhomed.wire import disco, keys, stun
from wayhomed.wire.address import endpoint_text

pytestmark = pytest.mark.both_pythons
INITIATION = b"\x01\0\0\0" + bytes(144)
DATA = b"\x04\0\0\0" + bytes(92)
NAS_AT = (bytes((203, 0, 113, 9)), 41641)
ELSEWHERE = (bytes((203, 0, 113, 77)), 5000)
STUN_AT = (bytes((127, 0, 0, 1)), 3479)


class Clock:
    """The daemon's clock, which a test can put forward, and stop; what waits for it must be woken."""

    def __init__(self, real):
        self._real = real
        self._ahead_ms = 0
        self._stopped_ms = None

    def __call__(self):
        return (self._real() if self._stopped_ms is None else self._stopped_ms) + self._ahead_ms

    def stop(self):
        self._stopped_ms = self._real()

    def go_on(self):
        self._stopped_ms = None

    def advance(self, w, milliseconds: int):
        self._ahead_ms += milliseconds
        w.data_plane.shared_port.arrive(ELSEWHERE, disco.MAGIC + bytes(80))


@pytest.fixture
def clock(monkeypatch, place):
    made = Clock(place.module(paths).monotonic_ms)
    monkeypatch.setattr(place.module(paths), "monotonic_ms", made)
    return made


@pytest.fixture(autouse=True)
def at_once(monkeypatch, place):
    monkeypatch.setattr(place.module(daemon), "_SETTLE_MS", 5)
    monkeypatch.setattr(place.module(paths), "_BROKEN_MS", 5)
    monkeypatch.setattr(place.module(paths), "POLL_MS", 20)


class DirectPeer(Peer):
    """A peer with an address of its own. While `answers` is set, each ping that reaches it gets its pong."""

    def __init__(self, node_id: int, name: str, endpoint: tuple = NAS_AT):
        super().__init__(node_id, name)
        self.endpoint = endpoint
        self.answers = True

    def as_json(self, **fields) -> dict:
        return super().as_json(**{"Endpoints": [endpoint_text(self.endpoint)], **fields})

    def received(self, w) -> list:
        """Return the disco messages that the board has sent to this peer's address."""
        return [
            self.open(datagram) for endpoint, datagram in w.data_plane.shared_port.sent if endpoint == self.endpoint
        ]

    async def answer(self, w) -> None:
        """Answer the board's pings for ever."""
        seen = 0
        while True:
            sent = w.data_plane.shared_port.sent
            for endpoint, datagram in sent[seen:]:
                if endpoint == self.endpoint and disco.looks_like_disco(datagram) and self.answers:
                    message = self.open(datagram)
                    if isinstance(message, disco.Ping):
                        self.send(w, disco.encode_pong(message.txid, bytes((198, 51, 100, 1)), 41641))
            seen = len(sent)
            await asyncio.sleep(0.002)

    def send(self, w, plaintext: bytes, source: tuple | None = None) -> None:
        datagram = self.seal(w.board.disco_public, plaintext)
        w.data_plane.shared_port.arrive(source or self.endpoint, datagram)

    def packet(self, w, packet: bytes = DATA) -> None:
        """Have WireGuard send the peer something by the relay."""
        w.data_plane.outgoing.put_nowait((self.key, packet))

    def view(self, w):
        return w.board.paths.view(self.key)

    def is_direct(self, w) -> bool:
        view = self.view(w)
        return view is not None and view.state == PathState.DIRECT


@asynccontextmanager
async def joined(directory, *peers):
    """Give a world whose board has joined, with the peers answering pings."""
    async with world(directory) as w:
        w.coordinator.peers = list(peers)
        await w.joined()
        answering = [asyncio.create_task(peer.answer(w)) for peer in peers]
        try:
            yield w
        finally:
            for task in answering:
                task.cancel()


async def go_direct(w, peer) -> None:
    peer.packet(w)
    await until(lambda: peer.is_direct(w) and (peer.key, peer.endpoint, False) in w.data_plane.paths_set)


async def test_the_first_packet_goes_by_the_relay_and_begins_the_way_to_a_direct_path(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        assert nas.received(w) == []
        nas.packet(w, INITIATION)
        await until(lambda: nas.is_direct(w))
        await until(lambda: w.data_plane.paths_set == [(nas.key, NAS_AT, False)])
        assert nas.received(w)[0].node_key == w.node_key
        assert (w.node_key, nas.key, INITIATION) in w.relay.packets
        view = nas.view(w)
        assert view.best == NAS_AT
        assert view.reason == Reason.DIRECT


async def test_the_peer_is_called_by_the_relay_with_our_own_addresses(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        nas.packet(w)
        await until(lambda: [p for _from, to, p in w.relay.packets if to == nas.key and disco.looks_like_disco(p)])
        call = next(nas.open(p) for _from, to, p in w.relay.packets if to == nas.key and disco.looks_like_disco(p))
        assert call == disco.CallMeMaybe([(bytes((192, 168, 1, 2)), 41641)])


async def test_a_keepalive_alone_wakes_nothing(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        keepalive = b"\x04\0\0\0" + bytes(28)
        nas.packet(w, keepalive)
        await until(lambda: (w.node_key, nas.key, keepalive) in w.relay.packets)
        assert nas.received(w) == []
        assert w.board.paths.next_timer_ms(w.place.module(paths).monotonic_ms()) is None
        assert w.data_plane.polls == 0


async def test_an_idle_daemon_sets_no_timer_and_asks_wireguard_nothing(tmp_path, clock):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        assert w.board.paths.next_timer_ms(clock()) is None
        await go_direct(w, nas)
        assert w.board.paths.next_timer_ms(clock()) is not None
        await until(lambda: w.data_plane.polls)
        clock.advance(w, 60_000)
        await until(lambda: (nas.key, None, False) in w.data_plane.paths_set)
        await until(lambda: w.board.paths.next_timer_ms(clock()) is None)
        polls = w.data_plane.polls
        await asyncio.sleep(0.1)
        assert w.data_plane.polls == polls


async def test_when_pongs_stop_the_peer_is_relayed_again_and_its_packets_are_held_back(tmp_path, clock):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        assert w.data_plane.held == {}
        nas.answers = False
        clock.advance(w, 7_000)
        await until(lambda: w.data_plane.paths_set[-1] == (nas.key, None, False))
        assert w.data_plane.held == {NAS_AT: nas.key}
        assert nas.view(w).reason == Reason.LOST
        nas.answers = True
        clock.advance(w, 6_000)
        await until(lambda: w.data_plane.paths_set[-1] == (nas.key, NAS_AT, False))
        await until(lambda: w.data_plane.held == {})


async def test_a_peers_ping_is_answered_where_it_came_from(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        nas.send(w, disco.encode_ping(b"t" * 12, nas.key), ELSEWHERE)
        sent = w.data_plane.shared_port.sent
        await until(lambda: [endpoint for endpoint, _ in sent if endpoint == ELSEWHERE])
        pong = nas.open(next(datagram for endpoint, datagram in sent if endpoint == ELSEWHERE))
        assert pong == disco.Pong(b"t" * 12, *ELSEWHERE)


async def test_garbage_at_the_port_changes_nothing(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        for size in (0, 1, 20, 61, 62, 124, 1500):
            w.data_plane.shared_port.arrive(NAS_AT, (disco.MAGIC + secrets.token_bytes(1500))[:size])
            w.data_plane.shared_port.arrive(NAS_AT, secrets.token_bytes(size))
            w.data_plane.shared_port.arrive(NAS_AT, (b"\x01\x01\0\x08" + stun.MAGIC + bytes(2000))[:size])
        await go_direct(w, nas)
        assert sum(w.board.paths.refused().values()) >= 3


@pytest.mark.parametrize("number", [1, 11, 22, 90, 97, 99, 101, 105, 113])
async def test_no_failure_to_send_ends_the_daemon(tmp_path, clock, number):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        port = w.data_plane.shared_port
        tried = []
        port.failures[NAS_AT] = OSError(number, "cannot")
        send = port.send
        port.send = lambda endpoint, datagram: (tried.append(endpoint), send(endpoint, datagram))
        nas.packet(w)
        await until(lambda: NAS_AT in tried)
        assert not nas.is_direct(w)
        port.failures = {}
        clock.advance(w, 6_000)
        await go_direct(w, nas)
        assert w.data_plane.stops == 0


async def test_a_direct_path_to_which_nothing_can_be_sent_is_left_at_once(tmp_path, clock):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        w.data_plane.shared_port.failures[NAS_AT] = OSError(101, "network is unreachable")
        clock.advance(w, 3_000)  # the next heartbeat, and long before the trust in the last pong ends
        await until(lambda: w.data_plane.paths_set[-1] == (nas.key, None, False))


async def test_a_port_that_can_not_be_read_is_read_again(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        for _ in range(3):
            w.data_plane.shared_port.arrive(NAS_AT, OSError(100, "the network is down"))
        await go_direct(w, nas)
        assert len([line for line in w.log if "can't be read" in line]) == 1


async def test_after_down_and_up_all_peers_are_relayed_and_we_have_another_disco_key(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        before = w.board.disco_public
        w.board.change_prefs({"WantRunning": False})
        await until(lambda: not w.data_plane.standing)
        w.data_plane.paths_set.clear()
        w.data_plane.shared_port.sent.clear()
        assert nas.view(w) is None
        with pytest.raises(OSError, match="does not stand"):
            await w.board.paths.ping(w.board.netmap.peers[2], 50)
        w.up()
        await until(w.board.is_up)
        assert w.board.disco_public != before
        assert nas.view(w).state == PathState.RELAYED
        assert w.data_plane.paths_set == []
        await go_direct(w, nas)


async def test_a_data_plane_that_breaks_is_made_anew_and_goes_direct_again(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        working = w.data_plane.set_paths

        async def broken(changes):
            w.data_plane.set_paths = working
            raise DataPlaneError("wireguard-go does not answer")

        w.data_plane.set_paths = broken
        nas.packet(w)
        await until(lambda: w.data_plane.stops == 1)
        await until(w.board.is_up)
        await go_direct(w, nas)


async def test_who_became_another_node_begins_by_the_relay_for_wireguard_has_forgotten_the_peers(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        nas.answers = False
        own = {**Peer(99, "board").as_json(), "Key": keys.key_text(keys.NODE, w.node_key)}
        w.coordinator.tell({"Node": own})
        await until(lambda: any(not plan.peers for plan in w.data_plane.plans[1:]))
        await until(lambda: nas.view(w).state == PathState.RELAYED)
        w.data_plane.paths_set.clear()
        nas.answers = True
        await go_direct(w, nas)


async def test_news_of_others_leaves_a_direct_path_alone(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        for number in range(3, 8):
            w.coordinator.tell({"PeersChanged": [DirectPeer(number, f"phone{number}", ELSEWHERE).as_json()]})
            w.coordinator.tell({"PeersChanged": [nas.as_json(Online=number % 2 == 0)]})
        w.coordinator.tell({"PeersRemoved": [3]})
        applied = len(w.data_plane.plans)
        await until(lambda: 3 not in w.board.netmap.peers and 7 in w.board.netmap.peers)
        await until(lambda: len(w.data_plane.plans) > applied and w.board.applied)
        assert nas.is_direct(w)
        assert w.data_plane.paths_set == [(nas.key, NAS_AT, False)]


async def test_a_peer_that_is_removed_is_forgotten(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        w.coordinator.tell({"PeersRemoved": [2]})
        await until(lambda: nas.view(w) is None)
        w.data_plane.shared_port.sent.clear()
        nas.send(w, disco.encode_ping(b"t" * 12, nas.key))
        w.board.packet_received(nas.key, nas.seal(w.board.disco_public, disco.encode_call_me_maybe([])), 900)
        phone = DirectPeer(3, "phone", ELSEWHERE)
        w.coordinator.tell({"PeersChanged": [phone.as_json()]})
        await until(lambda: phone.view(w) is not None)
        assert nas.received(w) == []


async def test_a_peer_that_restarted_gets_a_new_wireguard_session(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        nas.disco_private = keys.new_private(secrets.token_bytes(32))
        nas.disco_key = keys.public_of(nas.disco_private)
        w.data_plane.shared_port.sent.clear()
        w.coordinator.tell({"PeersChangedPatch": [{"NodeID": 2, "DiscoKey": keys.key_text(keys.DISCO, nas.disco_key)}]})
        await until(lambda: (nas.key, None, True) in w.data_plane.paths_set)
        await go_direct(w, nas)


async def test_traffic_that_wireguard_counts_keeps_a_direct_path_in_use(tmp_path, clock):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        for step in range(1, 30):
            w.data_plane.counters = {nas.key: (step * 5000, step * 100, NAS_AT, 1)}
            polls = w.data_plane.polls
            clock.advance(w, 2_900)
            await until(lambda: w.data_plane.polls > polls + 1)  # noqa: B023
        assert nas.is_direct(w)
        assert w.data_plane.paths_set == [(nas.key, NAS_AT, False)]


async def test_wireguard_is_set_back_when_it_roams_to_an_address_that_is_not_proven(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        w.data_plane.counters = {nas.key: (0, 0, ELSEWHERE, 1)}
        await until(lambda: len(w.data_plane.paths_set) > 1)
        w.data_plane.counters = {nas.key: (0, 0, NAS_AT, 1)}
        assert w.data_plane.paths_set[1] == (nas.key, NAS_AT, False)
        await until(lambda: [1 for endpoint, _ in w.data_plane.shared_port.sent if endpoint == ELSEWHERE])


async def test_a_user_ping_says_by_which_way_the_answer_came(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        result = await w.board.pings.ping_path("nas", 5_000)
        assert (result["path"], result["endpoint"], result["region"]) == ("direct", "203.0.113.9:41641", 0)
        assert 0 < result["latency_ms"] < 5_000
        assert result["name"] == "nas"
        nas.answers = False
        with pytest.raises(OSError, match="did not answer"):
            await w.board.paths.ping(w.board.netmap.peers[2], 20)


async def test_the_coordinator_is_told_the_endpoint_of_a_direct_peer(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        await go_direct(w, nas)
        ping = {"URL": "https://x/machine/ping/1", "URLIsNoise": True, "Types": "disco", "IP": "100.64.0.2"}
        w.coordinator.tell({"PingRequest": ping})
        await until(lambda: [r for r in w.coordinator.requests if r[1] == "/machine/ping/1"])
        response = next(r for r in w.coordinator.requests if r[1] == "/machine/ping/1")[2]
        assert response["Endpoint"] == "203.0.113.9:41641"
        assert "DERPRegionID" not in response
        assert response["LatencySeconds"] > 0


# --- How the network sees us ---


async def answer_stun(w, seen_at: list) -> None:
    """Be the STUN server: tell the last of `seen_at` to each request."""
    answered = 0
    while True:
        sent = w.data_plane.shared_port.sent
        for endpoint, datagram in sent[answered:]:
            if endpoint == STUN_AT and seen_at:
                txid = stun.decode_binding_request(datagram)
                response = stun.encode_binding_response(txid, *seen_at[-1])
                w.data_plane.shared_port.arrive(STUN_AT, response)
        answered = len(sent)
        await asyncio.sleep(0.002)


@asynccontextmanager
async def behind_a_nat(directory, *peers, host="127.0.0.1", ipv4="127.0.0.1"):
    """Give a world whose relay answers STUN, with .seen_at: the endpoints that it sees, the last one now."""
    async with world(directory) as w:
        w.seen_at = [(bytes((203, 0, 113, 20)), 20_000)]
        w.coordinator.relay_fields = {"STUNPort": STUN_AT[1], "HostName": host, "IPv4": ipv4}
        w.coordinator.peers = list(peers)
        tasks = [asyncio.create_task(answer_stun(w, w.seen_at))]
        tasks += [asyncio.create_task(peer.answer(w)) for peer in peers]
        try:
            await w.joined()
            await until(lambda: w.board.paths.netcheck is not None)
            yield w
        finally:
            for task in tasks:
                task.cancel()


def stun_requests(w) -> int:
    return len([1 for endpoint, _datagram in w.data_plane.shared_port.sent if endpoint == STUN_AT])


async def test_the_coordinator_is_told_how_the_outside_sees_us(tmp_path):
    async with behind_a_nat(tmp_path) as w:
        await until(lambda: w.coordinator.updates[-1].get("EndpointTypes") == [2, 1])
        update = w.coordinator.updates[-1]
        assert update["Endpoints"] == ["203.0.113.20:20000", "192.168.1.2:41641"]
        assert update["OmitPeers"] is True
        net_info = update["Hostinfo"]["NetInfo"]
        assert net_info["WorkingUDP"] is True
        assert net_info["PreferredDERP"] == 900


async def test_a_poll_says_what_is_known(tmp_path):
    async with behind_a_nat(tmp_path) as w:
        polls = len(w.coordinator.polls)
        w.coordinator.drop()
        await until(lambda: len(w.coordinator.polls) > polls)
        assert w.coordinator.polls[-1]["Endpoints"] == ["203.0.113.20:20000", "192.168.1.2:41641"]


async def test_a_stun_server_that_the_map_names_without_an_address_is_looked_up(tmp_path):
    async with behind_a_nat(tmp_path, host="localhost", ipv4="") as w:
        assert stun_requests(w)
        assert w.board.paths.netcheck.udp4


async def test_a_measurement_that_finds_nothing_new_is_told_to_nobody(tmp_path):
    async with behind_a_nat(tmp_path) as w:
        await until(lambda: w.coordinator.updates[-1].get("EndpointTypes") == [2, 1])
        updates, asked = len(w.coordinator.updates), stun_requests(w)
        for _ in range(3):
            assert (await w.board.paths.run_netcheck(5_000)).udp4
        assert stun_requests(w) == asked + 3
        w.seen_at.append((bytes((203, 0, 113, 20)), 30_000))
        await w.board.paths.run_netcheck(5_000)
        await until(lambda: len(w.coordinator.updates) > updates)
        assert len(w.coordinator.updates) == updates + 1
        assert w.coordinator.updates[-1]["Endpoints"][0] == "203.0.113.20:30000"


async def test_a_nat_that_moves_us_all_the_time_is_told_a_few_times_at_most(tmp_path):
    async with behind_a_nat(tmp_path) as w:
        for port in range(20_001, 20_030):
            w.seen_at.append((bytes((203, 0, 113, 20)), port))
            await w.board.paths.run_netcheck(5_000)
        assert len(w.coordinator.updates) < 10


async def test_we_are_measured_again_while_there_is_traffic_and_not_without(tmp_path, clock):
    nas = DirectPeer(2, "nas")
    async with behind_a_nat(tmp_path, nas) as w:
        asked = stun_requests(w)
        clock.advance(w, 60_000)
        await asyncio.sleep(0.05)
        assert stun_requests(w) == asked
        await go_direct(w, nas)  # before the CallMeMaybe: what we knew is too old for it
        await until(lambda: stun_requests(w) == asked + 1)
        clock.advance(w, 26_001)
        await until(lambda: stun_requests(w) == asked + 2)
        clock.advance(w, 60_000)
        await until(lambda: w.board.paths.next_timer_ms(clock()) is None)
        assert stun_requests(w) == asked + 2


async def test_we_are_measured_again_when_the_relays_link_broke(tmp_path):
    # a router that got another address breaks the link, and we look different from outside
    async with behind_a_nat(tmp_path) as w:
        asked = stun_requests(w)
        w.seen_at.append((bytes((203, 0, 113, 99)), 20_001))
        await w.relay.stop()
        await until(lambda: not w.board.is_up())
        assert stun_requests(w) == asked
        await w.relay.start()
        await until(lambda: "203.0.113.99:20001" in w.coordinator.updates[-1]["Endpoints"])


async def test_a_measurement_can_not_be_made_while_the_tunnel_is_down(tmp_path):
    async with behind_a_nat(tmp_path) as w:
        w.board.change_prefs({"WantRunning": False})
        await until(lambda: not w.data_plane.standing)
        with pytest.raises(OSError, match="does not stand"):
            await w.board.paths.run_netcheck(1_000)


# --- The uplink ---


async def test_another_uplink_renews_all_that_went_by_the_old_one(tmp_path, clock):
    nas = DirectPeer(2, "nas")
    async with behind_a_nat(tmp_path, nas) as w:
        await go_direct(w, nas)
        asked, polls, links = stun_requests(w), len(w.coordinator.polls), len(w.relay.preferred)
        nas.answers = False
        clock.stop()  # no trust runs out by itself
        w.data_plane.uplinks = [(3, bytes((192, 168, 7, 1)), [bytes((192, 168, 7, 2))])]
        w.data_plane.own = [bytes((192, 168, 7, 2))]
        w.seen_at.append((bytes((198, 51, 100, 3)), 41641))
        w.data_plane.news.set()
        await until(lambda: w.data_plane.uplink_changes == 1)
        await until(lambda: w.data_plane.paths_set[-1] == (nas.key, None, False))
        clock.go_on()
        await until(lambda: stun_requests(w) > asked)
        await until(lambda: len(w.coordinator.polls) > polls)
        await until(lambda: len(w.relay.preferred) > links)
        told = lambda: w.coordinator.updates[-1].get("Endpoints", [])  # noqa: E731
        await until(lambda: "198.51.100.3:41641" in told() and "192.168.7.2:41641" in told())
        assert "192.168.1.2:41641" not in told()
        nas.answers = True
        await go_direct(w, nas)


async def test_news_of_the_kernel_that_move_no_uplink_renew_nothing(tmp_path):
    nas = DirectPeer(2, "nas")
    async with behind_a_nat(tmp_path, nas) as w:
        await go_direct(w, nas)
        polls, links, asked = len(w.coordinator.polls), len(w.relay.preferred), stun_requests(w)
        for _ in range(3):
            applied = len(w.data_plane.plans)
            w.data_plane.news.set()
            await until(lambda: len(w.data_plane.plans) > applied)  # noqa: B023
        assert w.data_plane.uplink_changes == 0
        assert (len(w.coordinator.polls), len(w.relay.preferred), stun_requests(w)) == (polls, links, asked)
        assert nas.is_direct(w)


async def test_another_address_on_the_lan_is_told_without_losing_a_path(tmp_path):
    nas = DirectPeer(2, "nas")
    async with behind_a_nat(tmp_path, nas) as w:
        await go_direct(w, nas)
        w.data_plane.own.append(bytes((10, 0, 0, 1)))
        w.data_plane.news.set()
        await until(lambda: "10.0.0.1:41641" in w.coordinator.updates[-1].get("Endpoints", []))
        assert nas.is_direct(w)
        assert w.data_plane.paths_set == [(nas.key, NAS_AT, False)]


async def test_the_newest_unanswered_initiation_leaves_first_when_a_link_comes_back(tmp_path):
    nas = DirectPeer(2, "nas")
    nas.answers = False
    async with joined(tmp_path, nas) as w:
        await w.relay.stop()
        await until(lambda: not w.board.is_up())
        newest = b"\x01\0\0\0" + b"2" * 144
        for packet in (INITIATION, DATA, newest, DATA):
            nas.packet(w, packet)
        await until(w.data_plane.outgoing.empty)
        relay = w.relay
        relay.packets.clear()
        await relay.start()
        await until(lambda: len([p for _from, _to, p in relay.packets if p == DATA]) == 2)
        carried = [p for _from, _to, p in relay.packets if not disco.looks_like_disco(p)]
        assert carried[0] == newest
        assert carried.count(newest) == 1


async def test_an_initiation_that_was_answered_is_not_sent_again(tmp_path):
    nas = DirectPeer(2, "nas")
    nas.answers = False
    async with joined(tmp_path, nas) as w:
        nas.packet(w, INITIATION)
        await until(lambda: (w.node_key, nas.key, INITIATION) in w.relay.packets)
        w.relay.deliver(w.node_key, nas.key, b"\x02\0\0\0" + bytes(88))
        await until(lambda: w.data_plane.injected)
        w.relay.packets.clear()
        links = len(w.relay.preferred)
        w.board.links.uplink_changed()
        await until(lambda: len(w.relay.preferred) > links)
        nas.packet(w, DATA)
        await until(lambda: (w.node_key, nas.key, DATA) in w.relay.packets)
        assert (w.node_key, nas.key, INITIATION) not in w.relay.packets


async def test_an_initiation_that_went_into_a_dying_link_is_sent_again_by_the_next(tmp_path):
    nas = DirectPeer(2, "nas")
    nas.answers = False
    async with joined(tmp_path, nas) as w:
        nas.packet(w, INITIATION)
        await until(lambda: (w.node_key, nas.key, INITIATION) in w.relay.packets)
        w.relay.packets.clear()
        w.board.links.uplink_changed()
        await until(lambda: (w.node_key, nas.key, INITIATION) in w.relay.packets)


async def test_a_tunnel_that_stood_goes_on_with_the_same_disco_key_and_its_direct_paths(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        w.data_plane.outlives = True
        w.board.change_prefs({"WantRunning": False})
        await until(lambda: not w.data_plane.standing)
        w.up()
        await until(w.board.is_up)
        await go_direct(w, nas)
        before = w.board.disco_public
        stops = w.data_plane.stops
        w.board.replace()
        await w._task
        w.state.close()
        assert w.data_plane.stops == stops

        w.data_plane.adopted = True
        w.data_plane.direct = {nas.key: NAS_AT}
        w.data_plane.paths_set.clear()
        await w.start_board()
        await until(w.board.is_up)
        assert w.board.disco_public == before
        assert nas.is_direct(w)
        await until(lambda: w.data_plane.paths_set == [(nas.key, NAS_AT, False)])


async def test_a_tunnel_that_stood_no_more_comes_with_another_disco_key(tmp_path):
    nas = DirectPeer(2, "nas")
    async with joined(tmp_path, nas) as w:
        w.data_plane.outlives = True
        w.board.change_prefs({"WantRunning": False})
        await until(lambda: not w.data_plane.standing)
        w.up()
        await until(w.board.is_up)
        before = w.board.disco_public
        w.board.replace()
        await w._task
        w.state.close()
        assert w.state.load_disco() is not None
        await w.start_board()  # it finds nothing: the machine was switched off, or somebody deleted the interface
        await until(w.board.is_up)
        assert w.board.disco_public != before
        kept = w.state.load_disco()
        assert keys.public_of(kept) == w.board.disco_public
        w.board.change_prefs({"WantRunning": False})
        await until(lambda: not w.data_plane.standing)
        await until(lambda: w.state.load_disco() is None)
