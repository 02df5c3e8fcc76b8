"""The demo's picture: who is where, and which way packets take."""

from dataclasses import replace

import pytest

from wayhome.demo import stage
from wayhome.demo.shapes import as_cells
from wayhome.demo.stage import Scene, Way
from wayhome.demo.story import NETWORK
from wayhome.lab import plan

FULL = Scene(
    server="coordinator and relay",
    carrier_nat="a new port for each call",
    home_nat="lets in who was called",
    cafe_nat="lets no UDP through",
    laptop="Tailscale 1.90.9",
    laptop_mesh="100.64.0.11",
    board="wayhomed",
    board_mesh="100.64.0.12",
    nas_mesh="100.64.0.13",
)


@pytest.fixture(scope="module")
def network():
    return plan.load(NETWORK)


def text(drawing):
    return "\n".join("".join(glyph for glyph, _ in row).rstrip() for row in as_cells(drawing))


def styles(drawing):
    return {style for row in as_cells(drawing) for _, style in row}


def test_everybody_is_there_with_the_addresses_of_the_plan(network):
    shown = text(stage.draw(network, Scene()))
    for host in network.hosts.values():
        for link in host.links:
            assert str(link.ipv4[0]) in shown, host.name
    for lan in network.lans.values():
        assert str(lan.ipv4) in shown


def test_what_is_known_later_fits_into_its_box(network):
    rows = text(stage.draw(network, FULL)).splitlines()
    assert max(map(len, rows)) <= 78
    for words in (FULL.server, FULL.carrier_nat, FULL.home_nat, FULL.cafe_nat, FULL.laptop):
        assert any(f"{words} " in row for row in rows)
    for address in (FULL.laptop_mesh, FULL.board_mesh, FULL.nas_mesh):
        (row,) = [row for row in rows if f"mesh {address}" in row]
        assert row.partition(address)[2].lstrip().startswith("│")


def test_the_way_by_the_relay_enters_the_server_and_the_straight_one_passes_below(network):
    assert not {"relay", "direct", "lan"} & styles(stage.draw(network, FULL))
    relayed, direct = (stage.mesh_line(way) for way in (Way.RELAY, Way.DIRECT))
    server = stage.draw(network, FULL).boxes[0]
    inside = [cell for cell in relayed.cells() if server.top < cell[0] < server.bottom]
    assert inside
    assert all(cell[0] > server.bottom for cell in direct.cells())
    for way in (relayed, direct):
        assert way.places[0] == relayed.places[0] and way.places[-1] == relayed.places[-1]
    assert "by the relay" in text(stage.draw(network, replace(FULL, way=Way.RELAY)))
    assert "straight through" in text(stage.draw(network, replace(FULL, way=Way.DIRECT)))


def test_packets_run_along_the_way_from_the_nas_to_the_laptop(network):
    scene = replace(FULL, way=Way.DIRECT)
    drawing = stage.draw(network, scene)
    first, second = (dict(stage.with_packets(drawing, scene, step).packets) for step in (0, 1))
    cells = {*stage.mesh_line(Way.DIRECT).cells(), *stage.lan_line(scene).cells()}
    assert first and first.keys() <= cells and second.keys() <= cells and first != second
    assert not stage.with_packets(drawing, FULL, 0).packets
