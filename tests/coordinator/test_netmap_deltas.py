"""What a change sends, to whom, and how little; the traps of control.md 7.3 and 7.4."""

import json

from coordinator.rig import OLD_GO_CLIENT, device, key, mesh
from wayhome.coordinator.netmap import MapView, SharedMessage


async def test_the_first_message_has_all_that_a_client_needs(tmp_path):
    async with mesh(tmp_path, suffix="mesh.test", derp_map={"Regions": {"900": {}}}) as m:
        node = await m.join()
        first = m.map(node)
        assert {name: first[name] for name in first if name not in ("Node", "UserProfiles", "PacketFilters")} == {
            "DERPMap": {"Regions": {"900": {}}},
            "Peers": [],
            "DNSConfig": {"Proxied": True, "Domains": ["mesh.test"], "Routes": {"mesh.test": []}},
            "Domain": "mesh.test",
            "CollectServices": False,
            "ControlTime": "2026-11-23T12:00:00Z",
            "Debug": {"DisableLogTail": True},
        }
        assert first["Node"]["Name"] == "laptop.mesh.test."
        assert first["Node"]["MachineAuthorized"] is True and first["Node"]["Online"] is True


async def test_an_endpoint_change_is_one_small_message_for_200_viewers_and_nothing_for_the_others(tmp_path):
    async with mesh(tmp_path) as m:
        nodes = [await m.join(f"node{number}", "anna" if number % 2 else "bert") for number in range(200)]
        clients = [m.watch(node) for node in nodes]
        mover = nodes[7]
        await m.registry.update_node(mover.id, endpoints=["198.51.100.7:41641", "10.0.0.23:41641"])
        messages = {client.node_id: client.catch_up() for client in clients}
        told = {node_id for node_id, message in messages.items() if message is not None}
        assert told == {node.id for node in nodes if node.user_id == mover.user_id} - {mover.id}
        one = messages[nodes[9].id]
        assert isinstance(one, SharedMessage)
        assert all(messages[node_id] is one for node_id in told)  # one object, so that one encoding serves all
        assert len(json.dumps(one)) < 1000
        assert one == {
            "PeersChangedPatch": [{"NodeID": mover.id, "Endpoints": ["198.51.100.7:41641", "10.0.0.23:41641"]}]
        }


async def test_several_changes_told_together_are_shared_and_merged_by_peer(tmp_path):
    async with mesh(tmp_path) as m:
        one, two, *viewers = [await m.join() for _ in range(4)]
        clients = [m.watch(viewer) for viewer in viewers]
        await m.registry.update_node(two.id, endpoints=["192.0.2.1:1"])
        await m.registry.update_node(
            one.id, hostinfo={"Hostname": "laptop", "OS": "linux", "NetInfo": {"PreferredDERP": 5}}
        )
        await m.registry.update_node(two.id, endpoints=["192.0.2.1:2"], cap=141)
        first, second = (client.catch_up() for client in clients)
        assert first is second
        assert first == {
            "PeersChangedPatch": [
                {"NodeID": one.id, "DERPRegion": 5},
                {"NodeID": two.id, "Endpoints": ["192.0.2.1:2"], "Cap": 141},
            ]
        }


async def test_the_last_peer_is_removed_by_name_because_an_empty_list_says_nothing(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join(), await m.join("phone")
        client = m.watch(laptop)
        await m.registry.delete_node(phone.id)
        message = client.catch_up()
        assert message["PeersRemoved"] == [phone.id]
        assert "Peers" not in message
        assert client.peers == {}


async def test_a_fresh_start_within_a_stream_also_removes_the_last_peer(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join(), await m.join("phone")
        view = MapView(laptop.id, OLD_GO_CLIENT)
        view.full(m.registry.world, m.clock())
        await m.registry.delete_node(phone.id)
        assert view.full(m.registry.world, m.clock())["PeersRemoved"] == [phone.id]
        assert "PeersRemoved" not in view.full(m.registry.world, m.clock())


async def test_online_is_never_null_and_goes_by_patch(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join(), await m.join("phone")
        client = m.watch(laptop)
        assert client.peers[phone.id]["Online"] is False
        await m.registry.set_online(phone.id, True)
        assert client.catch_up() == {"PeersChangedPatch": [{"NodeID": phone.id, "Online": True}]}
        m.clock.pass_by(minutes=14, seconds=31)
        await m.registry.set_online(phone.id, False)
        assert client.catch_up() == {
            "PeersChangedPatch": [{"NodeID": phone.id, "Online": False, "LastSeen": "2026-11-23T12:14:31Z"}]
        }


async def test_a_new_disco_key_never_looks_older_than_what_clients_know(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join(), await m.join("phone")
        client = m.watch(laptop)
        await m.registry.set_online(phone.id, True)
        await m.registry.set_online(phone.id, False)
        client.catch_up()
        m.clock.pass_by(minutes=1)
        await m.registry.update_node(phone.id, disco_key=key(9, 3))
        (patch,) = client.catch_up()["PeersChangedPatch"]
        assert (patch["Online"], patch["LastSeen"]) == (False, "2026-11-23T12:01:00Z")
        await m.registry.set_online(phone.id, True)
        client.catch_up()
        await m.registry.update_node(phone.id, disco_key=key(10, 3))
        assert client.catch_up()["PeersChangedPatch"][0]["Online"] is True


async def test_a_replaced_node_key_goes_by_patch(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key(reusable=True)
        phone = await m.registry.register_with_key(device(1, "phone"), secret)
        client = m.watch(await m.join())
        await m.registry.register_with_key(device(1, "phone", node_key=key(77, 2)), secret)
        (patch,) = client.catch_up()["PeersChangedPatch"]
        assert patch == {"NodeID": phone.id, "Key": "nodekey:" + key(77, 2).hex()}


async def test_what_a_client_reported_itself_is_not_told_back(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        client = m.watch(node)
        await m.registry.update_node(
            node.id, hostinfo={"Hostname": "laptop", "OS": "plan9"}, endpoints=["192.0.2.1:1"], disco_key=key(3, 3)
        )
        await m.registry.set_online(node.id, True)
        assert client.catch_up() is None


async def test_a_rename_reaches_the_peers_and_the_node_itself(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join(), await m.join("phone")
        clients = m.watch(laptop), m.watch(phone)
        await m.registry.rename_node(phone.id, "annas-phone")
        to_peer, to_itself = (client.catch_up() for client in clients)
        assert to_peer.keys() == {"PeersChanged"}
        assert to_peer["PeersChanged"][0]["Name"] == "annas-phone.wayhome.internal."
        assert to_itself.keys() == {"Node"}


async def test_publishing_tells_the_router_its_mapping_and_the_viewers_the_address(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, board = await m.join(), await m.join("board")
        to_laptop, to_board = m.watch(laptop), m.watch(board)
        nas = await m.registry.publish("nas", board.id, "192.168.1.10")
        told = to_laptop.catch_up()
        assert f"{nas.ipv4}/32" in told["PeersChanged"][0]["AllowedIPs"]
        assert told["DNSConfig"]["ExtraRecords"]
        told = to_board.catch_up()
        assert told["Node"]["CapMap"]["wayhome:published"][0]["Name"] == "nas"
        assert str(nas.ipv4) in json.dumps(told["PacketFilters"])
        await m.registry.unpublish("nas")
        assert to_board.catch_up()["Node"]["CapMap"] == {}
        told = to_laptop.catch_up()
        assert len(told["PeersChanged"][0]["AllowedIPs"]) == 2
        assert "ExtraRecords" not in told["DNSConfig"]


async def test_when_a_router_goes_the_next_one_gets_its_routes_in_the_same_message(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, first, second = await m.join(), await m.router("one"), await m.router("two")
        for router in (first, second):
            await m.registry.set_online(router.id, True)
        client = m.watch(laptop)
        await m.registry.set_online(first.id, False)
        allowed = {peer["ID"]: "192.168.1.0/24" in peer["AllowedIPs"] for peer in client.catch_up()["PeersChanged"]}
        assert allowed == {first.id: False, second.id: True}


async def test_two_tagged_routers_of_one_prefix_learn_which_of_them_is_in_use(tmp_path):
    async with mesh(tmp_path) as m:
        first, second = [await m.router(name, tags=("tag:router",)) for name in ("one", "two")]
        client = m.watch(second)
        assert "PrimaryRoutes" not in client.node
        await m.registry.set_online(second.id, True)
        assert client.catch_up()["Node"]["PrimaryRoutes"] == ["192.168.1.0/24"]
        await m.registry.set_online(first.id, True)
        assert "PrimaryRoutes" not in client.catch_up()["Node"]


async def test_strangers_routers_of_the_same_prefix_learn_nothing_of_each_other(tmp_path):
    async with mesh(tmp_path) as m:
        annas, berts = await m.router("one"), await m.router("two", user="bert")
        client = m.watch(berts)
        await m.registry.set_online(annas.id, True)
        await m.registry.rename_node(annas.id, "secret")
        await m.registry.delete_node(annas.id)
        assert client.catch_up() is None


async def test_a_deleted_viewer_is_told_nothing(tmp_path):
    async with mesh(tmp_path) as m:
        laptop = await m.join()
        await m.join("phone")
        client = m.watch(laptop)
        await m.registry.delete_node(laptop.id)
        assert client.catch_up() is None


async def test_new_relays_reach_everybody(tmp_path):
    async with mesh(tmp_path) as m:
        clients = [m.watch(await m.join()) for _ in range(2)]
        for client in clients:
            client.catch_up()
        m.registry.set_derp_map({"Regions": {"901": {}}})
        assert [client.catch_up() for client in clients] == [{"DERPMap": {"Regions": {"901": {}}}}] * 2
