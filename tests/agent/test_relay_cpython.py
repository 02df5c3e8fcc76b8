"""The daemon's links to relays and the packets that go by them."""

import asyncio
import secrets

import pytest

from agent.fakes import FakeRelay, Peer, until, world
from wayhome.relay.certificate import load_or_make
from wayhomed.agent import relay_links
from wayhomed.wire import derp, disco, keys
from wayhomed.wire.errors import BadWire

pytestmark = pytest.mark.both_pythons
HANDSHAKE = b"\x01\0\0\0" + bytes(144)


class RelayedPeer(Peer):
    """A peer that sits at the fake relay."""

    async def come(self, relay):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", relay.port)
        self.writer.write(derp.encode_upgrade_request("127.0.0.1"))
        await self.reader.readuntil(b"\r\n\r\n")
        self.decoder = derp.DerpDecoder()
        self.frames = []
        kind, payload = await self.frame()
        assert kind == derp.SERVER_KEY
        server = derp.decode_server_key(payload)
        self.writer.write(derp.encode_client_info(self.private, server, secrets.token_bytes(24)))
        assert (await self.frame())[0] == derp.SERVER_INFO

    async def frame(self):
        while not self.frames:
            self.frames = self.decoder.feed(await self.reader.read(65536))
        return self.frames.pop(0)

    def send(self, to, packet):
        self.writer.write(derp.encode_send_packet(to, packet))

    async def packet(self):
        while True:
            kind, payload = await self.frame()
            if kind == derp.RECV_PACKET:
                return derp.decode_packet(payload)


async def test_home_is_the_only_region_and_the_relay_is_told_so(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        assert w.relay.preferred == [(w.node_key, True)]


async def test_packets_go_both_ways(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await nas.come(w.relay)
        w.data_plane.outgoing.put_nowait((nas.key, HANDSHAKE))
        assert await nas.packet() == (w.node_key, HANDSHAKE)
        nas.send(w.node_key, b"\x02\0\0\0answer")
        await until(lambda: w.data_plane.injected == [(nas.key, b"\x02\0\0\0answer")])
        nas.writer.close()


async def test_packets_of_strangers_and_of_expired_peers_go_nowhere(tmp_path):
    async with world(tmp_path) as w:
        stranger, expired = RelayedPeer(2, "stranger"), RelayedPeer(3, "expired")
        w.coordinator.first_fields = {"Peers": [expired.as_json(Expired=True)]}
        await w.joined()
        for one in (stranger, expired):
            await one.come(w.relay)
            one.send(w.node_key, HANDSHAKE)
        await until(lambda: w.board.refused_packets == 2)
        assert w.data_plane.injected == []
        for one in (stranger, expired):
            one.writer.close()


async def test_a_disco_ping_by_the_relay_is_answered(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await nas.come(w.relay)
        nas.send(w.node_key, nas.seal(w.board.disco_public, disco.encode_ping(b"t" * 12, nas.key)))
        source, datagram = await nas.packet()
        assert source == w.node_key
        assert nas.open(datagram) == disco.Pong(b"t" * 12, b"\x7f\x03\x03\x28", 900)
        assert w.data_plane.injected == []
        nas.writer.close()


async def test_disco_of_others_and_garbage_that_looks_like_it_are_survived(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await nas.come(w.relay)
        other = Peer(9, "other")
        nas.send(w.node_key, disco.MAGIC + secrets.token_bytes(100))
        nas.send(w.node_key, other.seal(w.board.disco_public, disco.encode_ping(b"t" * 12, other.key)))
        nas.send(w.node_key, nas.seal(w.board.disco_public, b"\x01\x00short"))
        nas.send(w.node_key, nas.seal(w.board.disco_public, disco.encode_call_me_maybe([])))
        nas.send(w.node_key, b"")
        nas.send(w.node_key, nas.seal(w.board.disco_public, disco.encode_ping(b"u" * 12, nas.key)))
        _source, datagram = await nas.packet()
        assert nas.open(datagram).txid == b"u" * 12
        nas.writer.close()


async def test_a_ping_of_ours_measures_the_way_to_a_peer(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await nas.come(w.relay)

        async def answer():
            source, datagram = await nas.packet()
            ping = nas.open(datagram)
            assert ping.node_key == w.node_key
            nas.send(source, nas.seal(w.board.disco_public, disco.encode_pong(ping.txid, b"\x7f\x03\x03\x28", 900)))

        answering = asyncio.create_task(answer())
        result = await w.board.pings.ping("nas", True, 5000)
        await answering
        assert result["path"] == "relay home"
        assert result["address"] == "100.64.0.2"
        assert 0 <= result["latency_ms"] < 5000
        with pytest.raises(BadWire, match="nobody"):
            await w.board.pings.ping("printer", True, 50)
        with pytest.raises(BadWire, match="no peer"):
            await w.board.pings.ping("192.168.1.10", True, 50)
        with pytest.raises(OSError, match="did not answer"):
            await w.board.pings.ping("nas.tail.example", True, 50)
        nas.writer.close()


async def test_the_coordinators_disco_ping_is_answered_with_what_was_measured(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await nas.come(w.relay)
        ping = {"URL": "https://x/machine/ping/1", "URLIsNoise": True, "Types": "disco", "IP": "100.64.0.2"}
        w.coordinator.tell({"PingRequest": ping})
        source, datagram = await nas.packet()
        txid = nas.open(datagram).txid
        nas.send(source, nas.seal(w.board.disco_public, disco.encode_pong(txid, b"\x7f\x03\x03\x28", 900)))
        await until(lambda: [r for r in w.coordinator.requests if r[1] == "/machine/ping/1"])
        response = next(r for r in w.coordinator.requests if r[1] == "/machine/ping/1")[2]
        assert response["NodeName"] == "nas"
        assert response["DERPRegionID"] == 900
        assert "Err" not in response
        nas.writer.close()


async def test_a_relay_that_goes_is_reconnected_and_packets_flow_again(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        await w.joined()
        await w.relay.stop()
        await until(lambda: not w.board.is_up())
        assert w.data_plane.standing
        await until(lambda: "refused" in w.board.links.errors.get(900, ""))
        await w.relay.start()
        await until(w.board.is_up)
        await nas.come(w.relay)
        w.data_plane.outgoing.put_nowait((nas.key, HANDSHAKE))
        assert (await nas.packet())[1] == HANDSHAKE
        nas.writer.close()


@pytest.mark.parametrize("fault", ["garbage", "refuse"])
async def test_a_relay_that_misbehaves_is_tried_again_and_told(tmp_path, fault):
    async with world(tmp_path) as w:
        w.relay.misbehave = fault
        w.up("key")
        await until(lambda: w.board.links.errors.get(900))
        assert not w.board.is_up()
        w.relay.misbehave = None
        await until(w.board.is_up)
        assert 900 not in w.board.links.errors


async def test_a_relay_that_takes_the_connection_and_says_nothing_is_given_up(tmp_path, monkeypatch, place):
    monkeypatch.setattr(place.module(relay_links), "_HANDSHAKE_MS", 50)
    async with world(tmp_path) as w:
        w.relay.misbehave = "silent"
        w.up("key")
        await until(lambda: "no answer" in w.board.links.errors.get(900, ""))


async def test_a_relay_that_falls_silent_is_left(tmp_path, monkeypatch):
    async with world(tmp_path) as w:
        monkeypatch.setattr(w.place.module(relay_links), "_SILENCE_MS", 20)
        w.up("key")
        await until(lambda: any("silent" in text for text in w.log))


async def test_a_relay_that_stops_reading_costs_packets_and_no_memory(tmp_path):
    async with world(tmp_path) as w:
        nas = Peer(2, "nas")
        w.coordinator.peers = [nas]
        w.relay.misbehave = "stuck"
        await w.joined()
        queue = w.board.links._queues[900]
        for _ in range(40):
            for _ in range(500):
                w.board.links.send(nas.key, 900, bytes(1300))
            await asyncio.sleep(0)
        assert queue.dropped > 0
        assert len(queue._items) <= relay_links.QUEUE_FRAMES
        # the daemon still answers, and the coordinator is still heard
        w.coordinator.tell({"PeersChanged": [Peer(3, "phone").as_json()]})
        await until(lambda: 3 in w.board.netmap.peers)


async def test_what_is_sent_while_the_link_is_down_is_kept_for_it(tmp_path):
    async with world(tmp_path) as w:
        nas = RelayedPeer(2, "nas")
        w.coordinator.peers = [nas]
        w.relay.misbehave = "refuse"
        w.up("key")
        await until(lambda: w.board.links.errors.get(900))
        w.data_plane.outgoing.put_nowait((nas.key, HANDSHAKE))
        w.relay.misbehave = None
        await until(lambda: (w.node_key, nas.key, HANDSHAKE) in w.relay.packets)


async def test_a_peer_at_another_relay_is_reached_there(tmp_path):
    async with world(tmp_path) as w:
        far = FakeRelay()
        await far.start()
        nas = RelayedPeer(2, "nas")
        regions = w.coordinator.derp_map()["Regions"]
        node = {**regions["900"]["Nodes"][0], "Name": "901a", "RegionID": 901, "DERPPort": far.port}
        regions["901"] = {"RegionID": 901, "RegionCode": "far", "NoMeasureNoHome": True, "Nodes": [node]}
        w.coordinator.first_fields = {"DERPMap": {"Regions": regions}, "Peers": [nas.as_json(HomeDERP=901)]}
        await w.joined()
        assert w.board.links.relays.home == 900
        assert far.clients == {}
        await nas.come(far)
        w.data_plane.outgoing.put_nowait((nas.key, HANDSHAKE))
        assert await nas.packet() == (w.node_key, HANDSHAKE)
        assert (w.node_key, False) in far.preferred
        nas.send(w.node_key, b"\x02\0\0\0answer")
        await until(lambda: w.data_plane.injected)
        nas.writer.close()
        await far.stop()


async def test_of_several_regions_the_one_that_answers_becomes_home(tmp_path):
    async with world(tmp_path) as w:
        regions = w.coordinator.derp_map()["Regions"]
        dead = {**regions["900"]["Nodes"][0], "Name": "901a", "RegionID": 901, "DERPPort": 1}
        regions["901"] = {"RegionID": 901, "RegionCode": "dead", "Nodes": [dead]}
        w.coordinator.first_fields = {"DERPMap": {"Regions": regions}}
        await w.joined()
        assert w.board.links.relays.home == 900
        await until(lambda: w.coordinator.updates[-1]["Hostinfo"].get("NetInfo", {}).get("PreferredDERP") == 900)


@pytest.fixture
def certificate(tmp_path):
    folder = tmp_path / "certificate"
    folder.mkdir()
    return load_or_make(folder, "127.0.0.1")


async def with_tls(w, certificate, **relay_fields):
    """Put a TLS relay in the place of the plain one."""
    await w.relay.stop()
    w.relay = FakeRelay(certificate.context)
    await w.relay.start()
    w.coordinator.relay_port = w.relay.port
    w.coordinator.relay_fields = relay_fields
    w.board.links._plain_http = False


async def test_a_pinned_certificate_is_taken(tmp_path, certificate):
    async with world(tmp_path) as w:
        await with_tls(w, certificate, CertName=certificate.pin)
        await w.joined()
        assert w.node_key in w.relay.clients


async def test_another_certificate_than_the_pinned_one_is_refused(tmp_path, certificate):
    async with world(tmp_path) as w:
        await with_tls(w, certificate, CertName="sha256-raw:" + "ab" * 32)
        w.up("key")
        await until(lambda: "pins" in w.board.links.errors.get(900, ""))
        assert w.relay.clients == {}


async def test_a_pin_that_is_none_is_refused(tmp_path, certificate):
    async with world(tmp_path) as w:
        await with_tls(w, certificate, CertName="sha256-raw:abc")
        w.up("key")
        await until(lambda: w.board.links.errors.get(900))
        assert w.relay.clients == {}


async def test_a_certificate_of_nobody_known_is_refused_without_a_pin(tmp_path, certificate):
    async with world(tmp_path) as w:
        await with_tls(w, certificate)
        w.up("key")
        await until(lambda: "self-signed" in w.board.links.errors.get(900, "").replace("self signed", "self-signed"))
        assert w.relay.clients == {}


async def test_insecure_for_tests_is_refused_unless_the_owner_allows_it(tmp_path, certificate):
    async with world(tmp_path) as w:
        await with_tls(w, certificate, InsecureForTests=True)
        w.up("key")
        await until(lambda: "InsecureForTests" in w.board.links.errors.get(900, ""))
        assert w.relay.clients == {}
        w.board.links._allow_insecure = True
        await until(w.board.is_up)


async def test_the_relays_key_change_after_a_rotation_is_a_new_link(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        before = w.node_key
        w.state.node_private = keys.new_private(secrets.token_bytes(32))
        w.board.node_key_changed()
        await until(lambda: w.node_key in w.relay.clients)
        assert w.node_key != before
