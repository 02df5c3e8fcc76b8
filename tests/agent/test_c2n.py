"""What a coordinator gets that asks this daemon by HTTP."""

from binascii import b2a_base64

from wayhomed.agent import c2n


def test_an_echo_comes_back():
    request = b2a_base64(b"POST /echo HTTP/1.1\r\nHost: x\r\n\r\nhello").decode()
    assert c2n.answer(request) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_anything_else_is_refused():
    requests = [
        b"GET /debug/prefs HTTP/1.1\r\n\r\n",
        b"POST /update HTTP/1.1\r\n\r\n",
        b"",
        b"\r\n",
        b"GET /echo\r\n\r\n",
    ]
    for payload in ["", "!!!"] + [b2a_base64(request).decode() for request in requests]:
        assert c2n.answer(payload)[:12] == b"HTTP/1.1 400", payload
