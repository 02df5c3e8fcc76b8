"""Suffixes whose names are asked of resolvers of their own."""

import pytest

from coordinator.rig import mesh
from wayhome.coordinator.registry import NotFound, RegistryError
from wayhome.coordinator.split_dns import RESOLVERS_MAX, SUFFIXES_MAX


async def test_every_client_is_told_of_a_suffix_at_once_and_of_its_end(tmp_path):
    async with mesh(tmp_path) as m:
        laptop = await m.join()
        client = m.watch(laptop)
        before = m.map(laptop)["DNSConfig"]
        assert await m.registry.set_split_dns("Home.Example.", ["192.168.1.1", "fd00:1::1"]) == "home.example"
        assert set(client.catch_up()) == {"DNSConfig"}
        routes = client.kept["DNSConfig"]["Routes"]
        assert routes["home.example"] == [{"Addr": "192.168.1.1"}, {"Addr": "fd00:1::1"}]
        assert routes["wayhome.internal"] == []
        assert await m.registry.drop_split_dns("home.example") == ("192.168.1.1", "fd00:1::1")
        client.catch_up()
        assert client.kept["DNSConfig"] == before == m.map(laptop)["DNSConfig"]


async def test_a_suffix_outlasts_a_restart(tmp_path):
    async with mesh(tmp_path) as m:
        await m.registry.set_split_dns("home.example", ["192.168.1.1"])
        await m.registry.set_split_dns("home.example", ["192.168.1.2:5353", "[fd00::1]:5353", "192.168.1.2:5353"])
    async with mesh(tmp_path) as m:
        assert dict(m.registry.split_dns) == {"home.example": ("192.168.1.2:5353", "[fd00::1]:5353")}


@pytest.mark.parametrize(
    ("suffix", "resolver", "reason"),
    [
        ("wayhome.internal", "192.168.1.1", "the mesh's own"),
        ("internal", "192.168.1.1", "the mesh's own"),
        ("com", "192.168.1.1", "public DNS"),
        (".", "192.168.1.1", "cannot be a DNS suffix"),
        ("a..b", "192.168.1.1", "cannot be a DNS suffix"),
        ("home.example", "router", "no resolver"),
        ("home.example", "", "no resolver"),
        ("home.example", "https://dns.example/", "no resolver"),
        ("home.example", "192.168.1.1:x", "no resolver"),
        ("home.example", "[fd00::1]", "no resolver"),
        ("home.example", "192.168.1.1:0", "no other device can ask"),
        ("home.example", "192.168.1.1:65536", "no other device can ask"),
        ("home.example", "127.0.0.1", "no other device can ask"),
        ("home.example", "fe80::1", "no other device can ask"),
        ("home.example", "0.0.0.0", "no other device can ask"),
    ],
)
async def test_what_would_harm_or_help_nobody_is_refused(tmp_path, suffix, resolver, reason):
    async with mesh(tmp_path) as m:
        with pytest.raises(RegistryError, match=reason):
            await m.registry.set_split_dns(suffix, [resolver])
        assert not m.registry.split_dns


async def test_there_are_limits(tmp_path):
    async with mesh(tmp_path) as m:
        for resolvers in ([], [f"192.168.1.{number}" for number in range(RESOLVERS_MAX + 1)]):
            with pytest.raises(RegistryError, match="1 to 8 resolvers"):
                await m.registry.set_split_dns("home.example", resolvers)
        for number in range(SUFFIXES_MAX):
            await m.registry.set_split_dns(f"s{number}.example", ["192.168.1.1"])
        with pytest.raises(RegistryError, match="remove one first"):
            await m.registry.set_split_dns("home.example", ["192.168.1.1"])
        await m.registry.set_split_dns("s0.example", ["192.168.1.2"])


async def test_what_is_not_there_is_not_taken_away(tmp_path):
    async with mesh(tmp_path) as m:
        with pytest.raises(NotFound, match="dns split list"):
            await m.registry.drop_split_dns("home.example")
