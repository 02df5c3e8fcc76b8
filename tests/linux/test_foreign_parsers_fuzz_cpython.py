"""What the kernel tells of other programs' rules, damaged: a BadWire, or something that can be tried all the same."""

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as some

from wayhomed.core import foreign_rules as judging
from wayhomed.linux import legacy_rules, netlink, nft_news, nft_rules
from wayhomed.wire.errors import BadWire

NAMES = (b"meta", b"ct", b"payload", b"immediate", b"bitwise", b"cmp", b"range", b"lookup", b"match", b"target", b"fib")
ATTRIBUTES = some.lists(some.tuples(some.integers(1, 11), some.binary(max_size=40)), max_size=6)


def _attributes(pairs) -> bytes:
    return b"".join(netlink.attribute(kind, value) for kind, value in pairs)


class One(judging.Rules):
    def __init__(self, rule):
        self._rule = rule

    def base_chains(self):
        return [judging.Chain("inet", "t", "c", judging.FORWARD, 0, True)]

    def chain(self, family, table, name):
        return [self._rule]

    def elements(self, family, table, name):
        return None


@given(some.lists(some.tuples(some.sampled_from(NAMES), ATTRIBUTES), max_size=5))
def test_any_rule_is_refused_or_can_be_tried(expressions):
    listed = b"".join(
        netlink.nested(1, netlink.attribute(1, name + b"\0") + netlink.nested(2, _attributes(pairs)))
        for name, pairs in expressions
    )
    message = bytes(4) + netlink.attribute(2, b"c\0") + netlink.attribute(3, bytes(8)) + netlink.nested(4, listed)
    with contextlib.suppress(BadWire, judging.TooMany):
        _chain, rule = nft_rules.decode_rule(message)
        judging.judge(One(rule), judging.Packet(4, ("a", 1), ("b", 2)), judging.FORWARD)


@given(some.binary(max_size=200))
def test_any_bytes_for_a_rule_or_an_element_are_refused_or_read(data):
    with contextlib.suppress(BadWire):
        nft_rules.decode_rule(data)
    with contextlib.suppress(BadWire):
        nft_rules.decode_elements([data])


@given(some.integers(0, 1), some.binary(max_size=600), some.integers(0, 300), some.integers(0, 300))
def test_any_bytes_for_a_table_of_iptables_are_refused_or_read(which, data, target_at, next_at):
    size, head = ((4, 84), (16, 136))[which]
    data = data[: head + 4] + struct.pack("HH", target_at, next_at) + data[head + 4 :]
    with contextlib.suppress(BadWire):
        legacy_rules.decode("legacy ip", "filter", 0, size, {1: 0, 2: 0}, {1: 0, 2: next_at}, data)


@given(some.binary(max_size=300), ATTRIBUTES, some.integers(0, 30))
def test_any_news_are_refused_or_read(data, pairs, kind):
    reader = nft_news.NewsReader("inet", "wayhome")
    with contextlib.suppress(BadWire):
        reader.feed(data)
    message = netlink.encode_message(nft_rules.SUBSYSTEM | kind, 0, 0, b"\x01\0\0\0" + _attributes(pairs))
    with contextlib.suppress(BadWire):
        reader.feed(message)
