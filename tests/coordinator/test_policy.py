"""The default policy, as the maps and filters that follow from it."""

from ipaddress import ip_network

from coordinator.rig import NEW_GO_CLIENT, OLD_GO_CLIENT, OTHER_CLIENT, mesh


def peers_of(m, node):
    return [peer["ID"] for peer in m.map(node)["Peers"]]


def reachable(m, destination, source):
    """What of `destination` its filter opens for `source`."""
    return [
        (target["IP"], target["Ports"]["First"], target["Ports"]["Last"], tuple(rule.get("IPProto", ())))
        for rule in m.map(destination)["PacketFilters"]["base"]
        if all(any(ip in ip_network(text) for text in rule["SrcIPs"]) for ip in (source.ipv4, source.ipv6))
        for target in rule["DstPorts"]
    ]


async def test_a_persons_own_devices_reach_each_other(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join("laptop"), await m.join("phone")
        assert peers_of(m, laptop) == [phone.id]
        assert reachable(m, phone, laptop) == [(str(phone.ipv4), 0, 65535, ()), (str(phone.ipv6), 0, 65535, ())]


async def test_other_peoples_devices_are_not_even_seen(tmp_path):
    async with mesh(tmp_path) as m:
        annas, berts = await m.join(), await m.join(user="bert")
        await m.router("board")
        assert peers_of(m, berts) == []
        assert reachable(m, annas, berts) == []
        assert [profile["LoginName"] for profile in m.map(berts)["UserProfiles"]] == ["bert"]
        assert "ExtraRecords" not in m.map(berts)["DNSConfig"]


async def test_a_router_opens_what_it_leads_to_and_not_itself(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, board = await m.join(), await m.router()
        nas = await m.registry.publish("nas", board.id, "192.168.1.10")
        web = await m.registry.publish("web", board.id, "192.168.1.11", "fd00:1::11", ["tcp:80", "udp:53-54"])
        assert reachable(m, board, laptop) == [
            ("192.168.1.0/24", 0, 65535, ()),
            (str(nas.ipv4), 0, 65535, ()),
            (str(web.ipv4), 80, 80, (6,)),
            (str(web.ipv6), 80, 80, (6,)),
            (str(web.ipv4), 53, 54, (17,)),
            (str(web.ipv6), 53, 54, (17,)),
        ]
        assert reachable(m, laptop, board) != []  # it is a person's own device too


async def test_a_router_is_closed_as_soon_as_it_offers_a_route(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, board = await m.join(), await m.join("board", RoutableIPs=["192.168.1.0/24"])
        assert m.map(board)["PacketFilters"] == {"base": []}
        assert peers_of(m, laptop) == [board.id]


async def test_what_a_tagged_router_leads_to_is_everybodys(tmp_path):
    async with mesh(tmp_path, suffix="mesh.test") as m:
        annas, berts = await m.join(), await m.join(user="bert")
        lone = await m.join("sensor", tags=("tag:iot",))
        board = await m.router(tags=("tag:router",))
        nas = await m.registry.publish("nas", board.id, "192.168.1.10")
        assert peers_of(m, board) == [annas.id, berts.id]
        assert peers_of(m, lone) == []
        for person in (annas, berts):
            view = m.map(person)
            assert [peer["ID"] for peer in view["Peers"]] == [board.id]
            assert view["DNSConfig"]["ExtraRecords"][0]["Name"] == "nas.mesh.test"
            assert reachable(m, board, person) == [("192.168.1.0/24", 0, 65535, ()), (str(nas.ipv4), 0, 65535, ())]
            assert reachable(m, person, board) == []
        assert {profile["LoginName"] for profile in m.map(annas)["UserProfiles"]} == {"anna", "tagged-devices"}


async def test_a_tagged_router_without_an_approved_route_concerns_nobody(tmp_path):
    async with mesh(tmp_path) as m:
        annas, board = await m.join(), await m.join("board", tags=("tag:router",), RoutableIPs=["192.168.1.0/24"])
        assert peers_of(m, annas) == [] and peers_of(m, board) == []
        await m.registry.approve_route(board.id, "192.168.1.0/24")
        assert peers_of(m, annas) == [board.id]


async def test_an_expired_device_may_open_nothing(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, phone = await m.join(), await m.join("phone")
        await m.registry.expire_node(phone.id)
        assert reachable(m, laptop, phone) == []
        (peer,) = m.map(laptop)["Peers"]
        assert peer["Expired"] is True and peer["KeyExpiry"] == "2026-11-23T12:00:00Z"
        assert m.map(phone)["Node"]["Expired"] is True


async def test_published_addresses_are_shown_to_each_viewer_as_it_takes_them(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, board = await m.join(), await m.join("board")
        nas = await m.registry.publish("nas", board.id, "192.168.1.10", "fd00:1::10")
        web = await m.registry.publish("web", board.id, "192.168.1.11")
        own = [f"{board.ipv4}/32", f"{board.ipv6}/128"]
        devices = [f"{nas.ipv4}/32", f"{nas.ipv6}/128", f"{web.ipv4}/32"]
        for facts, addresses in ((OLD_GO_CLIENT, own + devices), (NEW_GO_CLIENT, own), (OTHER_CLIENT, own)):
            (peer,) = m.map(laptop, facts)["Peers"]
            assert peer["AllowedIPs"] == own + devices
            assert peer["Addresses"] == addresses
            assert m.map(board, facts)["Node"]["Addresses"] == own
        names = {(record["Name"], record["Value"]) for record in m.map(laptop)["DNSConfig"]["ExtraRecords"]}
        assert names == {
            ("nas.wayhome.internal", str(nas.ipv4)),
            ("nas.wayhome.internal", str(nas.ipv6)),
            ("web.wayhome.internal", str(web.ipv4)),
        }


async def test_a_filter_stays_short_however_many_devices_a_person_has(tmp_path):
    async with mesh(tmp_path) as m:
        nodes = [await m.join() for _ in range(40)]
        (rule,) = m.map(nodes[0])["PacketFilters"]["base"]
        assert len(rule["SrcIPs"]) < 15
        assert all(reachable(m, nodes[0], node) for node in nodes)
        other = await m.join(user="bert")
        assert not reachable(m, nodes[0], other)
