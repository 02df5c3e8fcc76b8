"""What the lab's hosts serve: a web page that tells who asked. Run inside a host as `python -m wayhome.lab.services`.

Every line it writes to its standard output is JSON: first {"ready": PORT} once it listens, then one line a request,
{"client": "192.168.1.2", "port": 40123, "method": "GET", "path": "/", "host": "nas", "status": 200}. The client's
address is what a router's source NAT is judged by. A stream that has ended adds {"streamed": BYTES, "sha256": HEX,
"name": NAME}.
"""

import hashlib
import json
import random
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# More than this is asked of nobody here; a mistake shall not fill the machine's memory.
MAX_BYTES = 1 << 30
_CHUNK = bytes(64 * 1024)
_PIECE_BYTES = 16 * 1024
MAX_STREAM_S = 600


class _Page(BaseHTTPRequestHandler):
    """GET / tells host and client in text; GET /bytes/N sends N zero bytes, for transfers that take a while.

    GET /stream/NAME/RATE sends random bytes at RATE bytes a second until somebody asks for POST /stop/NAME; the same
    name brings the same bytes. What could not be sent in time is sent as soon as it can be.
    """

    protocol_version = "HTTP/1.1"
    server_version = "wayhome-lab"
    timeout = 30

    def do_GET(self) -> None:
        if self.path.startswith("/bytes/"):
            self._send_bytes(self.path.removeprefix("/bytes/"))
            return
        if self.path.startswith("/stream/"):
            self._send_stream(*self.path.removeprefix("/stream/").partition("/")[::2])
            return
        client = _plain(self.client_address[0])
        body = f"hello from {socket.gethostname()}; you are {client}\n".encode()
        self._start(HTTPStatus.OK, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Read what was sent and tell how much it was; or end a stream."""
        if self.path.startswith("/stop/"):
            _stop_of(self.path.removeprefix("/stop/")).set()
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BYTES:
            self.close_connection = True
            self._start(HTTPStatus.BAD_REQUEST, 0)
            return
        left = int(length)
        while left > 0:
            chunk = self.rfile.read(min(left, len(_CHUNK)))
            if not chunk:
                break
            left -= len(chunk)
        body = f"{int(length) - left}\n".encode()
        self._start(HTTPStatus.OK, len(body))
        self.wfile.write(body)

    def _send_bytes(self, count_text: str) -> None:
        if not count_text.isascii() or not count_text.isdigit() or int(count_text) > MAX_BYTES:
            self._start(HTTPStatus.NOT_FOUND, 0)
            return
        left = int(count_text)
        self._start(HTTPStatus.OK, left)
        while left > 0 and self.command == "GET":
            self.wfile.write(_CHUNK[: min(left, len(_CHUNK))])
            left -= len(_CHUNK)

    def _send_stream(self, name: str, rate_text: str) -> None:
        if not rate_text.isascii() or not rate_text.isdigit() or not 0 < int(rate_text) <= MAX_BYTES:
            self._start(HTTPStatus.NOT_FOUND, 0)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        source, digest, sent = random.Random(name), hashlib.sha256(), 0
        begun = time.monotonic()
        while not _stop_of(name).wait(begun + sent / int(rate_text) - time.monotonic()):
            if time.monotonic() > begun + MAX_STREAM_S:
                break
            piece = source.randbytes(_PIECE_BYTES)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            digest.update(piece)
            sent += len(piece)
        self.wfile.write(b"0\r\n\r\n")
        _say(streamed=sent, sha256=digest.hexdigest(), name=name)

    def _start(self, status: HTTPStatus, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        _say(
            client=_plain(self.client_address[0]),
            port=self.client_address[1],
            method=self.command,
            path=self.path,
            host=self.headers.get("Host", "") if hasattr(self, "headers") else "",
            status=int(code),
        )

    def log_message(self, format: str, *args: object) -> None:
        _say(error=format % args)


class _Server(ThreadingHTTPServer):
    """Listens on both families by one socket."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # not HTTPServer's own, which asks the name server for our name
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = socket.gethostname(), self.socket.getsockname()[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event worth a traceback."""
        _say(error=str(sys.exc_info()[1]))


_stops: dict[str, threading.Event] = {}


def _stop_of(name: str) -> threading.Event:
    """Return what ends the stream of this name."""
    return _stops.setdefault(name, threading.Event())


def _plain(address: str) -> str:
    """Return an address as people write it: an IPv4 client of a dual-stack socket is shown as ::ffff:a.b.c.d."""
    return address.removeprefix("::ffff:")


def _say(**fields: object) -> None:
    # one write a line: the threads share the file
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """web PORT"""
    if len(arguments) != 2 or arguments[0] != "web":
        sys.exit("usage: python -m wayhome.lab.services web PORT")
    server = _Server(("::", int(arguments[1])), _Page)
    _say(ready=server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
