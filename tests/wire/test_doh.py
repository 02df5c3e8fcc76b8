"""DNS messages in HTTP requests."""

from shared.expect import raises
from wayhomed.wire import doh
from wayhomed.wire.errors import BadWire

MESSAGE = bytes(range(240, 256)) + b"ab"
TEXT = "8PHy8_T19vf4-fr7_P3-_2Fi"
GET = ("GET /dns-query?dns=" + TEXT + " HTTP/1.1\r\nHost: x\r\n\r\n").encode()
POST = b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-LENGTH:  18\t\r\n\r\n" + MESSAGE


def read(data):
    reader = doh.RequestReader()
    assert reader.feed(data), "not whole"
    return reader.message


def refused(data):
    return raises(BadWire, doh.RequestReader().feed, data)


def test_a_message_comes_in_the_path_or_in_the_body():
    assert read(GET) == read(POST) == MESSAGE
    assert read(GET.replace(b"?dns", b"?a=b&dns")) == MESSAGE
    assert read(POST + b"more") == MESSAGE
    for text, data in (("YQ", b"a"), ("YWI", b"ab"), ("YWJj", b"abc")):
        assert read(GET.replace(TEXT.encode(), text.encode())) == data


def test_a_request_is_the_same_however_it_was_cut():
    for whole in (GET, POST):
        for cut in range(1, len(whole)):
            reader = doh.RequestReader()
            assert not reader.feed(whole[:cut])
            assert reader.feed(whole[cut:]) and reader.message == MESSAGE


def test_other_paths_are_not_here():
    for path in (b"/", b"/dns-query/", b"/v0/env", b"/dns-querx"):
        assert isinstance(refused(GET.replace(b"/dns-query", path)), doh.NotHere)


def test_what_is_no_request_is_refused():
    for bad in (
        b"\xff" + GET,
        b"GET /dns-query\r\n\r\n",
        b"GET  /dns-query?dns=YQ HTTP/1.1\r\n\r\n",
        b"PUT /dns-query?dns=YQ HTTP/1.1\r\n\r\n",
        b"GET /dns-query HTTP/1.1\r\n\r\n",
        b"GET /dns-query?x=YQ HTTP/1.1\r\n\r\n",
        b"GET /dns-query?dns=YQ== HTTP/1.1\r\n\r\n",
        b"GET /dns-query?dns=YWJjd HTTP/1.1\r\n\r\n",
        b"POST /dns-query HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        assert not isinstance(refused(bad), doh.NotHere)
    refused(POST.replace(b"POST", b"PUT"))
    assert read(POST.replace(b"18\t", b"00018")) == MESSAGE
    assert read(POST.replace(b"18\t", b"0")) == b""
    for length in (b"", b"x", b"-1", b"1233", b"99999", b"000018"):
        refused(POST.replace(b"18\t", length))
    assert read(POST.replace(b"18\t", b"1232")[:-18] + b"y" * 1232) == b"y" * 1232


def test_a_head_has_a_length_that_we_take():
    start = b"GET /dns-query?dns=YQ HTTP/1.1\r\nX: "
    assert read(start + b"y" * (8192 - len(start)) + b"\r\n\r\n") == b"a"
    refused(start + b"y" * (8193 - len(start)) + b"\r\n\r\n")
    assert not doh.RequestReader().feed(b"y" * 8192)
    refused(b"y" * 8193)


def test_an_answer_says_how_long_it_is():
    assert doh.encode_response(doh.OK, b"abc") == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    )
    assert doh.encode_response(doh.NOT_FOUND).startswith(b"HTTP/1.1 404 Not Found\r\n")
