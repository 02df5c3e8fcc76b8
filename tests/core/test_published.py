from wayhomed.core.published import KEY, MAX_PUBLISHED, read_published
from wayhomed.wire.address import ip_from_text as ip


def entry(**fields):
    made = {"Name": "nas", "Address4": "100.64.0.50", "Target4": "192.168.1.10"}
    made.update(fields)
    return made


def one(**fields):
    devices, problems = read_published({KEY: [entry(**fields)]})
    assert len(devices) == 1 and not problems, problems
    return devices[0]


def test_a_device_has_an_address_and_a_target_in_each_family():
    device = one(Address6="fd7a:115c:a1e0::50", Target6="fd00:1::10")
    assert device.name == "nas" and device.ports is None
    assert device.pairs == [
        (ip("100.64.0.50"), ip("192.168.1.10")),
        (ip("fd7a:115c:a1e0::50"), ip("fd00:1::10")),
    ]


def test_an_address_without_target_maps_nothing():
    assert one(Address6="fd7a:115c:a1e0::50").pairs == [(ip("100.64.0.50"), ip("192.168.1.10"))]
    assert read_published({KEY: [{"Name": "x", "Address4": "100.64.0.50"}]})[0] == []


def test_ports_are_single_or_ranges():
    assert one(Ports=["tcp:80", "udp:5000-5010"]).ports == [(6, 80, 80), (17, 5000, 5010)]
    assert one(Ports=[]).ports == []


def test_nothing_is_published_without_the_key():
    for cap_map in ({}, {KEY: None}, {KEY: []}):
        assert read_published(cap_map) == ([], [])


def test_an_entry_that_cannot_be_read_publishes_nothing_and_the_others_stay():
    bad = [None, 5, "nas", {}, entry(Name=""), entry(Name=None), entry(Name="n" * 64), entry(Address4="100.64.0.50/32")]
    bad += [entry(Target4="fd00::1"), entry(Address4="fd00::1"), entry(Target4=7), entry(Address4=["1.2.3.4"])]
    for ports in ("tcp:80", ["80"], ["tcp:"], ["tcp:0"], ["tcp:65536"], ["tcp:9-8"], ["icmp:1"], [80], ["tcp:1-2-3"]):
        bad.append(entry(Ports=ports))
    bad += [entry(Ports=["tcp:-1"]), entry(Ports=["tcp:+1"]), entry(Ports=["tcp:1"] * 65), entry(Ports=["tcp:\u0661"])]
    for given in bad:
        devices, problems = read_published({KEY: [given, entry(Name="other", Address4="100.64.0.51")]})
        assert [device.name for device in devices] == ["other"], given
        assert len(problems) == 1 and "is refused" in problems[0]


def test_an_address_is_published_once():
    devices, problems = read_published({KEY: [entry(), entry(Name="thief", Target4="192.168.1.66")]})
    assert [device.name for device in devices] == ["nas"] and len(problems) == 1


def test_a_list_too_long_publishes_nothing():
    for value in ({"a": 1}, "nas", 1, [entry()] * (MAX_PUBLISHED + 1)):
        devices, problems = read_published({KEY: value})
        assert not devices and len(problems) == 1
