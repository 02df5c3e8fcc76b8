from wayhomed.core import ranges
from wayhomed.core.ranges import Ranges, single
from wayhomed.wire.address import ip_from_text as ip
from wayhomed.wire.address import prefix_from_text


def span(text):
    low, high = text.split("-")
    return ip(low), ip(high)


def test_ranges_that_overlap_become_one():
    made = Ranges([span("10.0.0.5-10.0.0.9"), span("10.0.0.1-10.0.0.5"), span("10.0.0.20-10.0.0.30")])
    assert made.v4 == [span("10.0.0.1-10.0.0.9"), span("10.0.0.20-10.0.0.30")]
    assert Ranges([span("10.0.0.1-10.0.0.9"), single(ip("10.0.0.3"))]).v4 == [span("10.0.0.1-10.0.0.9")]


def test_families_are_kept_apart():
    made = Ranges([single(ip("10.0.0.1")), single(ip("fd00::1"))])
    assert (len(made.v4), len(made.v6)) == (1, 1)
    assert made.contains(ip("10.0.0.1")) and not made.contains(ip("10.0.0.2")) and not made.contains(ip("fd00::2"))


def test_a_prefix_is_its_first_to_its_last_address():
    assert ranges.of_prefix(prefix_from_text("192.168.1.0/24")) == span("192.168.1.0-192.168.1.255")
    assert ranges.of_prefix(prefix_from_text("fd7a::/126")) == span("fd7a::-fd7a::3")
    assert ranges.of_prefix(prefix_from_text("0.0.0.0/0")) == ranges.EVERYTHING[0]
    assert ranges.of_prefix(prefix_from_text("10.0.0.1")) == single(ip("10.0.0.1"))


def test_intersection_keeps_what_both_have():
    a = Ranges([span("10.0.0.1-10.0.0.9"), span("10.0.0.20-10.0.0.30"), single(ip("fd00::1"))])
    b = Ranges([span("10.0.0.5-10.0.0.25"), ranges.EVERYTHING[1]])
    assert a.intersection(b).v4 == [span("10.0.0.5-10.0.0.9"), span("10.0.0.20-10.0.0.25")]
    assert a.intersection(b).v6 == a.v6
    assert not a.intersection(Ranges())


def test_a_hole_is_cut_anywhere():
    made = Ranges([span("10.0.0.1-10.0.0.3")])
    assert made.without(ip("10.0.0.1")).v4 == [span("10.0.0.2-10.0.0.3")]
    assert made.without(ip("10.0.0.2")).v4 == [single(ip("10.0.0.1")), single(ip("10.0.0.3"))]
    assert made.without(ip("10.0.0.3")).v4 == [span("10.0.0.1-10.0.0.2")]
    assert made.without(ip("10.0.0.4")).v4 == made.v4
    assert not Ranges([single(ip("10.0.0.1"))]).without(ip("10.0.0.1"))
    whole = Ranges(ranges.EVERYTHING)
    assert whole.without(bytes(4)).v4 == [span("0.0.0.1-255.255.255.255")]
    assert whole.without(b"\xff" * 16).v6 == [(bytes(16), b"\xff" * 15 + b"\xfe")]
