"""HTTP/2 of the control connection: whole requests out, limits kept, floods ended, whatever was cut or broken."""

import struct
from collections.abc import Iterable

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhome.coordinator.http2_session import (
    CONCURRENT_STREAMS,
    Allowance,
    Gone,
    Http2Fault,
    Http2Session,
    Request,
    TooLarge,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = [(":method", "POST"), (":scheme", "https"), (":authority", "h"), (":path", "/machine/map")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


SETTINGS = frame(4, 0, 0)


def client(**settings_: int) -> h2.connection.H2Connection:
    made = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
    made.initiate_connection()
    return made


def requests(events: list[object]) -> list[Request]:
    return [event for event in events if isinstance(event, Request)]


def test_the_first_bytes_are_settings_before_the_client_has_said_anything():
    first = Http2Session(0.0).data_to_send()
    assert first[3] == 4 and struct.unpack(">I", first[5:9])[0] == 0


def one_request(extra: list[tuple[str, str]] | None = None) -> bytes:
    c = client()
    c.send_headers(1, HEAD + (extra or []))
    c.send_data(1, b"x" * 900, end_stream=True)
    return c.data_to_send()


def test_a_request_is_the_same_however_the_bytes_were_cut():
    sent = one_request()
    for cut in range(len(sent)):
        session = Http2Session(0.0)
        events = session.receive(sent[:cut], 0.0) + session.receive(sent[cut:], 0.0)
        assert requests(events) == [Request(1, "POST", "/machine/map", {}, b"x" * 900)]


@pytest.mark.parametrize("path", ["https://other:1/machine/map", "/machine/map?x=1", "*"])
def test_targets_and_hosts_are_taken_as_they_come(path: str):
    c = client()
    c.send_headers(1, [*HEAD[:3], (":path", path), ("host", "another.example")], end_stream=True)
    (request,) = requests(Http2Session(0.0).receive(c.data_to_send(), 0.0))
    assert request.target == path and request.headers["host"] == "another.example"


def exchange(session: Http2Session, c: h2.connection.H2Connection) -> list[h2.events.Event]:
    return c.receive_data(session.data_to_send())


@pytest.mark.parametrize("method", ["CONNECT", ""])
def test_connect_and_nothing_are_refused(method: str):
    c = client()
    c.send_headers(1, [(":method", method), *HEAD[1:]], end_stream=True)
    session = Http2Session(0.0)
    assert requests(session.receive(c.data_to_send(), 0.0)) == []
    (answer,) = [e for e in exchange(session, c) if isinstance(e, h2.events.ResponseReceived)]
    assert dict(answer.headers)[b":status"] in (b"405", b"400")


def test_a_large_answer_goes_out_as_the_windows_allow():
    c = client()
    c.send_headers(1, HEAD, end_stream=True)
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 0.0)
    body = bytes(range(256)) * 1024
    session.respond(1, 200, body)
    got = bytearray()
    for _ in range(100):
        for event in exchange(session, c):
            if isinstance(event, h2.events.DataReceived):
                got += event.data
                c.acknowledge_received_data(event.flow_controlled_length, 1)
            assert not isinstance(event, h2.events.StreamReset)
        session.receive(c.data_to_send(), 0.0)
    assert bytes(got) == body and session.unsent(1) == 0


def test_one_stream_without_a_window_does_not_hold_up_another():
    c = client()
    c.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    c.send_headers(1, HEAD, end_stream=True)
    c.send_headers(3, HEAD, end_stream=True)
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 0.0)
    session.respond(1, 200, b"a" * 100)
    session.respond(3, 200, b"b" * 10)
    ended = [e.stream_id for e in exchange(session, c) if isinstance(e, h2.events.StreamEnded)]
    assert ended == [3] and session.unsent(1) == 90


def test_nothing_is_sent_while_the_transport_is_full():
    c = client()
    c.send_headers(1, HEAD, end_stream=True)
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 0.0)
    exchange(session, c)
    session.held = True
    session.start(1, 200, "application/json")
    session.send(1, b"x" * 100)
    session.data_to_send()
    assert session.unsent(1) == 100
    session.held = False
    session.pump()
    assert session.unsent(1) == 0 and b"x" * 100 in session.data_to_send()


def test_a_client_that_resets_its_stream_before_the_answer_is_tolerated():
    c = client()
    c.send_headers(1, HEAD, end_stream=True)
    c.reset_stream(1)
    session = Http2Session(0.0)
    events = session.receive(c.data_to_send(), 0.0)
    assert Gone(1) in events
    session.respond(1, 200, b"too late")
    session.start(1, 200, "x")
    session.send(1, b"x")
    session.end(1)
    c.send_headers(3, HEAD, end_stream=True)
    assert len(requests(session.receive(c.data_to_send(), 0.0))) == 1


def test_a_body_over_the_limit_is_answered_413_and_the_connection_goes_on():
    c = client()
    session = Http2Session(0.0, body_bytes=10_000)
    c.send_headers(1, HEAD)
    c.send_data(1, b"x" * 9_000)
    c.send_data(1, b"x" * 9_000)
    c.send_headers(3, [*HEAD, ("content-length", "999999999999")])
    c.send_headers(5, HEAD, end_stream=True)
    events = session.receive(c.data_to_send(), 0.0)
    assert [e.stream for e in events if isinstance(e, TooLarge)] == [1, 3]
    assert [e.stream for e in requests(events)] == [5]
    answers = [e for e in exchange(session, c) if isinstance(e, h2.events.ResponseReceived)]
    assert {dict(a.headers)[b":status"] for a in answers} == {b"413"}


def test_all_sessions_share_what_unfinished_bodies_may_hold():
    allowance = Allowance(20_000)
    sessions = [Http2Session(0.0, allowance=allowance) for _ in range(3)]
    answers = []
    for session in sessions:
        c = client()
        c.send_headers(1, HEAD)
        c.send_data(1, b"x" * 9_000)
        session.receive(c.data_to_send(), 0.0)
        answers += [e for e in exchange(session, c) if isinstance(e, h2.events.ResponseReceived)]
    assert [dict(a.headers)[b":status"] for a in answers] == [b"503"]
    for session in sessions:
        session.lost()
    assert allowance.left == 20_000


def test_many_streams_at_once_are_fine_and_too_many_end_the_connection():
    c = client()
    session = Http2Session(0.0)
    sent = PREFACE + SETTINGS
    head = c.encoder.encode(HEAD)
    for number in range(CONCURRENT_STREAMS):
        sent += frame(1, 4, 2 * number + 1, c.encoder.encode(HEAD) if number else head)
    session.receive(sent, 0.0)
    with pytest.raises(Http2Fault):
        session.receive(frame(1, 4, 2 * CONCURRENT_STREAMS + 1, c.encoder.encode(HEAD)), 0.0)


def taken(session: Http2Session, pieces: Iterable[bytes]) -> int:
    """Return how many pieces the session took at one moment before it ended the connection."""
    count = 0
    for piece in pieces:
        try:
            session.receive(piece, 0.0)
        except Http2Fault:
            break
        count += 1
    return count


def flood(piece: bytes, pieces: int, seconds_between: float = 0.0) -> int:
    """Return how many pieces were taken before the session ended the connection."""
    session = Http2Session(0.0)
    session.receive(PREFACE + SETTINGS, 0.0)
    for number in range(pieces):
        try:
            session.receive(piece, number * seconds_between)
        except Http2Fault:
            assert b"\x07" in session.data_to_send()  # GOAWAY
            return number
    return pieces


@pytest.mark.parametrize(
    "piece",
    [
        frame(6, 0, 0, b"8 bytes!"),
        SETTINGS,
        frame(4, 0, 0, struct.pack(">HI", 4, 65_535)),
        frame(2, 0, 1, b"\0\0\0\0\0"),
        frame(8, 0, 0, b"\0\0\0\1"),
        frame(0x42, 0, 0, b""),
    ],
    ids=["ping", "settings", "window setting", "priority", "window update", "unknown"],
)
def test_floods_of_control_frames_are_ended(piece: bytes):
    assert flood(piece, 5_000) < 3_000
    assert flood(piece, 1_000, seconds_between=0.5) == 1_000


def test_rapid_reset_is_ended():
    c = client()
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 0.0)

    def reset_one(number: int) -> bytes:
        c.send_headers(2 * number + 1, HEAD, end_stream=True)
        c.reset_stream(2 * number + 1)
        return c.data_to_send()

    assert taken(session, (reset_one(number) for number in range(1_000))) < 200


def test_empty_data_frames_are_ended():
    c = client()
    c.send_headers(1, HEAD)
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 0.0)
    assert taken(session, (frame(0, 0, 1) for _ in range(1_000))) < 1_000


def test_a_header_block_without_an_end_is_ended():
    session = Http2Session(0.0)
    session.receive(PREFACE + SETTINGS + frame(1, 0, 1, b"\x82"), 0.0)
    assert taken(session, (frame(9, 0, 1, b"\x82" * 16_000) for _ in range(100))) < 6


def test_a_frame_over_the_limit_is_not_waited_for():
    session = Http2Session(0.0)
    session.receive(PREFACE + SETTINGS, 0.0)
    assert taken(session, (b"\xff" * 16_000 for _ in range(100))) < 6


def test_a_header_list_over_the_limit_is_ended():
    c = client()
    c.send_headers(1, HEAD, end_stream=True)
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 0.0)
    head = c.encoder.encode([*HEAD, *[(f"x{n}", "y" * 1000) for n in range(30)]])
    with pytest.raises(Http2Fault):
        session.receive(frame(1, 0, 3, head[:16_000]) + frame(9, 4, 3, head[16_000:]), 0.0)


def test_an_hpack_bomb_is_ended():
    c = client()
    session = Http2Session(0.0)
    session.receive(PREFACE + SETTINGS, 0.0)
    # one large entry in the table, then a thousand one-byte references to it
    head = c.encoder.encode([*HEAD, ("x", "y" * 3000)])
    with pytest.raises(Http2Fault):
        session.receive(frame(1, 5, 1, head + b"\xbe" * 1000), 0.0)


def test_when_a_request_stays_unfinished_somebody_can_see_it():
    c = client()
    c.send_headers(1, HEAD)
    session = Http2Session(0.0)
    session.receive(c.data_to_send(), 5.0)
    assert session.oldest_unfinished() == 5.0
    c.send_data(1, b"x", end_stream=True)
    session.receive(c.data_to_send(), 9.0)
    assert session.oldest_unfinished() is None


@given(st.binary(max_size=300))
def test_any_bytes_after_the_preface_are_taken_or_end_it(data: bytes):
    session = Http2Session(0.0)
    try:
        session.receive(PREFACE + SETTINGS + data, 0.0)
    except Http2Fault:
        pass


_FRAMES = st.lists(
    st.tuples(
        st.integers(0, 10), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 2**31 - 1]), st.binary(max_size=40)
    ),
    max_size=8,
)


@settings(max_examples=300)
@given(_FRAMES)
def test_any_frames_are_taken_or_end_it(frames: list[tuple[int, int, int, bytes]]):
    session = Http2Session(0.0)
    try:
        session.receive(one_request(), 0.0)
        for kind, flags, stream, payload in frames:
            session.receive(frame(kind, flags, stream, payload), 0.0)
        session.respond(1, 200, b"x" * 100_000)
        session.data_to_send()
    except Http2Fault:
        session.data_to_send()
