"""The h2 library as the server, and bytes of any kind."""

import itertools

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from wayhomed.wire import http2
from wayhomed.wire.errors import BadWire

LENGTHS = st.integers(0, 150_000)


def body_of(length):
    return bytes(range(256)) * (length // 256) + bytes(length % 256)


class Server:
    """Answers every request with its own path and body, as windows allow."""

    def __init__(self, **limits):
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        values = {getattr(h2.settings.SettingCodes, name): value for name, value in limits.items()}
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.connection.max_inbound_frame_size = self.connection.local_settings.max_frame_size
        self.connection.initiate_connection()
        self.requests = {}
        self.to_send = {}

    def feed(self, data):
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.requests[event.stream_id] = (dict(event.headers), bytearray())
            elif isinstance(event, h2.events.DataReceived):
                self.requests[event.stream_id][1].extend(event.data)
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                fields, body = self.requests[event.stream_id]
                answer = [(":status", "200"), ("path", fields[":path"]), ("content-type", "application/json")]
                self.connection.send_headers(event.stream_id, answer)
                self.to_send[event.stream_id] = bytes(body)
        for stream, body in list(self.to_send.items()):
            while True:
                window = self.connection.local_flow_control_window(stream)
                length = min(len(body), window, self.connection.max_outbound_frame_size)
                if body and length <= 0:
                    break
                self.connection.send_data(stream, body[:length], end_stream=length == len(body))
                body = body[length:]
                if not body:
                    break
            if body:
                self.to_send[stream] = body
            else:
                del self.to_send[stream]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(LENGTHS, min_size=1, max_size=4),
    st.integers(50, 30_000),
    st.sampled_from([{}, {"INITIAL_WINDOW_SIZE": 1_000}, {"MAX_CONCURRENT_STREAMS": 1}, {"MAX_FRAME_SIZE": 100_000}]),
    st.sampled_from([65_535, 70_000, http2.WINDOW_BYTES]),
)
def test_the_library_answers_our_requests_whatever_their_size_limits_and_chunks(lengths, chunk, limits, window):
    bodies = [body_of(length) for length in lengths]
    server = Server(**limits)
    client = http2.Http2Client(window_bytes=window)
    # First the settings: the library counts a smaller window as in force before the client can have read of it.
    client.feed(server.connection.data_to_send())
    streams = {client.request("POST", "h", f"/{i}", [("x-number", str(i))], body): i for i, body in enumerate(bodies)}
    answers = {stream: bytearray() for stream in streams}
    ended = []
    while True:
        to_server = client.data_to_send()
        server.feed(to_server)
        to_client = server.connection.data_to_send()
        if not to_server and not to_client:
            break
        for start in range(0, len(to_client), chunk):
            for event in client.feed(to_client[start : start + chunk]):
                if event[0] == http2.HEADERS:
                    number = streams[event[1]]
                    assert event[2:] == (200, [("path", f"/{number}"), ("content-type", "application/json")])
                elif event[0] == http2.DATA:
                    answers[event[1]] += event[2]
                elif event[0] == http2.ENDED:
                    ended.append(event[1])
    assert sorted(ended) == sorted(streams)
    for stream, number in streams.items():
        assert answers[stream] == server.requests[stream][1] == bodies[number]
        assert server.requests[stream][0]["x-number"] == str(number)


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


HEADER_BLOCKS = st.binary(max_size=20) | st.sampled_from(
    [b"\x88", b"\x88\x40\x01a\x01b", b"\x88\xbe", b"\x89", b"", b"\x40"]
)
PAYLOADS = HEADER_BLOCKS | st.sampled_from(
    [bytes(4), bytes(5), bytes(8), b"\0\0\0\1", b"\0\3\0\0\0\1", b"\0\4\0\0\0\1", bytes(300)]
)
FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 7]),
    PAYLOADS,
)
STREAMS = st.lists(FRAMES, max_size=12).map(lambda frames: b"\0\0\0\x04\0\0\0\0\0" + b"".join(frames))


def outcome(pieces):
    """Return (events, refused) of a client with three requests, one of them given up."""
    client = http2.Http2Client(window_bytes=65_535)
    for body in (b"", b"body", bytes(70_000)):
        client.request("POST", "h", "/", [], body)
    client.reset(3)
    events = []
    try:
        for piece in pieces:
            events += client.feed(piece)
    except BadWire:
        return [], True
    return events, False


@settings(deadline=None)
@given(STREAMS, st.data())
def test_the_outcome_is_the_same_however_the_bytes_were_cut(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert outcome(pieces) == outcome([stream])


@settings(deadline=None)
@given(STREAMS, st.integers(0, 10_000), st.integers(0, 255))
def test_no_bytes_break_the_client(stream, position, byte):
    changed = bytearray(stream)
    changed[position % len(changed)] = byte
    outcome([bytes(changed)])


@given(st.binary(max_size=200))
def test_noise_of_any_kind_breaks_nothing(data):
    outcome([data])
