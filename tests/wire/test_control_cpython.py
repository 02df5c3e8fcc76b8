"""Bytes of any kind against the upgrade, the early payload, map frames and HTTP/1.1; json's own opinion."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.expect import raises
from wayhomed.wire import control, http1
from wayhomed.wire.errors import BadWire

CUTS = st.lists(st.integers(0, 400), max_size=5)


def outcome(make, stream, cuts):
    """Return what a reader gave for the stream cut there: all its results joined, or None for BadWire."""
    reader = make()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    results = []
    try:
        for a, b in itertools.pairwise(edges):
            results.append(reader.feed(stream[a:b]))
    except BadWire:
        return None
    return results, reader


@pytest.mark.parametrize("text", ["{", '{"a":1,}', '{"nodeKeyChallenge" "x"}', "[" * 100_000, '{"a":1} x'])
def test_broken_json_in_an_early_payload_is_refused(text):
    payload = text.encode()[: control.MAX_EARLY_PAYLOAD_BYTES]
    stream = control.EARLY_PAYLOAD_MAGIC + len(payload).to_bytes(4, "big") + payload
    raises(BadWire, control.EarlyPayloadReader().feed, stream)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)), CUTS)
def test_any_json_as_early_payload_gives_the_same_however_it_was_cut(message, cuts):
    payload = json.dumps(message).encode()
    stream = control.EARLY_PAYLOAD_MAGIC + len(payload).to_bytes(4, "big") + payload + b"rest"
    cut, whole = (outcome(control.EarlyPayloadReader, stream, where) for where in (cuts, []))
    if whole is None:
        assert cut is None
    else:
        assert b"".join(cut[0]) == b"".join(whole[0]) == b"rest"


@given(st.binary(max_size=100), st.booleans(), CUTS)
def test_no_bytes_break_the_early_payload_reader(data, magic, cuts):
    stream = control.EARLY_PAYLOAD_MAGIC + data if magic else data
    cut, whole = (outcome(control.EarlyPayloadReader, stream, where) for where in (cuts, []))
    assert (cut is None) == (whole is None)
    if cut:
        assert b"".join(cut[0]) == b"".join(whole[0])


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5), CUTS)
def test_map_frames_come_back_however_they_were_cut(payloads, cuts):
    stream = b"".join(control.encode_map_frame(payload) for payload in payloads)
    results, _ = outcome(lambda: control.MapFrameDecoder(100), stream, cuts)
    assert list(itertools.chain(*results)) == payloads


@given(st.binary(max_size=100), CUTS)
def test_no_bytes_break_the_map_frame_decoder(stream, cuts):
    cut, whole = (outcome(lambda: control.MapFrameDecoder(20), stream, where) for where in (cuts, []))
    assert (cut is None) == (whole is None)
    if cut:
        assert list(itertools.chain(*cut[0])) == list(itertools.chain(*whole[0]))


@given(st.text(max_size=150) | st.text(alphabet="abAB01+/=-", min_size=136, max_size=136))
def test_no_text_breaks_the_handshake_header(text):
    try:
        assert len(control.decode_handshake_header(text)) == 101
    except BadWire:
        pass


HTTP_PIECES = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK", b"HTTP/1.1 101 X", b"HTTP/1.0 404", b"\r\n", b"\r\n\r\n", b"Content-Length: 3",
            b"x", b"3", b"Transfer-Encoding: chunked", b"Upgrade: tailscale-control-protocol", b"abc", b"0",
            b"\xff", b": ", b"\n",
        ]
    )
    | st.binary(max_size=5),
    max_size=15,
).map(b"".join)  # fmt: skip


@given(HTTP_PIECES, CUTS)
def test_no_bytes_break_the_http_reader_and_cuts_change_nothing(stream, cuts):
    cut, whole = (outcome(lambda: http1.ResponseReader(50), stream, where) for where in (cuts, []))
    assert (cut is None) == (whole is None)
    if cut:
        ours, other = cut[1], whole[1]
        assert (ours.done, ours.status, ours.headers, ours.body) == (
            other.done,
            other.status,
            other.headers,
            other.body,
        )


@given(HTTP_PIECES)
def test_no_bytes_break_the_upgrade_reader(stream):
    try:
        control.UpgradeResponseReader().feed(stream)
    except BadWire:
        pass
