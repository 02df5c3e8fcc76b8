"""DERP inside WebSocket, for clients in browsers: the same byte stream, in binary messages.

wsproto reads and writes the messages; DerpConnection sees a transport like any other.
Source: RFC 6455; protocol reference, DERP section 1.
"""

import asyncio
from typing import Any, cast

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from ..http_front import Refused, UpgradeRequest

SUBPROTOCOL = "derp"
_VERSION = "13"
_PONG_BUFFER_BYTES = 4096


def wants_derp(request: UpgradeRequest) -> bool:
    """Tell whether the client asked for the subprotocol; very old ones, not in browsers, meant plain DERP."""
    offered = request.headers.get("sec-websocket-protocol", "").split(",")
    return SUBPROTOCOL in {one.strip() for one in offered}


def answer_to(request: UpgradeRequest) -> bytes:
    """Return the answer that opens the WebSocket. Raises Refused."""
    key = request.headers.get("sec-websocket-key", "")
    if request.headers.get("sec-websocket-version") != _VERSION or not key.isascii() or not 1 <= len(key) <= 64:
        raise Refused(400, "this is no WebSocket of version 13")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + generate_accept_token(key.encode())
        + b"\r\nSec-WebSocket-Protocol: derp\r\n\r\n"
    )


class WebSocketCarrier(asyncio.Protocol):
    """Between a transport that speaks WebSocket and a protocol that wants a plain stream."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._socket = Connection(ConnectionType.SERVER)
        self._link: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is one in all but inheritance.
        self._link = cast(asyncio.Transport, transport)
        self._inner.connection_made(_InnerTransport(self._link, self._socket))

    def data_received(self, data: bytes) -> None:
        try:
            self._socket.receive_data(data)
            for event in self._socket.events():
                if isinstance(event, BytesMessage):
                    if event.data:
                        self._inner.data_received(bytes(event.data))
                elif isinstance(event, Ping):
                    # Who sends pings without reading the answers gets none, instead of filling our memory.
                    if self._link.get_write_buffer_size() < _PONG_BUFFER_BYTES:
                        self._link.write(self._socket.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._link.write(self._socket.send(event.response()))
                    self._link.close()
                elif isinstance(event, TextMessage):
                    self._link.close()  # DERP has no text
                if self._link.is_closing():
                    return
        except (RemoteProtocolError, LocalProtocolError):
            self._link.close()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


class _InnerTransport(asyncio.Transport):
    """What DerpConnection writes to: each write becomes a binary message."""

    def __init__(self, link: asyncio.Transport, socket: Connection) -> None:
        super().__init__()
        self._link = link
        self._socket = socket

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._link.is_closing():
            self._link.write(self._socket.send(BytesMessage(data=bytes(data))))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._link.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._link.is_closing()

    def close(self) -> None:
        self._link.close()

    def abort(self) -> None:
        self._link.abort()

    def pause_reading(self) -> None:
        self._link.pause_reading()

    def resume_reading(self) -> None:
        self._link.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._link.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._link.set_write_buffer_limits(high, low)
