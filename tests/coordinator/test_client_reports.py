"""Lite updates: what of a client's report is kept, what is announced, and what is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rig import START, key, mesh
from wayhome.coordinator import hostinfo
from wayhome.coordinator.model import Aspect
from wayhome.coordinator.registry import BadUpdate, NotFound, RegistryError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
used_names = st.sampled_from(
    ["Hostname", "OS", "RoutableIPs", "NetInfo", "Services", "GoVersion", "netinfo", "HOSTNAME"]
)


async def test_hostinfo_without_netinfo_keeps_the_home_relay(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        await m.registry.update_node(node.id, hostinfo={"Hostname": "laptop", "NetInfo": {"PreferredDERP": 900}})
        node = await m.registry.update_node(node.id, hostinfo={"Hostname": "laptop"})
        assert node.home_derp == 900
        assert node.hostinfo["NetInfo"] == {"PreferredDERP": 900}
        node = await m.registry.update_node(node.id, hostinfo={"Hostname": "laptop", "NetInfo": {"PreferredDERP": 0}})
        assert node.home_derp == 900  # no relay found just now: where it was last is the best guess


async def test_names_of_fields_are_read_whatever_their_case(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        told = {"hostName": "Bank", "netInfo": {"preferredDerp": 901}, "routableips": ["10.1.0.0/16"]}
        node = await m.registry.update_node(node.id, hostinfo=told)
        assert (node.hostname, node.home_derp, str(node.advertised[0])) == ("Bank", 901, "10.1.0.0/16")


async def test_a_change_of_latencies_alone_is_neither_kept_nor_announced(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        told = {"Hostname": "laptop", "NetInfo": {"PreferredDERP": 900, "DERPLatency": {"900-v4": 0.02}}}
        node = await m.registry.update_node(node.id, hostinfo=told)
        m.changes.clear()
        told["NetInfo"]["DERPLatency"] = {"900-v4": 0.03}
        assert await m.registry.update_node(node.id, hostinfo=told) is node or m.changes == []
        assert m.registry.nodes[node.id].hostinfo["NetInfo"]["DERPLatency"] == {"900-v4": 0.02}


async def test_only_what_changed_is_announced(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        report = {
            "hostinfo": {"Hostname": "laptop", "OS": "linux", "NetInfo": {"PreferredDERP": 900}},
            "endpoints": ["192.0.2.1:41641"],
            "disco_key": key(5, 3),
            "cap": 131,
        }
        m.changes.clear()
        await m.registry.update_node(node.id, **report)
        await m.registry.update_node(node.id, **report)
        assert [change.aspects for change in m.changes] == [
            {Aspect.HOME_DERP, Aspect.ENDPOINTS, Aspect.DISCO_KEY, Aspect.CAP}
        ]
        await m.registry.update_node(node.id, disco_key=bytes(32))  # zero: not told
        assert len(m.changes) == 1
        await m.registry.update_node(node.id, hostinfo={**report["hostinfo"], "Env": "what peers are not told"})
        assert len(m.changes) == 1
        with pytest.raises(NotFound):
            await m.registry.update_node(99, cap=113)


async def test_endpoints_are_bounded_and_what_no_peer_could_use_is_left_out(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        node = await m.registry.update_node(
            node.id,
            endpoints=["192.0.2.1:1", "0.0.0.0:5", "224.0.0.1:5", "192.0.2.2:0", "[2001:DB8::1]:7", "192.0.2.1:1"],
            endpoint_types=[2, 1, 1, 1],
        )
        assert node.endpoints == ("192.0.2.1:1", "[2001:db8::1]:7")
        assert node.endpoint_types == (2, 0)
        many = [f"192.0.2.1:{port}" for port in range(1, 1000)]
        node = await m.registry.update_node(node.id, endpoints=many)
        assert node.endpoints == tuple(many[: hostinfo.ENDPOINTS_MAX])


async def test_of_a_thousand_endpoints_the_first_usable_ones_are_kept_and_the_rest_is_no_error(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        crowd = [f"10.0.{n >> 8}.{n & 255}:41641" for n in range(500)]
        node = await m.registry.update_node(node.id, endpoints=["127.0.0.1:1"] * 500 + crowd)
        assert node.endpoints == tuple(crowd[: hostinfo.ENDPOINTS_MAX])
        endless = ["127.0.0.1:1"] * hostinfo.ENDPOINTS_READ + ["192.0.2.1:1"]
        assert (await m.registry.update_node(node.id, endpoints=endless)).endpoints == ()


@pytest.mark.parametrize(
    "endpoint",
    [
        "0.0.0.0:1",
        "0.1.2.3:1",
        "127.0.0.1:1",
        "127.9.9.9:1",
        "224.0.0.1:1",
        "239.255.255.250:1900",
        "240.0.0.1:1",
        "255.255.255.255:1",
        "100.100.100.100:53",
        "192.0.2.1:0",
        "[::]:1",
        "[::1]:1",
        "[ff02::1]:1",
        "[fe80::1]:1",
        "[fe80::1%eth0]:1",
        "[::ffff:192.0.2.1]:1",
        "[fd7a:115c:a1e0::5]:1",
    ],
)
async def test_an_endpoint_that_leads_to_no_other_host_is_left_out(tmp_path, endpoint):
    async with mesh(tmp_path) as m:
        node = await m.join()
        node = await m.registry.update_node(
            node.id, endpoints=["192.0.2.1:1", endpoint, "192.0.2.2:2"], endpoint_types=[2, 1, 4]
        )
        assert (node.endpoints, node.endpoint_types) == (("192.0.2.1:1", "192.0.2.2:2"), (2, 4))


async def test_private_addresses_a_carriers_and_ipv6_are_kept(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        told = (
            "192.168.1.5:41641",
            "10.0.0.7:41641",
            "172.16.3.3:41641",
            "169.254.7.7:41641",
            "100.127.0.9:41641",
            "[2001:db8::5]:41641",
            "[fd00:1::5]:41641",
        )
        assert (await m.registry.update_node(node.id, endpoints=told)).endpoints == told


async def test_a_mesh_address_in_use_is_no_endpoint_until_its_node_is_gone(tmp_path):
    async with mesh(tmp_path) as m:
        node, other = await m.join(), await m.join()
        told = [f"{node.ipv4}:1", f"{other.ipv4}:1", "100.127.0.9:1"]
        assert (await m.registry.update_node(node.id, endpoints=told)).endpoints == ("100.127.0.9:1",)
        await m.registry.delete_node(other.id)
        assert (await m.registry.update_node(node.id, endpoints=told)).endpoints == (told[1], "100.127.0.9:1")


async def test_a_published_devices_mesh_address_is_no_endpoint(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.router()
        device = await m.registry.publish("nas", node.id, "192.168.1.10")
        told = [f"{device.ipv4}:1", "192.0.2.1:1"]
        assert (await m.registry.update_node(node.id, endpoints=told)).endpoints == ("192.0.2.1:1",)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:x",
        "192.0.2.1:65536",
        "2001:db8::1:5",
        "[192.0.2.1]:5",
        5,
        "[2001:db8::1%eth0]:5",
    ],
)
async def test_text_that_is_no_endpoint_is_refused_and_nothing_of_the_report_is_kept(tmp_path, endpoint):
    async with mesh(tmp_path) as m:
        node = await m.join()
        with pytest.raises(BadUpdate):
            await m.registry.update_node(node.id, hostinfo={"Hostname": "other"}, endpoints=["192.0.2.1:1", endpoint])
        assert m.registry.nodes[node.id] == node


@pytest.mark.parametrize(
    "told",
    [
        {"Hostname": 5},
        {"RoutableIPs": "10.0.0.0/8"},
        {"RoutableIPs": ["10.0.0.1/8"]},
        {"RoutableIPs": [7]},
        {"RoutableIPs": [f"10.{high}.{low}.0/24" for high in range(2) for low in range(250)]},
        {"NetInfo": []},
        {"NetInfo": {"PreferredDERP": "900"}},
        {"NetInfo": {"PreferredDERP": True}},
        {"NetInfo": {"PreferredDERP": 70000}},
        {"Env": "x" * 70_000},
        {"Env": object()},
    ],
)
async def test_hostinfo_out_of_shape_or_out_of_bounds_is_refused(tmp_path, told):
    async with mesh(tmp_path) as m:
        node = await m.join()
        with pytest.raises(BadUpdate):
            await m.registry.update_node(node.id, hostinfo=told)
        assert m.registry.nodes[node.id] == node


@given(st.dictionaries(used_names | st.text(max_size=8), json_values, max_size=6))
def test_any_hostinfo_is_kept_or_refused_and_what_is_kept_can_be_told_to_peers(told):
    try:
        kept = hostinfo.checked(told)
    except RegistryError:
        return
    assert hostinfo.checked(kept) == kept
    peers = hostinfo.for_peers(kept, ())
    assert isinstance(peers["Hostname"], str)
    assert isinstance(peers["OS"], str)
    for service in peers.get("Services", []):
        assert service["Proto"].startswith("peerapi") and type(service["Port"]) is int


async def test_peers_are_told_the_peerapi_ports_and_no_other_service(tmp_path):
    async with mesh(tmp_path) as m:
        services = [
            {"Proto": "tcp", "Port": 22},
            {"proto": "peerapi4", "port": 41000},
            {"Proto": "peerapi6", "Port": True},
        ]
        node, viewer = await m.join("tv", Services=services, Env="secret", TPM={}), await m.join()
        (peer,) = m.map(viewer)["Peers"]
        assert peer["ID"] == node.id
        assert peer["Hostinfo"] == {
            "OS": "linux",
            "Hostname": "tv",
            "Services": [{"Proto": "peerapi4", "Port": 41000}],
        }


async def test_being_online_is_not_stored_and_when_it_ended_is(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        await m.registry.set_online(node.id, True)
        await m.registry.set_online(node.id, True)
        assert m.registry.is_online(node.id)
        m.clock.pass_by(hours=1)
        await m.registry.set_online(node.id, False)
        assert [change.aspects for change in m.changes[-2:]] == [{Aspect.ONLINE}, {Aspect.ONLINE}]
        await m.registry.set_online(node.id, True)
        await m.registry.set_online(99, True)  # deleted meanwhile: nothing to do
    async with mesh(tmp_path) as m:
        assert not m.registry.is_online(node.id)
        assert m.registry.nodes[node.id].last_seen == START.replace(hour=13)
