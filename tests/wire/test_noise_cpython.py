"""Bytes of any kind against the handshake and the records."""

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.wire import keys, noise
from wayhomed.wire.errors import BadWire

SERVER = keys.new_private(b"\x33" * 32)
EPHEMERAL = keys.new_private(b"\x44" * 32)
A, B = bytes([1]) * 32, bytes([2]) * 32
PRIVATE_KEYS = st.binary(min_size=32, max_size=32).map(keys.new_private)


@given(PRIVATE_KEYS, PRIVATE_KEYS, PRIVATE_KEYS, PRIVATE_KEYS, st.integers(0, 65535))
def test_any_keys_meet(machine, machine_ephemeral, server, server_ephemeral, version):
    client = noise.Initiator(machine, keys.public_of(server), version, machine_ephemeral)
    responded = noise.respond(client.message, server, server_ephemeral)
    assert (responded.version, responded.machine_public) == (version, keys.public_of(machine))
    session = client.response_received(responded.message)
    assert responded.session.feed(session.seal(b"x")) == b"x"
    assert session.handshake_hash == responded.session.handshake_hash


@given(st.binary(max_size=200) | st.binary(min_size=96, max_size=96).map(lambda rest: b"\0\x71\x01\0\x60" + rest))
def test_no_bytes_break_the_responder(data):
    try:
        noise.respond(data, SERVER, EPHEMERAL)
    except BadWire:
        pass


@given(st.binary(max_size=200) | st.binary(min_size=48, max_size=48).map(lambda rest: b"\x02\0\x30" + rest))
def test_no_bytes_break_the_initiator(data):
    client = noise.Initiator(SERVER, keys.public_of(SERVER), 113, EPHEMERAL)
    try:
        client.response_received(data)
    except BadWire:
        pass


@given(st.lists(st.binary(max_size=10_000), max_size=5), st.integers(1, 5_000))
def test_any_stream_arrives_in_any_chunks(parts, chunk):
    ours, theirs = noise.Session(A, B, b""), noise.Session(B, A, b"")
    sealed = b"".join(ours.seal(part) for part in parts)
    got = b"".join(theirs.feed(sealed[i : i + chunk]) for i in range(0, len(sealed), chunk))
    assert got == b"".join(parts)


@given(st.binary(max_size=100), st.binary(max_size=40), st.integers(0, 200))
def test_no_bytes_break_a_session(data, garbage, at):
    ours, theirs = noise.Session(A, B, b""), noise.Session(B, A, b"")
    sealed = ours.seal(data)
    stream = sealed[:at] + garbage + sealed[at:]
    try:
        got = theirs.feed(stream)
    except BadWire:
        return
    assert data.startswith(got)
