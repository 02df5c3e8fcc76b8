"""The devices of a LAN, put together from what is heard; and what a hostile one among them can't do."""

import struct

from shared.expect import raises
from wayhomed.core import leases, scan
from wayhomed.wire import dns, mdns
from wayhomed.wire.errors import BadWire

OWN = b"\x02\0\0\0\0\x01"
NAS, EVIL = b"\x00\x11\x32\xaa\xbb\xcc", b"\x02\0\0\0\0\x66"
NAS_IP, EVIL_IP = b"\xc0\xa8\x01\x14", b"\xc0\xa8\x01\x66"
NAS_IP6 = b"\xfd\0\0\1" + bytes(11) + b"\x14"
HTTP = (b"_http", b"_tcp", b"local")
SSDP = b"HTTP/1.1 200 OK\r\nSERVER: Linux UPnP/1.0 DSM/7\r\n\r\n"


def record(labels, kind, data):
    return dns.encode_name(labels) + struct.pack(">HHIH", kind, 1, 120, len(data)) + data


def answer(*records):
    return struct.pack(">HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def web(host, ip, port=5000):
    """What a device says that offers a web page."""
    instance = (b"Web of " + host,) + HTTP
    data = struct.pack(">HHH", 0, 0, port) + dns.encode_name((host, b"local"))
    return answer(record(instance, 33, data), record((host, b"local"), 1, ip))


def with_nas():
    found = scan.Scan({OWN})
    found.seen("lan0", NAS, NAS_IP, scan.NOW)
    return found


def only(found):
    devices = found.devices()
    assert len(devices) == 1
    return devices[0]


def test_a_device_has_its_addresses_name_model_and_services():
    found = with_nas()
    found.seen("lan0", NAS, NAS_IP6, scan.NOW)
    found.seen("lan0", NAS, b"\xfe\x80" + bytes(13) + b"\x14", scan.NOW)
    found.mdns_received("lan0", NAS_IP, web(b"Annas-NAS", NAS_IP))
    found.ssdp_received("lan0", NAS_IP, SSDP)
    assert only(found).as_json() == {
        "name": "Annas-NAS",
        "names": {"mdns": "Annas-NAS"},
        "model": "Linux UPnP/1.0 DSM/7",
        "mac": "00:11:32:aa:bb:cc",
        "interface": "lan0",
        "addresses": ["192.168.1.20", "fd00:1::14", "fe80::14"],
        "more_addresses": 0,
        "services": [{"kind": "_http._tcp", "port": 5000}],
        "ports": ["tcp:5000"],
        "seen": "now",
        "disputed": False,
        "publish_as": "annas-nas",
    }


def test_this_machine_is_no_device_and_neither_is_a_group():
    found = scan.Scan({OWN})
    found.seen("lan0", OWN, NAS_IP, scan.NOW)
    found.seen("lan0", b"\x01\0\x5e\0\0\xfb", NAS_IP, scan.TABLE)
    found.seen("lan0", bytes(6), NAS_IP, scan.TABLE)
    assert found.devices() == []


def test_nobody_speaks_for_anothers_address():
    found = with_nas()
    found.seen("lan0", EVIL, EVIL_IP, scan.NOW)
    found.mdns_received("lan0", EVIL_IP, web(b"evil", NAS_IP))
    pointer = record(mdns.reverse_name(NAS_IP), dns.PTR, dns.encode_name((b"evil", b"local")))
    found.mdns_received("lan0", EVIL_IP, answer(pointer))
    for device in found.devices():
        assert (device.names, device.services) == ({}, set())


def test_what_comes_from_an_address_that_nobody_has_is_nobodys():
    found = with_nas()
    found.mdns_received("lan0", EVIL_IP, web(b"evil", EVIL_IP))
    found.mdns_received("wan0", NAS_IP, web(b"evil", NAS_IP))
    found.ssdp_received("lan0", EVIL_IP, SSDP)
    assert (only(found).names, only(found).model) == ({}, "")


def test_an_address_that_two_devices_claim_gives_neither_a_name():
    found = with_nas()
    found.seen("lan0", EVIL, NAS_IP, scan.NOW)
    found.seen("lan0", NAS, NAS_IP, scan.NOW)
    found.mdns_received("lan0", NAS_IP, web(b"evil", NAS_IP))
    assert [(device.is_disputed, device.names) for device in found.devices()] == [(True, {}), (True, {})]


def test_who_answers_now_has_the_word_over_what_is_remembered():
    found = scan.Scan({OWN})
    found.seen("lan0", EVIL, NAS_IP, scan.TABLE)
    found.seen("lan0", NAS, NAS_IP, scan.NOW)
    found.seen("lan0", EVIL, NAS_IP, scan.TABLE)
    found.lease_read("lan0", leases.Lease(NAS_IP, EVIL, "evil"))
    assert (only(found).mac, only(found).is_disputed, only(found).names) == (NAS, False, {})


def test_the_first_name_stays():
    found = with_nas()
    found.mdns_received("lan0", NAS_IP, web(b"nas", NAS_IP))
    found.mdns_received("lan0", NAS_IP, web(b"other", NAS_IP))
    assert only(found).name() == "nas"


def test_a_lease_names_a_device_and_shows_one_that_sleeps():
    found = with_nas()
    found.lease_read("lan0", leases.Lease(NAS_IP, NAS, "nas"))
    found.lease_read("lan0", leases.Lease(b"\xc0\xa8\x01\x15", b"\x02\0\0\0\0\x15", "tv"))
    assert [(device.name(), device.seen) for device in found.devices()] == [("nas", "now"), ("tv", "lease")]
    assert [device.mac for device in found.find("NAS")] == [NAS]


def test_other_names_than_a_hosts_of_the_link_are_none():
    found = with_nas()
    found.mdns_received("lan0", NAS_IP, answer(record((b"a", b"b", b"local"), 1, NAS_IP)))
    found.mdns_received("lan0", NAS_IP, answer(record((b"bank", b"example"), 1, NAS_IP)))
    assert only(found).names == {}


def test_a_device_is_asked_for_its_name_until_it_has_told_one():
    found = with_nas()
    asked = found.name_questions("lan0")
    assert asked == [mdns.encode_questions([mdns.reverse_name(NAS_IP)])]
    assert found.name_questions("wan0") == []
    pointer = record((b"20", b"1", b"168", b"192", b"in-addr", b"arpa"), dns.PTR, dns.encode_name((b"nas", b"local")))
    found.mdns_received("lan0", NAS_IP, answer(pointer))
    assert only(found).name() == "nas"
    assert found.name_questions("lan0") == []


def test_kinds_of_service_that_answers_name_are_asked_for_once():
    found = with_nas()
    assert len(found.mdns_questions()) == 1
    assert found.mdns_questions() == []
    kind = record(mdns.all_services(), dns.PTR, dns.encode_name((b"_airplay", b"_tcp", b"local")))
    found.mdns_received("lan0", NAS_IP, answer(kind, kind))
    assert found.mdns_questions() == [mdns.encode_questions([(b"_airplay", b"_tcp", b"local")])]
    assert found.mdns_questions() == []


def test_the_kinds_devices_and_services_that_are_kept_are_limited():
    found = with_nas()
    for n in range(60):
        kind = (b"_k%d" % n, b"_tcp", b"local")
        data = struct.pack(">HHH", 0, 0, 80) + dns.encode_name((b"nas", b"local"))
        told = record(mdns.all_services(), dns.PTR, dns.encode_name(kind))
        found.mdns_received("lan0", NAS_IP, answer(told, record((b"x",) + kind, 33, data)))
    assert len(only(found).services) == scan.MAX_SERVICES
    asked = b"".join(found.mdns_questions())
    assert b"_k30" in asked and b"_k50" not in asked


def test_who_answers_without_end_is_read_no_more():
    found = with_nas()
    for _ in range(64):
        found.mdns_received("lan0", NAS_IP, web(b"nas", NAS_IP))
    raises(BadWire, found.mdns_received, "lan0", NAS_IP, web(b"nas", NAS_IP))
    raises(BadWire, found.ssdp_received, "lan0", NAS_IP, SSDP)


def test_ten_thousand_neighbours_are_counted_and_not_kept():
    found = scan.Scan({OWN})
    for n in range(10_000):
        mac = b"\x02\0\0\0" + struct.pack(">H", n)
        for _ in range(2):
            found.seen("lan0", mac, b"\x0a\0" + struct.pack(">H", n), scan.TABLE)
    assert len(found.devices()) == scan.MAX_DEVICES
    assert abs(found.left_out - (10_000 - scan.MAX_DEVICES)) < 600


def test_a_device_with_very_many_addresses_keeps_a_few():
    found = scan.Scan({OWN})
    for n in range(50):
        found.seen("lan0", NAS, b"\x0a\0\0" + bytes((n,)), scan.NOW)
    assert (len(only(found).addresses), only(found).more_addresses) == (scan.MAX_ADDRESSES, 50 - scan.MAX_ADDRESSES)


def test_a_published_devices_name_is_made_of_whatever_a_device_is_called():
    for told, wanted in (
        ("Anna's NAS", "anna-s-nas"),
        ("\x1b[2J", "2j"),
        ("list", "device-20"),
        ("", "device-20"),
        ("\xe4\xf6", "device-20"),
        ("-a-", "a"),
        ("a" * 80, "a" * 63),
    ):
        found = with_nas()
        found.lease_read("lan0", leases.Lease(NAS_IP, NAS, told))
        assert scan.publish_name(only(found)) == wanted
    nameless = scan.Device(NAS, "lan0", scan.NOW)
    nameless.addresses = [NAS_IP6]
    assert scan.publish_name(nameless) == "device-x"


def test_ports_are_suggested_by_the_services_but_for_the_one_that_is_none():
    services = {("_http._tcp", 80), ("_workstation._tcp", 9), ("_sip._udp", 5060), ("_ipp._tcp", 80)}
    assert scan.suggested_ports(services) == ["tcp:80", "udp:5060"]
