"""The netmap against anything at all: it takes a response whole, or refuses it and stays as it was."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.test_netmap import RELAYS, first, node, started
from shared.map_message import described, kept, take
from wayhomed.core.map_response import MAX_MESSAGE_BYTES, Response, ResponseReader, read_response
from wayhomed.core.netmap import Netmap
from wayhomed.wire.errors import BadWire

FIELDS = [
    "KeepAlive", "PingRequest", "Node", "DERPMap", "Peers", "PeersChanged", "PeersRemoved", "PeersChangedPatch",
    "PeerSeenChange", "OnlineChange", "DNSConfig", "Domain", "PacketFilter", "PacketFilters", "UserProfiles", "Health",
    "ControlTime", "Debug",
]  # fmt: skip
NODE_FIELDS = [*node(1), "DERP", "KeyExpiry", "LastSeen", "Endpoints", "Tags", "PrimaryRoutes", "CapMap", "Expired"]

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
ids = st.integers(1, 6)
odd_node = st.builds(
    lambda node_id, name, value: {**node(node_id), name: value}, ids, st.sampled_from(NODE_FIELDS), any_json
)
good_node = st.builds(node, ids)
patch = st.fixed_dictionaries(
    {"NodeID": ids},
    optional={
        "Online": st.booleans(),
        "DERPRegion": st.integers(0, 70000),
        "Endpoints": st.lists(st.sampled_from(["192.0.2.1:1", "[2001:db8::1]:9", "nonsense"]), max_size=3),
        "Cap": st.integers(0, 200),
        "KeyExpiry": st.sampled_from(["2027-05-01T00:00:00Z", "never"]),
    },
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "Node": good_node | odd_node,
        "Peers": st.lists(good_node | odd_node, max_size=4),
        "PeersChanged": st.lists(good_node | odd_node, max_size=4),
        "PeersRemoved": st.lists(ids, max_size=4),
        "PeersChangedPatch": st.lists(patch, max_size=4),
        "OnlineChange": st.dictionaries(ids.map(str), st.booleans(), max_size=3),
        "PacketFilters": st.dictionaries(st.sampled_from(["base", "a", "*"]), st.none() | st.just([{}]), max_size=3),
        "DERPMap": st.sampled_from([RELAYS, {}, {"Regions": {}}]),
        "Domain": st.text(max_size=5),
    },
)
anything = st.dictionaries(st.sampled_from(FIELDS), any_json, max_size=5)


@settings(deadline=None, max_examples=400)
@given(st.lists(likely | anything, max_size=5))
def test_a_response_is_taken_whole_or_not_at_all(responses):
    netmap = started()
    for response in responses:
        before = described(netmap)
        try:
            difference = take(netmap, response)
        except BadWire:
            assert described(netmap) == before
        else:
            if not difference.anything():
                assert described(netmap) == before
            # what we hold is always fit to be kept on disk and read again
            again = Netmap()
            again.apply(read_response(kept(netmap)))
            assert kept(again) == kept(netmap)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | any_json.map(lambda value: json.dumps(value).encode()))
def test_any_payload_is_an_object_or_refused(payload):
    try:
        assert isinstance(read_response(payload), Response)
    except BadWire:
        pass


@settings(deadline=None, max_examples=200)
@given(likely, likely)
def test_two_differences_in_one_stream_end_where_one_full_list_would(one, two):
    """Whatever the deltas were, a complete Peers list at the end decides alone."""
    netmap = started()
    for response in (one, two):
        try:
            take(netmap, response)
        except BadWire:
            pass
    take(netmap, {"Peers": first()["Peers"]})
    assert sorted(netmap.peers) == [2, 3]


def test_a_message_over_the_limit_is_refused_though_it_says_nothing():
    reader = ResponseReader()
    reader.feed(b'{"Unknown":"')
    for _ in range(MAX_MESSAGE_BYTES // 65_536 - 1):
        reader.feed(b"x" * 65_536)
    with pytest.raises(BadWire, match="bytes"):
        reader.feed(b"x" * 65_536)


def test_a_value_over_the_limit_is_refused_before_it_is_held():
    with pytest.raises(BadWire, match="value of more than"):
        read_response(b'{"Domain":"' + b"x" * 600_000 + b'"}')


@settings(deadline=None, max_examples=300)
@given(anything | likely, st.lists(st.integers(0, 400), max_size=6))
def test_any_response_reads_the_same_however_it_was_cut(response, cuts):
    payload = json.dumps(response).encode()

    def outcome(pieces):
        netmap = started()
        reader = ResponseReader(netmap.peers)
        try:
            for piece in pieces:
                reader.feed(piece)
            netmap.apply(reader.close())
        except BadWire as error:
            return str(error)
        return described(netmap)

    places = sorted({0, len(payload), *(cut for cut in cuts if cut < len(payload))})
    assert outcome([payload]) == outcome([payload[a:b] for a, b in itertools.pairwise(places)])
