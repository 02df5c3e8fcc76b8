"""Every kind of NAT behaves as it is named; the probe has measured it."""

import itertools
import json
import subprocess
import sys

import pytest

from wayhome.lab import nat
from wayhome.lab.interpreter import python_environment
from wayhome.lab.lab import Lab, LabError
from wayhome.lab.nat import Behaviour, NatKind, Ports
from wayhome.lab.nat_probe import Measured, from_data, measure, probe
from wayhome.lab.pairs import two_homes

STRICT = [kind.name for kind in nat.KINDS.values() if kind.remembers]


def probed(lab, **settings):
    return probe(lab.host("client"), lab.host("public"), **settings)


@pytest.mark.lab
@pytest.mark.parametrize("name", nat.KINDS)
def test_each_kind_measures_as_named(name):
    with Lab.up(f"nat-{name}") as lab:
        measured = probed(lab)
        assert measured.disagreements(nat.KINDS[name]) == []
        assert not measured.hairpin
        assert {address for address, _ in measured.outside} == {lab.host("router").address("wan")}


@pytest.mark.lab
@pytest.mark.parametrize("name", STRICT)
def test_two_inside_hosts_with_one_port_keep_mappings_of_their_own(name):
    with Lab.up(f"nat-{name}") as lab:
        seen = []
        for host in ("client", "neighbour"):
            measured = probe(lab.host(host), lab.host("public"), local_port=41641)
            assert measured.mapping is Behaviour.ENDPOINT_INDEPENDENT
            assert measured.filtering is nat.KINDS[name].filtering
            seen += set(measured.outside)
        assert len(set(seen)) == 2


@pytest.mark.lab
def test_the_same_inside_endpoint_keeps_its_outside_port_at_a_carrier():
    with Lab.up("nat-carrier") as lab:
        assert probed(lab, local_port=41641).outside == probed(lab, local_port=41641).outside


@pytest.mark.lab
def test_a_symmetric_nat_draws_ports_that_tell_nothing():
    with Lab.up("nat-symmetric") as lab:
        ports = [port for _ in range(3) for _, port in probed(lab, local_port=41641).outside]
    assert len(set(ports)) > 1
    steps = {later - earlier for earlier, later in itertools.pairwise(ports)}
    assert len(steps) > 2


@pytest.mark.lab
def test_a_home_behind_a_carrier_measures_as_the_stricter_of_both():
    with Lab.up("nat-cgnat") as lab:
        measured = probed(lab)
        assert measured.mapping is Behaviour.ENDPOINT_INDEPENDENT
        assert measured.filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT
        assert not measured.ports_preserved
        assert {address for address, _ in measured.outside} == {"203.0.113.20"}
        sources = {flow.source[0] for flow in lab.host("carrier").read_conntrack()}
        assert sources == {"100.64.18.20"}


@pytest.mark.lab
def test_a_hairpinning_nat_shows_its_hosts_to_each_other_as_from_outside():
    with Lab.up("nat-hairpin") as lab:
        measured = probed(lab)
        assert measured.hairpin
        assert measured.hairpin_from_outside
        assert measured.disagreements(nat.KINDS["full-cone"]) == []


@pytest.mark.lab
def test_blocked_udp_measures_as_none_while_tcp_passes():
    with Lab.up("nat-udp-blocked") as lab:
        assert not probed(lab).udp
        assert lab.host("router").read_firewall_counters()["blocked_udp"][0] > 0
        server = [sys.executable, "-m", "wayhome.lab.services", "web", "80"]
        with lab.host("public").popen(server, stdout=subprocess.PIPE, env=python_environment()) as process:
            process.stdout.readline()
            page = lab.host("client").run(["curl", "-sS", "http://203.0.113.10/"]).stdout
            process.kill()
        assert page.endswith("you are 203.0.113.30\n")


@pytest.mark.lab
def test_ipv6_is_not_translated_but_filtered():
    with Lab.up("story-ipv6") as lab:
        measured = probe(lab.host("traveller"), lab.host("coordinator"), family=6)
        assert {address for address, _ in measured.outside} == {lab.host("traveller").address(family=6)}
        assert measured.filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT


@pytest.mark.lab
def test_udp_can_be_blocked_and_let_through_while_the_lab_runs():
    with Lab.up("nat-full-cone") as lab:
        router = lab.host("router")
        assert probed(lab).udp
        router.block_udp()
        assert not probed(lab).udp
        router.unblock_udp()
        assert probed(lab).disagreements(nat.KINDS["full-cone"]) == []


@pytest.mark.lab
def test_udp_can_be_blocked_to_one_address_alone():
    with Lab.up("nat-linux") as lab:
        lab.host("router").block_udp(to="198.51.100.7")
        assert probed(lab).udp
        lab.host("router").block_udp(to="203.0.113.10")
        assert not probed(lab).udp


@pytest.mark.lab
def test_only_a_router_has_rules_to_change():
    with Lab.up("nat-linux") as lab, pytest.raises(LabError, match="client is no router"):
        lab.host("client").block_udp()


@pytest.mark.lab
@pytest.mark.parametrize("name", ["linux", "full-cone", "address-restricted", "carrier"])
def test_a_new_uplink_address_is_used_at_once_and_old_mappings_are_gone(name):
    with Lab.up(f"nat-{name}") as lab:
        router = lab.host("router")
        probed(lab, local_port=41641)
        router.change_address("wan", "203.0.113.99")
        assert router.read_conntrack() == []
        measured = probed(lab, local_port=41641)
        assert measured.disagreements(nat.KINDS[name]) == []
        assert {address for address, _ in measured.outside} == {"203.0.113.99"} == {router.address("wan")}


@pytest.mark.lab
def test_a_pair_of_homes_stands_as_described():
    with Lab.up(two_homes("symmetric", "full-cone")) as lab:
        for side, kind in (("left", "symmetric"), ("right", "full-cone")):
            measured = probe(lab.host(side), lab.host("coordinator"))
            assert measured.disagreements(nat.KINDS[kind]) == []


# -- the probe itself, without a NAT


@pytest.mark.lab
def test_without_a_nat_the_probe_finds_none():
    with Lab.up("story") as lab:
        measured = probe(lab.host("laptop"), lab.host("coordinator"))
    assert measured.mapping is measured.filtering is Behaviour.ENDPOINT_INDEPENDENT
    assert set(measured.outside) == {measured.inside}


def test_a_measurement_survives_its_trip_as_json():
    measured = Measured(
        udp=True,
        mapping=Behaviour.ADDRESS_DEPENDENT,
        filtering=Behaviour.ENDPOINT_INDEPENDENT,
        inside=("192.168.1.10", 5),
        outside=(("203.0.113.1", 6),) * 4,
    )
    assert from_data(json.loads(json.dumps(measured.as_data()))) == measured
    assert from_data(json.loads(json.dumps(Measured(udp=False).as_data()))) == Measured(udp=False)


def test_disagreements_are_told_in_words():
    kind = NatKind("x", Behaviour.ENDPOINT_INDEPENDENT, Behaviour.ADDRESS_DEPENDENT, Ports.PRESERVED, "")
    measured = Measured(udp=True, mapping=Behaviour.ADDRESS_DEPENDENT, filtering=Behaviour.ADDRESS_DEPENDENT)
    assert measured.disagreements(kind) == [
        "the mapping is address-dependent, not endpoint-independent",
        "ports are changed, not preserved",
    ]
    assert Measured(udp=False).disagreements(kind) == ["UDP does not pass"]


def test_a_reflector_that_is_not_there_is_no_udp():
    # loopback refuses at once by ICMP, which is an answer too
    assert measure(("127.0.0.1", "127.0.0.2")) == Measured(udp=False)


def test_forgetting_names_every_table_of_the_kind():
    for kind in nat.KINDS.values():
        text = nat.ruleset(kind, uplink="wan")
        for line in nat.forget_text(kind).splitlines():
            _, what, _, _, name = line.split()
            assert f"{what} {name} {{" in text
        assert nat.forget_text(kind).count("\n") == text.count("flags dynamic")
