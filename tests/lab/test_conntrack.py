"""Reading conntrack's listing."""

from wayhome.lab import conntrack

LISTING = """\
ipv4     2 udp      17 118 src=192.168.1.10 dst=203.0.113.10 sport=41641 dport=3478 packets=3 bytes=120 \
src=203.0.113.10 dst=203.0.113.30 sport=3478 dport=20641 packets=2 bytes=80 [ASSURED] mark=0 use=1
ipv4     2 tcp      6 118 SYN_SENT src=192.168.1.10 dst=203.0.113.10 sport=4000 dport=80 [UNREPLIED] \
src=203.0.113.10 dst=203.0.113.30 sport=80 dport=4000 mark=0 use=1
ipv6     10 icmpv6   58 29 src=2001:db8::1 dst=2001:db8::2 type=128 code=0 id=7 \
src=2001:db8::2 dst=2001:db8::1 type=129 code=0 id=7 mark=0 use=1
conntrack v1.4.7 (conntrack-tools): 3 flow entries have been shown.
"""


def test_both_directions_of_a_flow_are_read():
    flow = conntrack.parse(LISTING)[0]
    assert flow.protocol == "udp"
    assert flow.source == ("192.168.1.10", 41641)
    assert flow.destination == ("203.0.113.10", 3478)
    assert flow.reply_source == ("203.0.113.10", 3478)
    assert flow.reply_destination == ("203.0.113.30", 20641)
    assert (flow.assured, flow.replied, flow.packets, flow.bytes) == (True, True, 3, 120)
    assert (flow.reply_packets, flow.reply_bytes) == (2, 80)


def test_an_unanswered_flow_without_counters_is_read():
    flow = conntrack.parse(LISTING)[1]
    assert (flow.assured, flow.replied, flow.packets, flow.reply_packets) == (False, False, 0, 0)


def test_a_flow_without_ports_has_port_zero():
    flow = conntrack.parse(LISTING)[2]
    assert flow.source == ("2001:db8::1", 0)
    assert flow.protocol == "icmpv6"


def test_lines_that_are_no_flow_are_left_out():
    assert len(conntrack.parse(LISTING)) == 3
    assert conntrack.parse("") == []
