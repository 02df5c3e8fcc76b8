"""What a coordinator may ask of this daemon by an HTTP request within a ping (control.md section 9): next to nothing.

A stock client lets its coordinator read logs and settings, and even update it. A board lets it see that it is there.
"""

from binascii import a2b_base64


def answer(payload: str) -> bytes:
    """Return the HTTP/1.1 answer to the request that `payload` is the base64 of: /echo's own body, else status 400."""
    try:
        request = a2b_base64(payload)
    except ValueError:
        request = b""
    end = request.find(b"\r\n\r\n")
    words = request[: max(0, request.find(b"\r\n"))].split(b" ")
    if end >= 0 and len(words) == 3 and words[1].split(b"?")[0] == b"/echo":
        return _encoded(b"200 OK", request[end + 4 :])
    return _encoded(b"400 Bad Request", b"this daemon does not know that path")


def _encoded(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
