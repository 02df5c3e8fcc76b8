"""Addresses and names: where they come from, and what is never given."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rig import device, mesh
from wayhome.coordinator import addresses, names
from wayhome.coordinator.registry import RegistryError


def test_the_first_address_is_not_the_networks_own():
    assert addresses.next_address(addresses.MESH_V4, None) == IPv4Address("100.64.0.1")


@pytest.mark.parametrize(
    ("last", "following"),
    [
        ("100.64.0.255", "100.64.1.0"),
        ("100.99.255.255", "100.100.1.0"),
        ("100.100.99.255", "100.100.101.0"),
        ("100.115.91.255", "100.115.94.0"),
    ],
)
def test_reserved_ranges_are_stepped_over(last, following):
    assert addresses.next_address(addresses.MESH_V4, IPv4Address(last)) == IPv4Address(following)


def test_the_broadcast_address_is_never_given_and_a_used_up_pool_says_so():
    with pytest.raises(RegistryError, match="given out once"):
        addresses.next_address(addresses.MESH_V4, IPv4Address("100.127.255.254"))


@given(st.integers(min_value=int(IPv4Address("100.64.0.1")), max_value=int(IPv4Address("100.127.255.254"))))
def test_ipv6_follows_from_ipv4_and_keeps_clear_of_what_is_reserved(number):
    ipv4 = IPv4Address(number)
    ipv6 = addresses.ipv6_of(ipv4)
    assert ipv6.packed[13:] == ipv4.packed[1:]
    assert ipv6 in ip_network("fd7a:115c:a1e0:ab12:4843:cd96:6200::/104")
    assert not any(ipv6 in reserved for reserved in addresses.RESERVED_V6)


@given(st.sets(st.integers(min_value=int(IPv4Address("100.64.0.1")), max_value=int(IPv4Address("100.64.0.80")))))
def test_a_cover_holds_just_the_addresses_that_it_is_of(numbers):
    given_out = {IPv4Address(number) for number in numbers}
    held = {address for text in addresses.exact_cover(given_out) for address in ip_network(text)}
    assert held == given_out | {addresses.ipv6_of(address) for address in given_out}


def test_a_pool_outside_the_range_that_clients_know_is_refused():
    with pytest.raises(RegistryError, match="outside"):
        addresses.check_pool(IPv4Network("10.0.0.0/8"))
    with pytest.raises(RegistryError, match="small"):
        addresses.check_pool(IPv4Network("100.64.0.0/31"))


async def test_a_deleted_nodes_address_is_not_given_again_not_even_from_a_pool_that_is_used_up(tmp_path):
    async with mesh(tmp_path, pool=IPv4Network("100.64.7.0/29")) as m:
        nodes = [await m.join() for _ in range(6)]
        assert [str(node.ipv4) for node in nodes] == [f"100.64.7.{host}" for host in range(1, 7)]
        for node in nodes:
            await m.registry.delete_node(node.id)
        with pytest.raises(RegistryError, match="larger pool"):
            await m.join()
        assert not m.registry.nodes
    async with mesh(tmp_path, pool=IPv4Network("100.64.0.0/16")) as m:
        assert (await m.join()).ipv4 == IPv4Address("100.64.7.7")


async def test_a_failed_registration_spends_neither_key_nor_address(tmp_path):
    async with mesh(tmp_path, pool=IPv4Network("100.64.7.0/30")) as m:
        await m.join()
        await m.join()
        secret = await m.key()
        with pytest.raises(RegistryError):
            await m.registry.register_with_key(device(1), secret)
    async with mesh(tmp_path) as m:
        assert (await m.registry.register_with_key(device(1), secret)).ipv4 == IPv4Address("100.64.7.3")


@pytest.mark.parametrize(
    ("hostname", "label"),
    [
        ("laptop", "laptop"),
        ("Änna's iPhone", "anna-s-iphone"),
        ("tv.lan", "tv"),
        ("---", "node"),
        ("", "node"),
        ("日本", "node"),
        ("a" * 80, "a" * 63),
        ("x_y z", "x-y-z"),
        (".hidden", "hidden"),
        ("7", "node-7"),
        ("100.64.0.1", "node-100"),
        ("1" * 80, "node-" + "1" * 58),
    ],
)
def test_host_names_become_dns_labels(hostname, label):
    assert names.label_from(hostname) == label


@given(st.text(max_size=300))
def test_whatever_a_client_calls_itself_the_label_is_valid(hostname):
    assert names.check_label(names.unique_label(names.label_from(hostname), set()))


def test_a_taken_name_gets_a_number_and_stays_within_its_length():
    assert names.unique_label("nas", {"nas", "nas-1"}) == "nas-2"
    long = "a" * 63
    assert names.unique_label(long, {long}) == "a" * 61 + "-1"
    assert names.unique_label("wpad", set()) == "wpad-1"


@pytest.mark.parametrize("name", ["", "-a", "a-", "a.b", "a b", "ä", "x" * 64, "wpad", "localhost", "7"])
def test_names_that_people_choose_are_checked(name):
    with pytest.raises(RegistryError):
        names.check_label(name)


@pytest.mark.parametrize("suffix", ["", ".", "a..b", "a b", "-.x", "x" * 200])
def test_a_suffix_that_is_no_dns_name_is_refused(suffix):
    with pytest.raises(RegistryError):
        names.check_suffix(suffix)


def test_a_suffix_may_be_written_with_dots_at_its_ends():
    assert names.check_suffix(".Mesh.Example.") == "mesh.example"


async def test_an_admins_name_survives_what_the_client_calls_itself(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join("laptop")
        await m.registry.rename_node(node.id, "Annas")
        node = await m.registry.update_node(node.id, hostinfo={"Hostname": "other"})
        assert (node.name, node.hostname) == ("annas", "other")
        assert (await m.registry.rename_node(node.id, None)).name == "other"


async def test_a_numbered_name_stays_when_the_plain_one_becomes_free(tmp_path):
    async with mesh(tmp_path) as m:
        first, second = await m.join("nas"), await m.join("nas")
        assert (first.name, second.name) == ("nas", "nas-1")
        await m.registry.delete_node(first.id)
        assert (await m.registry.update_node(second.id, hostinfo={"Hostname": "NAS"})).name == "nas-1"


async def test_published_devices_and_nodes_share_the_names(tmp_path):
    async with mesh(tmp_path) as m:
        board = await m.join("board")
        await m.registry.publish("nas", board.id, "192.168.1.10")
        node = await m.join("nas")
        assert node.name == "nas-1"
        with pytest.raises(RegistryError, match="taken"):
            await m.registry.rename_node(node.id, "nas")
        with pytest.raises(RegistryError, match="taken"):
            await m.registry.publish("board", board.id, "192.168.1.11")


async def test_a_node_is_found_by_what_people_type(tmp_path):
    async with mesh(tmp_path, suffix="mesh.test") as m:
        node = await m.join("board")
        for text in ("board", "Board", "board.mesh.test", "board.mesh.test.", "1", "100.64.0.1", str(node.ipv6)):
            assert m.registry.find_node(text) == node
        with pytest.raises(RegistryError, match="wayhome node list"):
            m.registry.find_node("boards")
    assert node.ipv6 == IPv6Address("fd7a:115c:a1e0:ab12:4843:cd96:6240:1")


async def test_a_number_is_a_nodes_id_whatever_another_node_is_called(tmp_path):
    async with mesh(tmp_path) as m:
        first, second = await m.join("2"), await m.join("board")
        assert (first.id, second.id) == (1, 2)
        # as a version before this one named it
        m.registry.world.put_node(replace(first, name="2"), m.clock())
        assert m.registry.find_node("2") == second
