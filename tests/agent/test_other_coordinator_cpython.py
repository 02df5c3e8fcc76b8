"""The daemon with a coordinator that is not ours and does everything otherwise."""

from base64 import b64encode
from contextlib import asynccontextmanager

from agent.fakes import Peer, World, until
from shared.other_coordinator import OtherCoordinator, odd_node
from wayhomed.agent.control_session import Phase
from wayhomed.wire import keys


@asynccontextmanager
async def elsewhere(directory):
    made = World(directory)
    made.coordinator = OtherCoordinator()
    await made.relay.start()
    made.coordinator.relay_port = made.relay.port
    await made.coordinator.start()
    await made.start_board()
    try:
        yield made
    finally:
        await made.stop_board()
        await made.coordinator.stop()
        await made.relay.stop()


def described(peer: Peer, **fields) -> dict:
    return odd_node(peer.id, peer.key, keys.key_text(keys.DISCO, peer.disco_key), **fields)


async def test_it_joins_by_a_link_and_learns_its_peers_by_changes_alone(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.up(AdvertiseRoutes=["192.168.1.0/24"], AcceptRoutes=True)
        await until(lambda: w.board.session.auth_url)
        assert w.board.session.auth_url == "https://odd.example/a/1"
        await until(lambda: len(w.coordinator.registered) == 2)
        assert w.coordinator.registered[1]["Followup"] == "https://odd.example/a/1"
        w.coordinator.let_in.set()
        await until(w.board.is_up)
        assert w.board.netmap.peers == {}
        assert len(w.board.netmap.derp_map.regions) == 28
        assert w.board.netmap.warnings() == ["Update: there is one"]
        nas, router = Peer(2, "nas"), Peer(3, "router")
        allowed = ["100.64.0.3/32", "10.20.0.0/16"]
        await w.coordinator.tell({"PeersChanged": [described(nas), described(router, AllowedIPs=allowed)]})
        await until(lambda: set(w.data_plane.plans[-1].peers) == {nas.key, router.key})
        plan = w.data_plane.plans[-1]
        assert (bytes((10, 20, 0, 0)), 16) in plan.routes
        assert len(plan.firewall.rules) == 1, "the rule, and not the grant to an application"
        assert w.board.netmap.peers[described(nas)["ID"]].home_derp == 900, "by the old form of a home relay"
        patch = {"NodeID": described(nas)["ID"], "Endpoints": ["198.51.100.9:41641"], "Online": True, "Odd": None}
        await w.coordinator.tell({"PeersChangedPatch": [patch], "Peers": [], "PeersRemoved": [described(router)["ID"]]})
        await until(lambda: set(w.data_plane.plans[-1].peers) == {nas.key})
        assert w.board.netmap.peers[patch["NodeID"]].endpoints == ((bytes((198, 51, 100, 9)), 41641),)


async def test_what_it_is_to_know_comes_in_updates_of_their_own(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.up("the-key", AdvertiseRoutes=["192.168.1.0/24"])
        await until(w.board.is_up)
        disco = keys.key_text(keys.DISCO, w.board.disco_public)
        await until(lambda: w.coordinator.updates[-1]["Hostinfo"].get("NetInfo", {}).get("PreferredDERP") == 900)
        update = w.coordinator.updates[-1]
        assert update["DiscoKey"] == disco and update["OmitPeers"] is True and update["Stream"] is False
        assert update["Hostinfo"]["RoutableIPs"] == ["192.168.1.0/24"]
        assert len(update["Hostinfo"]["BackendLogID"]) == 64


async def test_names_of_fields_may_be_in_lower_case(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.coordinator.lower_case = True
        w.up("the-key")
        await until(w.board.is_up)
        nas = Peer(2, "nas")
        await w.coordinator.tell({"PeersChanged": [described(nas)]})
        await until(lambda: set(w.data_plane.plans[-1].peers) == {nas.key})


async def test_a_plain_ping_is_answered_where_the_coordinator_is_and_nowhere_else(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.up("the-key")
        await until(w.board.is_up)
        elsewhere_asked = {"URL": "https://192.168.1.1/admin/reboot", "URLIsNoise": False, "Types": ""}
        await w.coordinator.tell({"PingRequest": elsewhere_asked, "KeepAlive": True})
        await until(lambda: any("left alone" in text for text in w.log))
        url = f"http://127.0.0.1:{w.coordinator.port}/machine/ping-response?id=abc"
        await w.coordinator.tell({"PingRequest": {"URL": url, "URLIsNoise": False, "Types": ""}, "KeepAlive": True})
        await until(lambda: w.coordinator.heads)
        assert w.coordinator.heads == ["/machine/ping-response?id=abc"]
        await w.coordinator.tell({"PingRequest": {"URL": "https://x/odd/1", "URLIsNoise": True, "Types": None}})
        await until(lambda: w.coordinator.posts)
        assert w.coordinator.posts == [("HEAD", "/odd/1", b"")]
        echo = b64encode(b"POST /echo HTTP/1.1\r\n\r\nhi").decode()
        ping = {"URL": "https://x/odd/2", "URLIsNoise": True, "Types": "c2n", "Payload": echo}
        await w.coordinator.tell({"PingRequest": ping})
        await until(lambda: len(w.coordinator.posts) == 2)
        assert w.coordinator.posts[1][2].endswith(b"\r\n\r\nhi")
        assert w.board.session.connected, "the length that a HEAD's answer names is none of its own"


async def test_a_busy_coordinator_is_left_alone_for_as_long_as_it_says(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.coordinator.busy = [[("retry-after", "1")]]
        w.up("the-key")
        await until(lambda: "busy" in w.board.session.error)
        assert w.board.session.phase == Phase.CONNECTING
        assert w.coordinator.registered == []
        w.up("the-key")  # its owner may try at once
        await until(w.board.is_up)


async def test_a_new_key_is_noticed_though_the_coordinator_just_hangs_up(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.up("the-key")
        await until(w.board.is_up)
        w.coordinator.noise_private = keys.new_private(bytes(range(32)))
        w.coordinator.close_without_a_word = True
        w.coordinator.drop()
        await until(lambda: "--accept-new-key" in w.board.session.error)
        w.board.session.login("", False, False, True)
        w.coordinator.let_in.set()
        await until(lambda: w.board.session.connected)


async def test_a_page_for_a_person_to_open_is_told_once(tmp_path):
    async with elsewhere(tmp_path) as w:
        w.up("the-key")
        await until(w.board.is_up)
        for _ in range(3):
            await w.coordinator.tell({"PopBrowserURL": "https://odd.example/renew", "KeepAlive": True})
        await w.coordinator.tell({"PeersChanged": [described(Peer(2, "nas"))]})
        await until(lambda: w.board.netmap.peers)
        assert len([text for text in w.log if "https://odd.example/renew" in text]) == 1
