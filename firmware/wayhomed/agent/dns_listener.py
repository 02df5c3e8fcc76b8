"""Where questions come in: one UDP socket or TCP listener at one address of this machine.

A listener hands each question on as asked(listener, query, client), and takes the answer by send(client, query,
message), a message of None being SERVFAIL. Strangers (is_client(ip) says no) get no word.
"""

import asyncio

from wayhomed.port import const, packets
from wayhomed.port.tasks import start, within
from wayhomed.port.tcp_listener import TcpListener as Tcp
from wayhomed.wire import dns
from wayhomed.wire.errors import BadWire

from .upstreams import read_message, write_message

# Chosen by us
_AT_ONCE = const(64)  # questions read before others get a turn
_MAX_CONNECTIONS = const(16)
_MAX_CONNECTIONS_OF_CLIENT = const(4)
_IDLE_MS = const(10_000)
_ANSWER_MS = const(12_000)  # more than core.dns_forward takes


class UdpListener:
    def __init__(self, ip: bytes, port: int, is_client, asked):
        """Raises OSError, 98 if the port is taken."""
        self._is_client = is_client
        self._asked = asked
        self._socket = packets.udp_socket() if len(ip) == 4 else packets.udp_socket6()
        try:
            self._socket.bind(packets.inet_address(ip, port))
        except BaseException:
            self._socket.close()
            raise

    async def run(self) -> None:
        while True:
            await packets.wait_readable(self._socket)
            for _ in range(_AT_ONCE):
                try:
                    datagram, source = packets.receive_from(self._socket, dns.MAX_QUERY_BYTES + 1)
                except OSError as error:
                    if error.errno == packets.EAGAIN:
                        break
                    continue  # what the kernel reports of an answer that found nobody
                if not self._is_client(source[0]) or not source[1]:
                    continue
                try:
                    query = dns.decode_query(datagram)
                except BadWire:
                    continue
                self._asked(self, query, source)
            await asyncio.sleep(0)

    def send(self, client: tuple, query: dns.Query, message) -> None:
        if message is None:
            message = dns.encode_answer(query, dns.SERVFAIL)
        if len(message) > query.udp_limit():
            message = dns.truncated(query)
        try:
            self._socket.sendto(message, packets.inet_address(client[0], client[1]))
        except OSError:
            pass  # it asks again

    def close(self) -> None:
        self._socket.close()


class TcpListener:
    def __init__(self, ip: bytes, port: int, is_client, asked):
        """Raises OSError, 98 if the port is taken."""
        self._is_client = is_client
        self._asked = asked
        self._listener = Tcp(ip, port)
        self._tasks: list = []

    async def run(self) -> None:
        open_by: dict = {}
        try:
            while True:
                stream, source = await self._listener.accept()
                self._tasks = [task for task in self._tasks if not task.done()]
                count = open_by.get(source[0], 0)
                if (
                    not self._is_client(source[0])
                    or len(self._tasks) >= _MAX_CONNECTIONS
                    or count >= _MAX_CONNECTIONS_OF_CLIENT
                ):
                    stream.close()
                    continue
                open_by[source[0]] = count + 1
                self._tasks.append(start(self._serve(stream, source, open_by)))
        finally:
            for task in self._tasks:
                task.cancel()

    async def _serve(self, stream, source: tuple, open_by: dict) -> None:
        held = bytearray()
        try:
            while True:
                message = await within(_IDLE_MS, read_message(stream, dns.MAX_QUERY_BYTES, held), "a question")
                if message is None:
                    return
                query = dns.decode_query(message)
                waiting = _Waiting(source[0], source[1])
                self._asked(self, query, waiting)
                reply = await within(_ANSWER_MS, waiting.answered(), "an answer")
                await within(_IDLE_MS, write_message(stream, reply), "the client")
        except (OSError, BadWire):
            pass
        finally:
            open_by[source[0]] -= 1
            if not open_by[source[0]]:
                del open_by[source[0]]
            stream.close()

    def send(self, client, query: dns.Query, message) -> None:
        client.give(dns.encode_answer(query, dns.SERVFAIL) if message is None else message)

    def close(self) -> None:
        self._listener.close()


class _Waiting:
    """A client by TCP: (ip, port) as others are, and where its answer is put."""

    def __init__(self, ip: bytes, port: int):
        self._source = (ip, port)
        self._reply = b""
        self._event = asyncio.Event()

    def __getitem__(self, index: int):
        return self._source[index]

    def give(self, message: bytes) -> None:
        self._reply = message
        self._event.set()

    async def answered(self) -> bytes:
        await self._event.wait()
        return self._reply
