"""Shaped links carry real traffic."""

import re

import pytest

from wayhome.lab import plan
from wayhome.lab.lab import Lab, LabError
from wayhome.lab.plan import Shape

pytestmark = pytest.mark.lab

WIRE = """
[lans.wire]
ipv4 = "203.0.113.0/24"
ipv6 = "2001:db8:1::/64"
[hosts.one]
links.eth0 = { lan = "wire", ipv4 = "203.0.113.1", ipv6 = "2001:db8:1::1", shape = { delay_ms = 20 } }
[hosts.two]
links.eth0 = { lan = "wire", ipv4 = "203.0.113.2", ipv6 = "2001:db8:1::2" }
web = 80
"""


@pytest.fixture(scope="module")
def wire():
    with Lab.up(plan.parse("wire", WIRE)) as lab:
        yield lab


def round_trips(host, address="203.0.113.2", count=3):
    done = host.run(["ping", "-c", str(count), "-i0.01", "-W2", address], check=False)
    return [float(number) for number in re.findall(r"time=([\d.]+) ms", done.stdout)]


def test_no_packet_is_earlier_than_the_delay_allows(wire):
    wire.host("one").shape("eth0", up=Shape(delay_ms=20), down=Shape(delay_ms=30))
    for address in ("203.0.113.2", "2001:db8:1::2"):
        times = round_trips(wire.host("one"), address)
        assert len(times) == 3
        # ping's own clock and ours may differ by a hair
        assert min(times) >= 49.9


def test_a_transfer_arrives_whole_in_both_directions(wire):
    wire.host("one").shape("eth0", up=Shape(delay_ms=1), down=Shape(delay_ms=1))
    got = wire.host("one").run(["curl", "-sS", "http://203.0.113.2/bytes/3000000"]).stdout
    assert len(got) == 3_000_000
    words = ["curl", "-sS", "--data-binary", "@-", "http://203.0.113.2/"]
    assert wire.host("one").run(words, input="x" * 3_000_000).stdout == "3000000\n"


def test_frames_are_of_ethernets_size(wire):
    wire.host("one").shape("eth0")
    before = wire.host("one").read_shaper_counters("eth0")
    wire.host("one").run(["curl", "-sS", "-o", "/dev/null", "http://203.0.113.2/bytes/1460000"])
    after = wire.host("one").read_shaper_counters("eth0")
    assert after["down"]["delivered"] - before["down"]["delivered"] >= 1000


def test_one_direction_can_lose_everything(wire):
    one, two = wire.host("one"), wire.host("two")
    assert round_trips(one)
    one.shape("eth0", up=Shape(loss=1))
    before = two.read_counters()["rx_packets"]
    assert round_trips(one) == []
    assert two.read_counters()["rx_packets"] == before
    assert one.read_shaper_counters("eth0")["up"]["lost"] >= 3
    one.shape("eth0")
    assert round_trips(one)


def test_a_slow_line_drops_what_its_queue_does_not_hold(wire):
    one = wire.host("one")
    # one frame fills the queue for 12 ms
    one.shape("eth0", up=Shape(rate_mbit=1, queue_ms=5))
    before = one.read_shaper_counters("eth0")["up"]["dropped"]
    # one packet in 14 fragments, which the kernel sends at once
    one.run(["ping", "-c1", "-s20000", "-W1", "203.0.113.2"], check=False)
    assert one.read_shaper_counters("eth0")["up"]["dropped"] >= before + 10
    one.shape("eth0")


def test_an_unplugged_shaped_link_comes_back(wire):
    one = wire.host("one")
    one.shape("eth0")
    one.unplug("eth0")
    assert round_trips(one, count=1) == []
    one.plug("eth0")
    assert round_trips(one)


def test_a_link_without_a_shape_cannot_be_shaped(wire):
    with pytest.raises(LabError, match="no shaped link two eth0 in the plan wire"):
        wire.host("two").shape("eth0", up=Shape(loss=1))
    with Lab.up("same-lan") as lab, pytest.raises(LabError, match="no link of the plan same-lan is shaped"):
        lab.host("one").shape("eth0", up=Shape(loss=1))
