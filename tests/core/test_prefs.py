"""The owner's settings."""

import json

from shared.expect import raises
from wayhomed.core.prefs import MAX_ROUTES, Prefs, changed
from wayhomed.wire.errors import BadWire


def test_only_what_is_named_changes():
    one = changed(Prefs(), {"LoginServer": "https://mesh.example.net/", "AcceptRoutes": True})
    two = changed(one, {"Hostname": "Attic-Board"})
    assert two.login_server == "https://mesh.example.net"
    assert two.accept_routes
    assert two.snat
    assert two.hostname == "attic-board"
    assert one.hostname == ""


def test_what_is_written_reads_back_the_same():
    one = changed(
        Prefs(),
        {
            "LoginServer": "http://192.0.2.1:8080",
            "Hostname": "b",
            "AdvertiseRoutes": ["192.168.1.0/24", "fd00:1::/64", "192.168.1.0/24"],
            "AcceptRoutes": True,
            "SNAT": False,
            "SNATExcept": ["192.168.1.0/24", "fd00:1::/64", "192.168.1.0/24"],
            "LANToMesh": True,
            "MTU": 1420,
            "LANDNS": True,
            "LANDNSPort": 5353,
            "WantRunning": True,
        },
    )
    assert one.advertise_routes == [(b"\xc0\xa8\x01\x00", 24), (b"\xfd\x00\x00\x01" + bytes(12), 64)]
    assert one.snat_except == one.advertise_routes and one.lan_to_mesh and one.mtu_bytes == 1420
    assert one.lan_dns and one.lan_dns_port == 5353
    again = changed(Prefs(), json.loads(json.dumps(one.as_json())))
    assert again.as_json() == one.as_json()


def test_what_makes_no_sense_is_refused_in_words():
    for fields in (
        {"LoginServer": "mesh"},
        {"LoginServer": 5},
        {"Hostname": "a b"},
        {"Hostname": "-a"},
        {"Hostname": "a" * 64},
        {"AdvertiseRoutes": "192.168.1.0/24"},
        {"AdvertiseRoutes": ["192.168.1.1/24"]},
        {"AdvertiseRoutes": [5]},
        {"AdvertiseRoutes": ["192.168.1.0/24"] * (MAX_ROUTES + 1)},
        {"AcceptRoutes": 1},
        {"SNAT": "yes"},
        {"SNATExcept": "192.168.1.0/24"},
        {"SNATExcept": ["192.168.1.1/24"]},
        {"SNATExcept": ["192.168.1.0/24"] * (MAX_ROUTES + 1)},
        {"LANToMesh": 1},
        {"LANDNS": 1},
        {"LANDNSPort": 0},
        {"LANDNSPort": 65536},
        {"LANDNSPort": "53"},
        {"LANDNSPort": True},
        {"MTU": 1279},
        {"MTU": 1921},
        {"MTU": "1420"},
        {"MTU": True},
        {"WantRunning": None},
        {"Colour": "blue"},
    ):
        raises(BadWire, changed, Prefs(), fields)


def test_a_route_with_host_bits_says_how_to_write_it():
    error = raises(BadWire, changed, Prefs(), {"AdvertiseRoutes": ["192.168.1.1/24"]})
    assert "192.168.1.1/24" in str(error)
    assert "write it as" in str(error)


def test_a_route_that_no_tunnel_may_have_is_refused_with_its_reason():
    for text, reason in (
        ("0.0.0.0/0", "exit node"),
        ("::/0", "exit node"),
        ("100.64.0.0/10", "the mesh's own"),
        ("100.64.5.0/24", "the mesh's own"),
        ("100.0.0.0/8", "the mesh's own"),
        ("fd7a:115c:a1e0::/48", "the mesh's own"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
    ):
        error = raises(BadWire, changed, Prefs(), {"AdvertiseRoutes": [text]})
        assert text in str(error) and reason in str(error), error
