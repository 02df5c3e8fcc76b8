"""What lies behind routers: routes that wait for approval, and devices with addresses of their own."""

from ipaddress import IPv4Address

import pytest

from coordinator.rig import mesh
from wayhome.coordinator.registry import NotFound, RegistryError


async def test_a_route_waits_until_it_is_approved(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, board = await m.join(), await m.join("board", RoutableIPs=["192.168.1.0/24", "fd00:1::/64"])
        assert board.served == ()
        assert "192.168.1.0/24" not in m.map(laptop)["Peers"][0]["AllowedIPs"]
        board = await m.registry.approve_route(board.id, "192.168.1.0/24")
        (peer,) = m.map(laptop)["Peers"]
        assert peer["AllowedIPs"][2:] == peer["PrimaryRoutes"] == peer["Hostinfo"]["RoutableIPs"] == ["192.168.1.0/24"]
        assert await m.registry.approve_route(board.id, "192.168.1.0/24") == board
        board = await m.registry.unapprove_route(board.id, "192.168.1.0/24")
        assert board.served == ()
        with pytest.raises(NotFound, match="approved is nothing"):
            await m.registry.unapprove_route(board.id, "192.168.1.0/24")


async def test_an_approval_outlasts_a_router_that_stops_offering_for_a_while(tmp_path):
    async with mesh(tmp_path) as m:
        board = await m.router()
        board = await m.registry.update_node(board.id, hostinfo={"Hostname": "board"})
        assert board.served == ()
        board = await m.registry.update_node(
            board.id, hostinfo={"Hostname": "board", "RoutableIPs": ["192.168.1.0/24"]}
        )
        assert [str(prefix) for prefix in board.served] == ["192.168.1.0/24"]


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("0.0.0.0/0", "default route"),
        ("::/0", "default route"),
        ("100.64.0.0/10", "the mesh's own addresses"),
        ("100.70.0.0/16", "the mesh's own addresses"),
        ("96.0.0.0/4", "the mesh's own addresses"),
        ("fd7a:115c:a1e0:b1a::/64", "the mesh's own addresses"),
        ("fd00::/8", "the mesh's own addresses"),
        ("128.0.0.0/1", "part of the Internet"),
        ("2000::/3", "part of the Internet"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/64", "link-local"),
        ("224.0.0.0/8", "multicast"),
        ("192.168.1.1/24", "did you mean 192.168.1.0/24"),
        ("home", "not a prefix"),
    ],
)
async def test_a_route_that_would_harm_is_refused_with_its_reason(tmp_path, prefix, reason):
    async with mesh(tmp_path) as m:
        offered = [prefix] if "/" in prefix and "1.1/" not in prefix else []
        board = await m.join("board", RoutableIPs=offered)
        with pytest.raises(RegistryError, match=reason):
            await m.registry.approve_route(board.id, prefix)
        assert m.registry.nodes[board.id].approved == ()


async def test_what_is_not_offered_cannot_be_approved_and_the_offer_is_named(tmp_path):
    async with mesh(tmp_path) as m:
        board = await m.join("board", RoutableIPs=["192.168.1.0/24"])
        with pytest.raises(NotFound, match=r"it offers 192\.168\.1\.0/24"):
            await m.registry.approve_route(board.id, "192.168.2.0/24")


async def test_a_prefix_goes_to_one_router_the_first_of_those_online(tmp_path):
    async with mesh(tmp_path) as m:
        laptop, first, second = await m.join(), await m.router("one"), await m.router("two")

        def routers():
            return [peer["ID"] for peer in m.map(laptop)["Peers"] if "192.168.1.0/24" in peer["AllowedIPs"]]

        assert routers() == [first.id]
        await m.registry.set_online(second.id, True)
        assert routers() == [second.id]
        await m.registry.set_online(first.id, True)
        assert routers() == [first.id]
        await m.registry.expire_node(first.id)
        assert routers() == [second.id]
        assert "PrimaryRoutes" not in m.map(first)["Node"]
        assert m.map(second)["Node"]["PrimaryRoutes"] == ["192.168.1.0/24"]


async def test_a_router_is_not_sent_its_own_lan_through_another(tmp_path):
    async with mesh(tmp_path) as m:
        first, second = await m.router("one"), await m.router("two")
        await m.registry.set_online(first.id, True)
        assert not any("192.168.1.0/24" in peer["AllowedIPs"] for peer in m.map(second)["Peers"])


async def test_a_published_device_has_its_own_name_and_addresses(tmp_path):
    async with mesh(tmp_path, suffix="mesh.test") as m:
        board = await m.join("board")
        nas = await m.registry.publish("NAS", board.id, "192.168.1.10", "fd00:1::10", ["tcp:80", "udp:5000-5010"])
        printer = await m.registry.publish("printer", board.id, "192.168.1.11")
        assert len({board.ipv4, nas.ipv4, printer.ipv4}) == 3
        assert m.map(board)["Node"]["CapMap"] == {
            "wayhome:published": [
                {
                    "Name": "nas",
                    "Address4": str(nas.ipv4),
                    "Target4": "192.168.1.10",
                    "Address6": str(nas.ipv6),
                    "Target6": "fd00:1::10",
                    "Ports": ["tcp:80", "udp:5000-5010"],
                },
                {"Name": "printer", "Address4": str(printer.ipv4), "Target4": "192.168.1.11"},
            ]
        }


async def test_an_address_stays_reserved_for_its_name_and_router(tmp_path):
    async with mesh(tmp_path) as m:
        board, other = await m.join("board"), await m.join("other")
        nas = await m.registry.publish("nas", board.id, "192.168.1.10")
        await m.registry.unpublish("nas")
        elsewhere = await m.registry.publish("nas", other.id, "192.168.1.10")
        assert elsewhere.ipv4 != nas.ipv4
        await m.registry.unpublish("NAS.wayhome.internal")
        again = await m.registry.publish("nas", board.id, "192.168.1.20")
        assert (again.ipv4, again.id != nas.id) == (nas.ipv4, True)
        await m.registry.delete_node(board.id)
        assert not m.registry.published
    async with mesh(tmp_path) as m:
        assert (await m.registry.publish("nas", other.id, "192.168.1.10")).ipv4 == elsewhere.ipv4
        assert (await m.join()).ipv4 == IPv4Address(int(elsewhere.ipv4) + 1)


@pytest.mark.parametrize(
    ("target4", "target6", "ports", "reason"),
    [
        ("nas", None, (), "not an IPv4 address"),
        ("100.64.0.9", None, (), "address of the mesh"),
        ("127.0.0.1", None, (), "loopback"),
        ("224.0.0.1", None, (), "multicast"),
        ("fd00::1", None, (), "not an IPv4 address"),
        ("192.168.1.10", "192.168.1.10", (), "not an IPv6 address"),
        ("192.168.1.10", "fe80::1%eth0", (), "one link only"),
        ("192.168.1.10", None, ("http",), "names no ports"),
        ("192.168.1.10", None, ("tcp:0",), "names no ports"),
        ("192.168.1.10", None, ("tcp:90-80",), "names no ports"),
        ("192.168.1.10", None, ("tcp:70000",), "names no ports"),
        ("192.168.1.10", None, ["tcp:1"] * 40, "at most 32"),
    ],
)
async def test_what_cannot_be_published_is_refused_with_its_reason(tmp_path, target4, target6, ports, reason):
    async with mesh(tmp_path) as m:
        board = await m.join("board")
        with pytest.raises(RegistryError, match=reason):
            await m.registry.publish("nas", board.id, target4, target6, ports)
        assert not m.registry.published


async def test_one_device_has_one_name_at_one_router(tmp_path):
    async with mesh(tmp_path) as m:
        board = await m.join("board")
        await m.registry.publish("nas", board.id, "192.168.1.10")
        with pytest.raises(RegistryError, match="already, as nas"):
            await m.registry.publish("nas2", board.id, "192.168.1.10")
        with pytest.raises(NotFound, match="publish list"):
            await m.registry.unpublish("nas2")
        with pytest.raises(RegistryError, match="ephemeral"):
            await m.registry.publish("tv", (await m.join("x", ephemeral=True)).id, "192.168.1.12")


async def test_a_stock_client_cannot_publish_for_it_would_never_answer_for_another(tmp_path):
    async with mesh(tmp_path) as m:
        phone = await m.join("phone", GoVersion="go1.25")
        with pytest.raises(RegistryError, match="stock client"):
            await m.registry.publish("nas", phone.id, "192.168.1.10")
        assert not m.registry.world.is_router(phone)
