from shared.expect import raises
from wayhomed.wire import http1
from wayhomed.wire.errors import BadWire

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Empty:\r\n\r\n"


def whole(stream, closed=False, limit=1000):
    """Return (status, body) of an answer that came at once."""
    reader = http1.ResponseReader(limit)
    reader.feed(stream)
    if closed:
        reader.closed()
    assert reader.done
    return reader.status, reader.body


def refused(stream, closed=False, limit=1000):
    """The answer is BadWire, whole or byte by byte."""

    def read(step):
        reader = http1.ResponseReader(limit)
        for start in range(0, len(stream), step):
            reader.feed(stream[start : start + step])
        if closed:
            reader.closed()

    raises(BadWire, read, len(stream) + 1)
    raises(BadWire, read, 1)


def test_a_request_is_a_line_headers_and_a_body():
    assert http1.encode_request("GET", "/key?v=113", [("Host", "h")]) == b"GET /key?v=113 HTTP/1.1\r\nHost: h\r\n\r\n"
    request = http1.encode_request("POST", "/", [("Host", "h")], b"body")
    assert request == b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"


def test_a_line_break_cannot_be_smuggled_into_a_request():
    raises(ValueError, http1.encode_request, "GET", "/\r\nX: y", [])
    raises(ValueError, http1.encode_request, "GET", "/", [("Host", "h\nX: y")])
    raises(ValueError, http1.encode_request, "GET", "/", [("Host\r", "h")])


def test_a_head_is_read_however_it_was_cut():
    stream = HEAD + b"behind"
    for cut in range(len(stream) + 1):
        reader = http1.HeadReader()
        assert reader.feed(stream[:cut]) == (cut >= len(HEAD))
        assert reader.feed(stream[cut:])
        assert reader.status == 200
        assert reader.headers == {"content-type": "application/json", "x-empty": ""}
        assert reader.rest == b"behind"


def test_a_header_that_comes_twice_is_one_list():
    reader = http1.HeadReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n")
    assert reader.headers == {"a": "1, 3", "b": "2"}


def test_a_status_line_needs_no_reason():
    for line, status in (
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.0 404 Not Found", 404),
        (b"HTTP/1.1 101 ", 101),
        (b"HTTP/1.1 599", 599),
    ):
        reader = http1.HeadReader()
        assert reader.feed(line + b"\r\n\r\n")
        assert reader.status == status


def test_what_is_no_status_line_is_refused():
    for line in (
        b"", b"HTTP/1.1", b"HTTP/2 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 2x0 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 600 OK",
        b"HTTP/1.1 -10 OK", b"GET / HTTP/1.1", b"\xff\xff", b"HTTP/1.2 200 OK", b"SSH-2.0-x", b"\x16\x03\x01",
    ):  # fmt: skip
        raises(BadWire, http1.HeadReader().feed, line + b"\r\n\r\n")


def test_what_is_no_header_line_is_refused():
    for line in (
        b"novalue",
        b": nameless",
        b"a name: x",
        b" folded: x",
        b"a\t: x",
        b"a: \xff",
        b"a: b\nc: d",
        b"a: b\rc",
        b"a: \0",
    ):
        raises(BadWire, http1.HeadReader().feed, b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")


def test_a_head_over_the_limit_is_refused_the_same_whole_and_in_pieces():
    head = b"HTTP/1.1 200 OK\r\na: " + b"x" * 75 + b"\r\n\r\n"
    assert len(head) == 99
    for limit, ok in ((99, True), (98, False)):
        for step in (1, 7, 99):
            reader = http1.HeadReader(limit)

            def read(reader=reader, step=step):
                for start in range(0, 99, step):
                    reader.feed(head[start : start + step])

            if ok:
                read()
                assert reader.status == 200
            else:
                raises(BadWire, read)
    raises(BadWire, http1.HeadReader(98).feed, head[:98])
    assert http1.HeadReader(99).feed(head[:98]) is False


def test_a_head_without_end_is_refused_before_more_is_held():
    reader = http1.HeadReader()
    assert reader.feed(b"x" * 16_383) is False
    raises(BadWire, reader.feed, b"x")


def test_a_head_of_many_headers_is_refused():
    reader = http1.HeadReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100 + b"\r\n")
    raises(BadWire, http1.HeadReader().feed, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n")


def test_a_body_with_a_length_is_read_however_it_was_cut():
    stream = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodybehind"
    for cut in range(len(stream) + 1):
        reader = http1.ResponseReader(4)
        reader.feed(stream[:cut])
        assert reader.feed(stream[cut:])
        assert (reader.status, reader.body) == (200, b"body")


def test_an_announced_body_over_the_limit_is_refused_before_it_came():
    refused(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", limit=4)
    assert whole(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", limit=4) == (200, b"body")


def test_a_length_that_is_no_number_is_refused():
    for length in (b"", b"-1", b"+1", b"1 ,1", b"1, 1", b"0x4", b"4a", b"1e3", b"9999999999", b"00000000000000000004"):
        refused(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nbody")


def test_a_length_may_have_nine_digits():
    assert whole(b"HTTP/1.1 200 OK\r\nContent-Length: 000000004\r\n\r\nbody") == (200, b"body")


def test_two_lengths_are_refused():
    refused(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody")


def test_a_body_without_a_length_ends_with_the_connection():
    assert whole(b"HTTP/1.1 200 OK\r\n\r\nbody", closed=True) == (200, b"body")
    assert whole(b"HTTP/1.1 200 OK\r\n\r\n", closed=True) == (200, b"")
    refused(b"HTTP/1.1 200 OK\r\n\r\nbody!", limit=4)
    assert whole(b"HTTP/1.1 200 OK\r\n\r\nbody", closed=True, limit=4) == (200, b"body")


def test_an_answer_that_is_cut_off_is_refused():
    for stream in (
        b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbod",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
    ):  # fmt: skip
        reader = http1.ResponseReader(1000)
        assert not reader.feed(stream)
        raises(BadWire, reader.closed)


def test_the_end_of_the_connection_behind_a_whole_answer_is_no_error():
    assert whole(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", closed=True) == (200, b"body")


def test_answers_that_have_no_body_end_with_their_head():
    for status in (b"204", b"304", b"101"):
        assert whole(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 4\r\n\r\n")[1] == b""


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"


def test_a_chunked_body_is_read_however_it_was_cut():
    stream = CHUNKED + b"3;ext=1\r\nbod\r\n000D\r\ny, more body.\r\n0\r\nTrailer: x\r\n\r\nbehind"
    for cut in range(len(stream) + 1):
        reader = http1.ResponseReader(16)
        reader.feed(stream[:cut])
        assert reader.feed(stream[cut:])
        assert reader.body == b"body, more body."


def test_a_chunked_body_over_the_limit_is_refused_by_the_chunks_line():
    assert whole(CHUNKED + b"3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n", limit=4) == (200, b"body")
    refused(CHUNKED + b"3\r\nbod\r\n2\r\n", limit=4)
    refused(CHUNKED + b"fffffffff\r\n")


def test_a_broken_chunk_is_refused():
    for chunks in (
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"0x3\r\n",
        b"3\r\nbodyy",
        b"3\r\nbod\n\r\n",
        b"ffffffffff\r\n",
        b"\xff\r\n",
    ):
        refused(CHUNKED + chunks)


def test_a_chunk_line_without_end_is_refused():
    reader = http1.ResponseReader(1000)
    assert not reader.feed(CHUNKED + b"3" + b";" * 254)
    raises(BadWire, reader.feed, b";")
    refused(CHUNKED + b"3;" + b"x" * 300 + b"\r\n")
    refused(CHUNKED + b"0\r\nX: " + b"x" * 300 + b"\r\n\r\n")


def test_an_unknown_transfer_coding_is_refused():
    refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
    refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n")


def test_an_answer_that_only_says_wait_is_not_the_answer():
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    whole = early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    for cut in range(len(whole)):
        reader = http1.ResponseReader(100)
        reader.feed(whole[:cut])
        assert reader.feed(whole[cut:])
        assert (reader.status, reader.body, reader.headers) == (200, b"hi", {"content-length": "2"})


def test_an_answer_that_only_ever_says_wait_is_refused():
    wait = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert whole(wait * 8 + b"HTTP/1.1 204 No Content\r\n\r\n") == (204, b"")
    refused(wait * 9 + b"HTTP/1.1 204 No Content\r\n\r\n")


def test_the_answer_to_a_head_has_no_body_whatever_it_says_of_its_length():
    reader = http1.ResponseReader(4, False)
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    assert reader.status == 200
