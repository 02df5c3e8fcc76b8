from binascii import unhexlify

from shared.expect import raises
from wayhomed.wire import hpack, http2
from wayhomed.wire.errors import BadWire
from wayhomed.wire.http2 import DATA, ENDED, GOAWAY, HEADERS, RESET, Http2Client

# Frame types and flags as the server uses them: RFC 9113 section 6.
F_DATA, F_HEADERS, F_PRIORITY, F_RST_STREAM, F_SETTINGS, F_PUSH_PROMISE, F_PING, F_GOAWAY, F_WINDOW, F_CONTINUATION = (
    range(10)
)
ACK = END_STREAM = 1
END_HEADERS = 4
PADDED = 8
PRIORITY = 32
OK = hpack.encode([(":status", "200")])
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
BIG = 0x7FFFFFFF


def u32(number):
    return number.to_bytes(4, "big")


def frame(kind, flags=0, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + u32(stream) + payload


def setting(identifier, value):
    return identifier.to_bytes(2, "big") + u32(value)


def settings(*pairs):
    return frame(F_SETTINGS, 0, 0, b"".join([setting(*pair) for pair in pairs]))


def headers(stream, fields, flags=END_HEADERS):
    return frame(F_HEADERS, flags, stream, hpack.encode(fields))


def ok(stream, end=False):
    return frame(F_HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, OK)


def data(stream, payload, end=False):
    return frame(F_DATA, END_STREAM if end else 0, stream, payload)


def frames(stream):
    """Cut what the client sent into (type, flags, stream, payload)."""
    cut = []
    while stream:
        length = int.from_bytes(stream[:3], "big")
        cut.append((stream[3], stream[4], int.from_bytes(stream[5:9], "big"), stream[9 : 9 + length]))
        assert len(stream) >= 9 + length
        stream = stream[9 + length :]
    return cut


def sent(client):
    return frames(client.data_to_send())


def connected(*pairs, window=65535):
    """A client whose server has sent its settings; all it had to send is gone."""
    client = Http2Client(window_bytes=window)
    assert client.feed(settings(*pairs)) == []
    client.data_to_send()
    return client


def asking(*pairs, window=65535, body=b""):
    """A connected client with one request, on stream 1."""
    client = connected(*pairs, window=window)
    assert client.request("POST", "h", "/", [], body) == 1
    client.data_to_send()
    return client


def refuses(client, stream):
    """The bytes are BadWire, and the server is told with a GOAWAY of PROTOCOL_ERROR."""
    raises(BadWire, client.feed, stream)
    assert sent(client)[-1] == (F_GOAWAY, 0, 0, u32(0) + u32(1))


def test_the_connection_begins_with_preface_and_settings():
    start = Http2Client(window_bytes=65535).data_to_send()
    assert start[:24] == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert frames(start[24:]) == [(F_SETTINGS, 0, 0, setting(2, 0) + setting(4, 65535) + setting(6, 32768))]


def test_a_larger_window_is_announced_for_streams_and_connection():
    start = Http2Client(window_bytes=100_000).data_to_send()
    assert setting(4, 100_000) in start
    assert frames(start[24:])[1] == (F_WINDOW, 0, 0, u32(100_000 - 65535))


def test_what_is_to_be_sent_is_given_once():
    client = Http2Client()
    assert client.data_to_send()
    assert client.data_to_send() == b""


def test_a_request_is_headers_and_data():
    client = connected()
    assert client.request("POST", "hs.example.net", "/machine/map", [("ts-lb", "x")], b"body") == 1
    block = hpack.encode(
        [(":method", "POST"), (":scheme", "https"), (":authority", "hs.example.net"), (":path", "/machine/map")]
        + [("ts-lb", "x"), ("content-length", "4")]
    )
    assert sent(client) == [(F_HEADERS, END_HEADERS, 1, block), (F_DATA, END_STREAM, 1, b"body")]


def test_a_request_without_a_body_ends_with_its_headers():
    client = connected()
    assert client.request("GET", "h", "/", []) == 1
    assert [(kind, flags) for kind, flags, _, _ in sent(client)] == [(F_HEADERS, END_HEADERS | END_STREAM)]


def test_streams_are_odd_and_rise():
    client = connected()
    assert [client.request("GET", "h", "/", []) for _ in range(3)] == [1, 3, 5]


def test_requests_need_not_wait_for_the_servers_settings():
    client = Http2Client()
    client.data_to_send()
    client.request("GET", "h", "/", [])
    assert sent(client)[0][0] == F_HEADERS


def test_headers_longer_than_a_frame_are_continued():
    client = connected()
    client.request("GET", "h", "/", [("a", "x" * 40_000)], b"body")
    got = sent(client)
    assert [(kind, flags) for kind, flags, _, _ in got] == [
        (F_HEADERS, 0), (F_CONTINUATION, 0), (F_CONTINUATION, END_HEADERS), (F_DATA, END_STREAM)
    ]  # fmt: skip
    fields = hpack.Decoder(100_000).decode(got[0][3] + got[1][3] + got[2][3])
    assert ("a", "x" * 40_000) in fields
    client = connected()
    client.request("GET", "h", "/", [("a", "x" * 40_000)])
    assert [flags for _, flags, _, _ in sent(client)] == [END_STREAM, 0, END_HEADERS]


def test_an_answer_is_headers_data_and_an_end():
    client = asking()
    answer = headers(1, [(":status", "200"), ("content-type", "application/json")])
    assert client.feed(answer) == [(HEADERS, 1, 200, [("content-type", "application/json")])]
    assert client.feed(data(1, b"{}")) == [(DATA, 1, b"{}")]
    assert client.feed(data(1, b"[]", end=True)) == [(DATA, 1, b"[]"), (ENDED, 1)]


def test_answers_of_streams_may_be_mixed():
    client = asking()
    client.request("GET", "h", "/", [])
    events = client.feed(ok(3) + ok(1) + data(3, b"c") + data(1, b"a") + data(1, b"", True) + data(3, b"d", True))
    assert events == [
        (HEADERS, 3, 200, []), (HEADERS, 1, 200, []), (DATA, 3, b"c"), (DATA, 1, b"a"), (ENDED, 1), (DATA, 3, b"d"),
        (ENDED, 3),
    ]  # fmt: skip


# An answer with everything in it: settings, ping, padding, priority, continuation, trailers, unknown frames.
RICH = (
    settings((3, 100), (4, 100_000), (0x99, 5))
    + frame(F_PING, 0, 0, b"12345678")
    + frame(F_HEADERS, PADDED | PRIORITY, 1, b"\x03" + u32(0) + b"\x10" + b"\x88" + b"\0\0\0")
    + frame(F_CONTINUATION, 0, 1, b"\x00\x01a")
    + frame(F_CONTINUATION, END_HEADERS, 1, b"\x01b")
    + frame(0x77, 0xFF, 1, b"unknown")
    + frame(F_PRIORITY, 0, 1, u32(0) + b"\x10")
    + frame(F_DATA, PADDED, 1, b"\x02" + b"data" + b"\0\0")
    + frame(F_WINDOW, 0, 0, u32(10))
    + data(1, b"more")
    + headers(1, [("grpc-status", "0")], END_HEADERS | END_STREAM)
    + frame(F_GOAWAY, 0, 0, u32(1) + u32(0) + b"bye")
)
RICH_EVENTS = [(HEADERS, 1, 200, [("a", "b")]), (DATA, 1, b"data"), (DATA, 1, b"more"), (ENDED, 1), (GOAWAY, 1, 0)]


def test_the_same_events_come_however_the_bytes_were_cut():
    for cut in range(len(RICH) + 1):
        client = Http2Client()
        client.request("GET", "h", "/", [])
        assert client.feed(RICH[:cut]) + client.feed(RICH[cut:]) == RICH_EVENTS


def test_the_same_events_come_byte_by_byte():
    client = Http2Client()
    client.request("GET", "h", "/", [])
    events = []
    for i in range(len(RICH)):
        events += client.feed(RICH[i : i + 1])
    assert events == RICH_EVENTS


def test_bytes_recorded_from_the_h2_library_are_read():
    # h2 4.4: settings, acknowledgement, an answer with Huffman-coded headers (two of them indexed), the second answer.
    client = Http2Client()
    assert client.request("GET", "h", "/", []) == 1
    assert client.request("GET", "h", "/", []) == 3
    events = client.feed(unhexlify(RECORDED))
    assert events == RECORDED_EVENTS


RECORDED = (
    "00002a04000000000000010000100000020000000000040000ffff00050000400000080000000000030000006400060001000000000004"
    "0100000000000016010400000001885f8b1d75d0620d263d4c7441ea7686f03f539e92ff0000020001000000017b7d0000030104000000"
    "038dbfbe0000070000000000036e6f7468696e670000000001000000030000080700000000000000000300000000"
)
FIELDS = [("content-type", "application/json"), ("server", "wayhome")]
RECORDED_EVENTS = [
    (HEADERS, 1, 200, FIELDS), (DATA, 1, b"{}"), (ENDED, 1),
    (HEADERS, 3, 404, FIELDS), (DATA, 3, b"nothing"), (ENDED, 3),
    (GOAWAY, 3, 0),
]  # fmt: skip


# --- settings


def test_settings_are_acknowledged():
    client = Http2Client()
    client.data_to_send()
    client.feed(settings())
    assert sent(client) == [(F_SETTINGS, ACK, 0, b"")]


def test_the_servers_acknowledgement_of_ours_needs_no_answer():
    client = connected()
    assert client.feed(frame(F_SETTINGS, ACK)) == []
    assert sent(client) == []


def test_a_connection_that_does_not_begin_with_settings_is_refused():
    for first in (
        frame(F_PING, 0, 0, bytes(8)),
        frame(F_SETTINGS, ACK),
        ok(1),
        frame(0x77),
        frame(F_WINDOW, 0, 0, u32(1)),
    ):
        client = Http2Client()
        client.request("GET", "h", "/", [])
        client.data_to_send()
        refuses(client, first)
    raises(BadWire, Http2Client().feed, b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_broken_settings_are_refused():
    refuses(connected(), frame(F_SETTINGS, 0, 1))
    refuses(connected(), frame(F_SETTINGS, 0, 0, bytes(5)))
    refuses(connected(), frame(F_SETTINGS, 0, 0, setting(3, 1) + b"\0"))
    refuses(connected(), frame(F_SETTINGS, ACK, 0, setting(3, 1)))
    refuses(connected(), settings((2, 1)))
    refuses(connected(), settings((4, 0x80000000)))
    refuses(connected(), settings((5, 16383)))
    refuses(connected(), settings((5, 16777216)))


def test_settings_at_their_limits_are_accepted():
    assert connected().feed(settings((2, 0), (4, BIG), (4, 0), (5, 16384), (5, 16777215), (1, 0), (6, 1))) == []


def test_unknown_settings_are_ignored():
    assert connected().feed(settings((0, 1), (7, 1), (8, 1), (0xFFFF, 0xFFFFFFFF))) == []


def test_the_servers_frame_size_bounds_our_frames():
    client = connected((5, 20_000), (4, 100_000))
    client.feed(frame(F_WINDOW, 0, 0, u32(100_000)))
    client.request("POST", "h", "/", [("a", "x" * 30_000)], bytes(50_000))
    lengths = [(kind, len(payload)) for kind, _, _, payload in sent(client)]
    assert lengths[0] == (F_HEADERS, 20_000)
    assert lengths[2:] == [(F_DATA, 20_000), (F_DATA, 20_000), (F_DATA, 10_000)]


# --- streams


def test_requests_beyond_the_servers_limit_wait_their_turn():
    client = connected((3, 1))
    assert [client.request("GET", "h", "/", []) for _ in range(3)] == [1, 3, 5]
    assert [stream for _, _, stream, _ in sent(client)] == [1]
    assert client.feed(ok(1, end=True)) == [(HEADERS, 1, 200, []), (ENDED, 1)]
    assert [stream for _, _, stream, _ in sent(client)] == [3]
    assert client.feed(frame(F_RST_STREAM, 0, 3, u32(7))) == [(RESET, 3, 7)]
    assert [stream for _, _, stream, _ in sent(client)] == [5]


def test_waiting_requests_begin_when_the_server_allows_more():
    client = connected((3, 0))
    client.request("POST", "h", "/", [], b"body")
    client.feed(settings((4, 1000)))
    assert [kind for kind, _, _, _ in sent(client)] == [F_SETTINGS]
    client.feed(settings((3, 1)))
    assert [kind for kind, _, _, _ in sent(client)] == [F_SETTINGS, F_HEADERS, F_DATA]


def test_a_waiting_request_can_be_given_up_without_a_word():
    client = connected((3, 1))
    for _ in range(3):
        client.request("GET", "h", "/", [])
    client.data_to_send()
    client.reset(3)
    assert sent(client) == []
    client.feed(ok(1, end=True))
    assert [stream for _, _, stream, _ in sent(client)] == [5]


def test_a_frame_for_a_request_that_still_waits_is_refused():
    for stray in (ok(3), data(3, b"x"), frame(F_RST_STREAM, 0, 3, u32(0)), frame(F_WINDOW, 0, 3, u32(1))):
        client = connected((3, 1))
        client.request("GET", "h", "/", [])
        client.request("GET", "h", "/", [])
        client.data_to_send()
        refuses(client, stray)


def test_a_request_given_up_is_reset_and_what_still_comes_of_it_is_dropped():
    client = asking()
    client.feed(ok(1))
    client.reset(1)
    assert sent(client) == [(F_RST_STREAM, 0, 1, u32(8))]
    assert client.feed(data(1, b"late") + headers(1, [("a", "b")], END_HEADERS | END_STREAM)) == []
    assert client.feed(frame(F_RST_STREAM, 0, 1, u32(0)) + frame(F_WINDOW, 0, 1, u32(1))) == []
    client.reset(1)
    assert sent(client) == []


def test_giving_up_makes_room_for_a_waiting_request():
    client = asking((3, 1))
    client.request("GET", "h", "/", [])
    client.reset(1)
    assert [(kind, stream) for kind, _, stream, _ in sent(client)] == [(F_RST_STREAM, 1), (F_HEADERS, 3)]


def test_headers_of_a_stream_given_up_still_feed_the_table():
    client = asking()
    client.request("GET", "h", "/", [])
    client.reset(1)
    client.feed(frame(F_HEADERS, END_HEADERS, 1, b"\x88\x40\x01a\x01b"))
    assert client.feed(frame(F_HEADERS, END_HEADERS, 3, b"\x88\xbe")) == [(HEADERS, 3, 200, [("a", "b")])]


def test_a_stream_reset_by_the_server_ends():
    client = asking()
    assert client.feed(ok(1) + frame(F_RST_STREAM, 0, 1, u32(2))) == [(HEADERS, 1, 200, []), (RESET, 1, 2)]
    assert client.feed(data(1, b"late")) == []


def test_frames_on_streams_that_nobody_began_are_refused():
    for stream in (0, 2, 3, BIG):
        refuses(asking(), ok(stream))
        refuses(asking(), data(stream, b"x"))
        refuses(asking(), frame(F_RST_STREAM, 0, stream, u32(0)))
        if stream:
            refuses(asking(), frame(F_WINDOW, 0, stream, u32(1)))


def test_the_reserved_bit_of_a_stream_is_ignored():
    assert asking().feed(ok(0x80000001, end=True)) == [(HEADERS, 1, 200, []), (ENDED, 1)]


def test_stream_numbers_are_used_up_at_last():
    client = Http2Client(first_stream=BIG - 2)
    assert client.request("GET", "h", "/", []) == BIG - 2
    assert client.request("GET", "h", "/", []) == BIG
    raises(http2.NoNewStreams, client.request, "GET", "h", "/", [])


def test_goaway_refuses_what_the_server_does_not_take():
    client = asking()
    client.request("GET", "h", "/", [])
    client.request("GET", "h", "/", [])
    events = client.feed(frame(F_GOAWAY, 0, 0, u32(3) + u32(2) + b"debug"))
    assert events == [(GOAWAY, 3, 2), (RESET, 5, http2.REFUSED_STREAM)]
    raises(http2.NoNewStreams, client.request, "GET", "h", "/", [])
    assert client.feed(ok(3, end=True)) == [(HEADERS, 3, 200, []), (ENDED, 3)]


def test_goaway_refuses_waiting_requests_too():
    client = connected((3, 1))
    client.request("GET", "h", "/", [])
    client.request("GET", "h", "/", [])
    client.data_to_send()
    assert client.feed(frame(F_GOAWAY, 0, 0, u32(BIG) + u32(0))) == [(GOAWAY, BIG, 0), (RESET, 3, http2.REFUSED_STREAM)]
    assert client.feed(ok(1, end=True)) == [(HEADERS, 1, 200, []), (ENDED, 1)]
    assert sent(client) == []


def test_a_broken_goaway_is_refused():
    refuses(connected(), frame(F_GOAWAY, 0, 1, bytes(8)))
    refuses(connected(), frame(F_GOAWAY, 0, 0, bytes(7)))


def test_a_broken_reset_is_refused():
    refuses(asking(), frame(F_RST_STREAM, 0, 1, bytes(3)))
    refuses(asking(), frame(F_RST_STREAM, 0, 1, bytes(5)))


# --- flow control: what we may send


def body_bytes(client):
    return sum([len(payload) for kind, _, _, payload in sent(client) if kind == F_DATA])


def test_a_body_waits_for_the_servers_window():
    client = connected()
    client.request("POST", "h", "/", [], bytes(70_000))
    assert body_bytes(client) == 65_535
    client.feed(frame(F_WINDOW, 0, 1, u32(4_000)))
    assert body_bytes(client) == 0
    client.feed(frame(F_WINDOW, 0, 0, u32(3_000)))
    assert body_bytes(client) == 3_000
    client.feed(frame(F_WINDOW, 0, 0, u32(10_000)))
    assert body_bytes(client) == 1_000
    client.feed(frame(F_WINDOW, 0, 1, u32(10_000)))
    assert sent(client) == [(F_DATA, END_STREAM, 1, bytes(465))]


def test_streams_share_the_connections_window():
    client = connected()
    client.request("POST", "h", "/", [], bytes(60_000))
    client.request("POST", "h", "/", [], bytes(60_000))
    assert body_bytes(client) == 65_535
    client.feed(frame(F_WINDOW, 0, 0, u32(100_000)))
    assert sum(len(payload) for _, _, stream, payload in sent(client) if stream == 3) == 60_000 - 5_535


def test_a_change_of_the_initial_window_changes_open_streams():
    client = connected((4, 10))
    client.request("POST", "h", "/", [], bytes(100))
    assert body_bytes(client) == 10
    client.feed(settings((4, 30)))
    assert body_bytes(client) == 20
    client.feed(settings((4, 5)))
    assert body_bytes(client) == 0
    client.feed(frame(F_WINDOW, 0, 1, u32(25)))
    assert body_bytes(client) == 0
    client.feed(frame(F_WINDOW, 0, 1, u32(1)))
    assert body_bytes(client) == 1


def test_a_window_that_overflows_is_refused():
    client = connected()
    client.feed(frame(F_WINDOW, 0, 0, u32(BIG - 65_535)))
    refuses(client, frame(F_WINDOW, 0, 0, u32(1)))
    client = asking()
    client.feed(frame(F_WINDOW, 0, 1, u32(BIG - 65_535)))
    refuses(client, frame(F_WINDOW, 0, 1, u32(1)))
    client = asking()
    client.feed(settings((4, BIG)))
    client.feed(settings((4, 65_535)))
    client.feed(frame(F_WINDOW, 0, 1, u32(1)))
    refuses(client, settings((4, BIG)))


def test_a_broken_window_update_is_refused():
    for stream in (0, 1):
        refuses(asking(), frame(F_WINDOW, 0, stream, u32(0)))
        refuses(asking(), frame(F_WINDOW, 0, stream, u32(0x80000000)))
        refuses(asking(), frame(F_WINDOW, 0, stream, bytes(3)))
        refuses(asking(), frame(F_WINDOW, 0, stream, b"\0\0\0\x01\0"))


def test_an_answer_that_ends_before_its_request_stops_the_body():
    client = connected((4, 10))
    client.request("POST", "h", "/", [], bytes(100))
    client.data_to_send()
    assert client.feed(ok(1, end=True)) == [(HEADERS, 1, 200, []), (ENDED, 1)]
    assert sent(client) == [(F_RST_STREAM, 0, 1, u32(0))]


# --- flow control: what the server may send


def test_windows_are_opened_again_when_half_is_used():
    client = asking()
    client.feed(ok(1) + data(1, bytes(16_000)) * 2)
    assert sent(client) == []
    client.feed(data(1, bytes(767)))
    assert sent(client) == []
    client.feed(data(1, b"x"))
    assert sent(client) == [(F_WINDOW, 0, 1, u32(32_768)), (F_WINDOW, 0, 0, u32(32_768))]


def test_of_a_paced_answer_comes_no_more_than_was_read():
    client = Http2Client(window_bytes=65535, paced=True)
    client.feed(settings())
    client.request("POST", "h", "/", [])
    client.data_to_send()
    client.feed(ok(1) + data(1, bytes(16_000)) * 4)
    assert sent(client) == [(F_WINDOW, 0, 0, u32(48_000))], "the connection's window is for all of them"
    client.consumed(1, 16_000)
    client.consumed(1, 16_000)
    assert sent(client) == []
    client.consumed(1, 16_000)
    assert sent(client) == [(F_WINDOW, 0, 1, u32(48_000))]
    client.feed(data(1, bytes(16_000)) * 3)
    raises(BadWire, client.feed, data(1, bytes(16_000)))
    client.consumed(99, 5)  # of an answer that is gone


def test_a_window_is_opened_at_exactly_half():
    client = Http2Client(window_bytes=65536, paced=True)
    client.feed(settings())
    client.request("POST", "h", "/", [])
    client.feed(ok(1) + data(1, bytes(16_384)) * 4)
    client.data_to_send()
    client.consumed(1, 32_767)
    assert sent(client) == []
    client.consumed(1, 1)
    assert sent(client) == [(F_WINDOW, 0, 1, u32(32_768))]
    client.consumed(1, 1)
    assert sent(client) == [], "it is as open as may be"


def test_a_head_is_answered_by_headers_alone_whatever_length_they_name():
    client = connected()
    client.request("HEAD", "h", "/", [])
    client.data_to_send()
    headers = [(":status", "200"), ("content-length", "5000")]
    events = client.feed(frame(F_HEADERS, END_HEADERS | END_STREAM, 1, hpack.encode(headers)))
    assert [event[0] for event in events] == [HEADERS, ENDED]


def test_a_long_answer_flows_as_long_as_windows_are_opened():
    client = asking()
    client.feed(ok(1))
    for _ in range(20):
        assert client.feed(data(1, bytes(16_000))) == [(DATA, 1, bytes(16_000))]


def test_padding_counts_for_the_window():
    client = asking()
    client.feed(ok(1))
    for _ in range(128):
        client.feed(frame(F_DATA, PADDED, 1, b"\xff" + bytes(255)))
    assert sent(client) == [(F_WINDOW, 0, 1, u32(32_768)), (F_WINDOW, 0, 0, u32(32_768))]


def test_data_of_a_stream_that_is_gone_counts_for_the_connections_window():
    client = asking()
    client.feed(ok(1))
    client.reset(1)
    client.data_to_send()
    client.feed(data(1, bytes(16_384)) * 2)
    assert sent(client) == [(F_WINDOW, 0, 0, u32(32_768))]


def test_a_stream_that_ends_needs_no_window():
    client = asking()
    client.feed(ok(1) + data(1, bytes(16_384)) + data(1, bytes(16_384), end=True))
    assert sent(client) == [(F_WINDOW, 0, 0, u32(32_768))]


def test_more_than_the_window_allows_is_refused():
    # A window is opened again when half of it is used, so only one frame of more than the other half can overrun it.
    client = asking(window=20_000)
    client.feed(ok(1) + data(1, bytes(9_999)))
    assert client.feed(data(1, bytes(10_001))) == [(DATA, 1, bytes(10_001))]
    client = asking(window=20_000)
    client.feed(ok(1) + data(1, bytes(9_999)))
    refuses(client, data(1, bytes(10_002)))


def test_more_than_a_streams_window_allows_is_refused():
    # The connection's window is opened by what comes on another stream.
    client = asking(window=20_000)
    client.request("GET", "h", "/", [])
    client.feed(ok(1) + ok(3) + data(1, bytes(9_999)) + data(3, b"x"))
    refuses(client, data(1, bytes(10_002)))


def test_more_than_the_connections_window_allows_is_refused_on_any_stream():
    for length, is_allowed in ((10_001, True), (10_002, False)):
        client = asking(window=20_000)
        client.request("GET", "h", "/", [])
        client.feed(ok(1) + ok(3) + data(1, bytes(9_999)))
        if is_allowed:
            assert client.feed(data(3, bytes(length))) == [(DATA, 3, bytes(length))]
        else:
            refuses(client, data(3, bytes(length)))


# --- frames


def test_a_frame_over_16384_bytes_is_refused_by_its_header():
    client = asking()
    refuses(client, b"\x00\x40\x01" + bytes([F_DATA, 0]) + u32(1))
    refuses(asking(), b"\xff\xff\xff" + bytes([0x77, 0]) + u32(0))
    client = asking()
    client.feed(ok(1))
    assert client.feed(data(1, bytes(16_384))) == [(DATA, 1, bytes(16_384))]


def test_frames_of_unknown_types_are_ignored():
    client = asking()
    assert client.feed(frame(0x0A, 0xFF, 1, b"x") + frame(0xFF, 0, 0, b"") + frame(0x77, 0, 99, bytes(100))) == []
    assert sent(client) == []


def test_unknown_flags_are_ignored():
    client = asking()
    assert client.feed(frame(F_HEADERS, END_HEADERS | 0xD2, 1, OK)) == [(HEADERS, 1, 200, [])]
    assert client.feed(frame(F_DATA, 0xF6, 1, b"x")) == [(DATA, 1, b"x")]


def test_a_push_is_refused():
    refuses(asking(), frame(F_PUSH_PROMISE, END_HEADERS, 1, u32(2) + OK))


def test_a_ping_is_answered_and_an_answer_is_not():
    client = connected()
    client.feed(frame(F_PING, 0, 0, b"12345678"))
    assert sent(client) == [(F_PING, ACK, 0, b"12345678")]
    client.feed(frame(F_PING, ACK, 0, b"12345678"))
    assert sent(client) == []


def test_a_broken_ping_is_refused():
    refuses(connected(), frame(F_PING, 0, 1, bytes(8)))
    refuses(connected(), frame(F_PING, 0, 0, bytes(7)))
    refuses(connected(), frame(F_PING, 0, 0, bytes(9)))


def test_a_broken_priority_is_refused():
    refuses(connected(), frame(F_PRIORITY, 0, 0, bytes(5)))
    refuses(connected(), frame(F_PRIORITY, 0, 1, bytes(4)))
    assert connected().feed(frame(F_PRIORITY, 0, 1, bytes(5))) == []


def test_padding_longer_than_its_frame_is_refused():
    for kind in (F_DATA, F_HEADERS):
        client = asking()
        if kind == F_DATA:
            client.feed(ok(1))
        refuses(client, frame(kind, PADDED | END_HEADERS * (kind == F_HEADERS), 1, b""))
        client = asking()
        if kind == F_DATA:
            client.feed(ok(1))
        refuses(client, frame(kind, PADDED | END_HEADERS * (kind == F_HEADERS), 1, b"\x04" + OK + b"\0\0"))
    client = asking()
    client.feed(ok(1))
    assert client.feed(frame(F_DATA, PADDED, 1, b"\x02\0\0")) == []


def test_headers_without_their_priority_are_refused():
    refuses(asking(), frame(F_HEADERS, PRIORITY | END_HEADERS, 1, bytes(4)))
    assert asking().feed(frame(F_HEADERS, PRIORITY | END_HEADERS, 1, bytes(5) + OK)) == [(HEADERS, 1, 200, [])]
    # Trailers may be empty, so that only the missing priority is wrong with these.
    trailers = PRIORITY | END_HEADERS | END_STREAM
    assert asking().feed(ok(1) + frame(F_HEADERS, trailers, 1, bytes(5)))[-1] == (ENDED, 1)
    refuses(asking(), ok(1) + frame(F_HEADERS, trailers, 1, bytes(4)))


def test_nothing_may_come_between_the_parts_of_a_header_block():
    begun = frame(F_HEADERS, 0, 1, OK)
    for stray in (data(1, b"x"), frame(F_PING, 0, 0, bytes(8)), ok(1), frame(0x77), frame(F_CONTINUATION, 0, 3, b"")):
        client = asking()
        client.request("GET", "h", "/", [])
        client.data_to_send()
        refuses(client, begun + stray)


def test_a_continuation_of_nothing_is_refused():
    refuses(asking(), frame(F_CONTINUATION, END_HEADERS, 1, OK))
    client = asking()
    client.feed(ok(1))
    refuses(client, frame(F_CONTINUATION, END_HEADERS, 1, OK))


def test_a_header_block_in_too_many_frames_is_refused():
    begun = frame(F_HEADERS, 0, 1, OK)
    parts = frame(F_CONTINUATION, 0, 1) * 7
    last = frame(F_CONTINUATION, END_HEADERS, 1)
    assert asking().feed(begun + parts + last) == [(HEADERS, 1, 200, [])]
    refuses(asking(), begun + parts + frame(F_CONTINUATION, 0, 1) * 2)
    # and each block is counted on its own
    client = asking()
    client.request("GET", "h", "/", [])
    client.feed(begun + parts + last + frame(F_HEADERS, 0, 3, OK) + frame(F_CONTINUATION, 0, 3) * 7)


def test_a_header_block_over_the_limit_is_refused():
    field = b"\x00\x01a\x7f\x89\x7d" + b"x" * 16_136
    filler = 16_384 - len(OK + field)
    small = b"\x00\x01b\x7f" + bytes([filler - 5 - 127]) + b"y" * (filler - 5)
    block = OK + field + small
    assert len(block) == 16_384
    client = asking()
    assert len(client.feed(frame(F_HEADERS, 0, 1, block[:99]) + frame(F_CONTINUATION, 4, 1, block[99:]))) == 1
    refuses(asking(), frame(F_HEADERS, 0, 1, block[:99]) + frame(F_CONTINUATION, 0, 1, block[99:] + b"\x88"))


def test_a_header_list_over_the_limit_is_refused():
    client = asking()
    # One entry of 4,000 bytes, then named again and again: a small block, a large list.
    entry = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000
    refuses(client, frame(F_HEADERS, END_HEADERS, 1, OK + entry + b"\xbe" * 20))


# --- what an answer may say


def test_an_interim_answer_is_passed_over():
    client = asking()
    early = headers(1, [(":status", "103"), ("link", "</style.css>")])
    assert client.feed(early + early + ok(1)) == [(HEADERS, 1, 200, [])]


def test_an_interim_answer_cannot_be_the_last():
    refuses(asking(), headers(1, [(":status", "103")], END_HEADERS | END_STREAM))


def test_data_before_the_answer_is_refused():
    refuses(asking(), data(1, b"x"))
    refuses(asking(), headers(1, [(":status", "103")]) + data(1, b"x"))


def test_data_behind_the_end_is_dropped():
    assert asking().feed(ok(1, end=True) + data(1, b"late")) == [(HEADERS, 1, 200, []), (ENDED, 1)]


def test_trailers_end_the_answer_and_a_second_answer_is_refused():
    refuses(asking(), ok(1) + headers(1, [("a", "b")]))
    refuses(asking(), ok(1) + headers(1, [(":status", "200")], END_HEADERS | END_STREAM))
    assert asking().feed(ok(1) + headers(1, [("a", "b")], END_HEADERS | END_STREAM))[-1] == (ENDED, 1)


def test_an_answer_needs_one_status_in_front():
    for fields in (
        [], [("a", "b")], [("a", "200")], [("a", "b"), (":status", "200")], [(":status", "200"), (":status", "200")],
        [(":status", "20")], [(":status", "2000")], [(":status", "2x0")], [(":status", "")], [(":status", "-20")],
        [(":path", "/"), (":status", "200")], [(":status", "200"), (":path", "/")],
    ):  # fmt: skip
        refuses(asking(), headers(1, fields))


def test_malformed_headers_are_refused():
    for name in ("A", "aB", "aZ", "a b", "a:b", "", "a\0", "a\x7f", "é", ":x", "connection", "keep-alive",
                 "proxy-connection", "transfer-encoding", "upgrade"):  # fmt: skip
        refuses(asking(), headers(1, [(":status", "200"), (name, "x")]))
        refuses(asking(), ok(1) + headers(1, [(name, "x")], END_HEADERS | END_STREAM))
    for value in ("a\0", "a\rb", "a\nb", " a", "a ", "\ta", "a\t", " "):
        refuses(asking(), headers(1, [(":status", "200"), ("a", value)]))
    for name, value in (("a!~'", "b"), ("a", ""), ("a", "b c"), ("a", "é"), ("z_0", "\x01")):
        assert asking().feed(headers(1, [(":status", "200"), (name, value)])) == [(HEADERS, 1, 200, [(name, value)])]


def sized(*lengths):
    return headers(1, [(":status", "200")] + [("content-length", length) for length in lengths])


def test_a_body_must_have_the_length_that_was_announced():
    assert asking().feed(sized("2") + data(1, b"{}", end=True))[-1] == (ENDED, 1)
    refuses(asking(), sized("2") + data(1, b"{}!"))
    refuses(asking(), sized("2") + data(1, b"{", end=True))
    refuses(asking(), sized("2") + headers(1, [("a", "b")], END_HEADERS | END_STREAM))
    refuses(asking(), sized("0") + data(1, b"x"))


def test_a_length_that_is_none_is_refused():
    for length in ("", "-1", "1a", "1 2", "0x1", "1,1", "9" * 16):
        refuses(asking(), sized(length))
    refuses(asking(), sized("2", "2"))
    assert asking().feed(sized("9" * 15))[0][0] == HEADERS
