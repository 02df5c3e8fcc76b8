"""A DERP client for tests: wire/derp on asyncio streams."""

import asyncio
import ssl

from relay.people import NONCE, Person
from wayhomed.wire import derp

_PATIENCE_S = 60  # only ever waited for when something is broken


class DerpClient:
    """One connection to a relay. `frames` are those read so far by nobody."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = derp.DerpDecoder()
        self.frames: list[tuple[int, bytes]] = []
        self.server_key = b""
        self.info: derp.ServerInfo | None = None

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None, **options: object) -> "DerpClient":
        """Open the TCP (and TLS) connection and no more."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, **options))

    @classmethod
    async def join(cls, port: int, person: Person, tls: ssl.SSLContext | None = None) -> "DerpClient":
        """Go through the whole handshake."""
        client = await cls.connect(port, tls)
        await client.upgrade()
        await client.say_hello(person)
        return client

    async def upgrade(self) -> None:
        self.writer.write(derp.encode_upgrade_request("relay.test"))
        head = b""
        while (rest := derp.split_upgrade_response(head)) is None if head else True:
            head += await self._read()
        self.frames += self.decoder.feed(rest)

    async def say_hello(self, person: Person) -> None:
        self.server_key = derp.decode_server_key(await self.frame(derp.SERVER_KEY))
        self.writer.write(derp.encode_client_info(person.private, self.server_key, NONCE))
        payload = await self.frame(derp.SERVER_INFO)
        self.info = derp.decode_server_info(payload, person.private, self.server_key)

    async def frame(self, kind: int) -> bytes:
        """Return the payload of the next frame, which must be of this kind."""
        while not self.frames:
            self.frames += self.decoder.feed(await self._read())
        got, payload = self.frames.pop(0)
        assert got == kind, f"frame {got:#x} where {kind:#x} was expected"
        return payload

    async def packet(self) -> tuple[bytes, bytes]:
        return derp.decode_packet(await self.frame(derp.RECV_PACKET))

    async def is_closed(self) -> bool:
        """Wait for the relay's end of the connection; False if there comes a frame instead."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while data := await self.reader.read(65536):
                    self.frames += self.decoder.feed(data)
                    if [kind for kind, _ in self.frames if kind != derp.SERVER_KEY]:
                        return False
        except ConnectionError:
            pass
        return True

    def send_packet(self, to: Person, packet: bytes) -> None:
        self.writer.write(derp.encode_send_packet(to.public, packet))

    async def answers(self) -> None:
        """Wait until the relay has handled everything that was sent: it answers in order."""
        self.writer.write(derp.encode_ping(b"in order"))
        while True:
            while not self.frames:
                self.frames += self.decoder.feed(await self._read())
            kind, _ = self.frames.pop(0)
            if kind == derp.PONG:
                return

    def close(self) -> None:
        self.writer.transport.abort()

    async def _read(self) -> bytes:
        async with asyncio.timeout(_PATIENCE_S):
            data = await self.reader.read(65536)
        if not data:
            raise ConnectionResetError("the relay closed the connection")
        return data
