"""Asking other resolvers: the sockets and the waiting around core.dns_forward, one task a question."""

import asyncio

from wayhomed.core.dns_forward import DEADLINE_MS, Attempt, Forwarder, Pending
from wayhomed.port import const, monotonic_ms, net, packets, random_bytes
from wayhomed.port.tasks import start, wait_for_event, within

_MAX_REPLY_BYTES = const(65_535)


class _Waiting:
    """A client and who is to be told its answer; the same as another of the same client, who asks again."""

    def __init__(self, client, answered):
        self.client = client
        self.answered = answered

    def __eq__(self, other) -> bool:
        return self.client == other.client


class Upstreams:
    """Runs a Forwarder."""

    def __init__(self):
        self.forwarder = Forwarder(random_bytes)
        self._tasks: list = []

    def ask(self, query, client, source: tuple, upstreams: list, answered) -> bool:
        """Have a question asked; tell whether it is. At the end answered(client, query, reply or None) is called:
        reply is the upstream's message with an id and question of its own.
        """
        waiting = _Waiting(client, answered)
        pending, is_new = self.forwarder.ask(query, waiting, source, upstreams, monotonic_ms())
        if is_new:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks.append(start(self._work(pending)))
        return pending is not None

    def close(self) -> None:
        """End all questions on their way."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _work(self, pending: Pending) -> None:
        try:
            await within(2 * DEADLINE_MS, self._until_done(pending), "a question to a resolver")
        except OSError:
            pass
        finally:
            self.forwarder.finished(pending)
        for waiting, query, _ip in pending.clients:
            waiting.answered(waiting.client, query, pending.answer)

    async def _until_done(self, pending: Pending) -> None:
        news = asyncio.Event()
        tries: list = []
        try:
            while not pending.is_done:
                news.clear()
                attempt = self.forwarder.next_attempt(pending, monotonic_ms())
                if attempt is not None:
                    tries.append(start(self._try(pending, attempt, news)))
                elif not pending.is_done:
                    await wait_for_event(news, max(1, pending.next_timer() - monotonic_ms()))
        finally:
            for task in tries:
                task.cancel()

    async def _try(self, pending: Pending, attempt: Attempt, news) -> None:
        try:
            await (self._try_tcp if attempt.by_tcp else self._try_udp)(pending, attempt, news)
        except OSError:
            pass  # nobody there, or it hung up
        finally:
            self.forwarder.failed(pending, attempt, monotonic_ms())
            news.set()

    async def _try_udp(self, pending: Pending, attempt: Attempt, news) -> None:
        """By a socket of its own: its port is chosen at random, and it gets nothing but what comes from there."""
        ip, port = attempt.upstream
        asking = packets.udp_socket() if len(ip) == 4 else packets.udp_socket6()
        try:
            asking.connect(packets.inet_address(ip, port))
            asking.send(attempt.message)
            while attempt.is_open:
                await packets.wait_readable(asking)
                try:
                    reply = asking.recv(_MAX_REPLY_BYTES)
                except OSError as error:
                    if error.errno == packets.EAGAIN:
                        continue
                    raise
                self.forwarder.received(pending, attempt, reply, monotonic_ms())
                news.set()
        finally:
            asking.close()

    async def _try_tcp(self, pending: Pending, attempt: Attempt, news) -> None:
        stream = await net.connect_tcp(attempt.upstream[0], attempt.upstream[1], DEADLINE_MS, 0)
        try:
            await write_message(stream, attempt.message)
            reply = await read_message(stream)
            if reply is not None:
                self.forwarder.received(pending, attempt, reply, monotonic_ms())
        finally:
            stream.close()


async def write_message(stream, message: bytes) -> None:
    """Write one message as TCP carries it: its length in 2 bytes before it (RFC 1035 section 4.2.2)."""
    await stream.write(len(message).to_bytes(2, "big") + message)


async def read_message(stream, most_bytes: int = _MAX_REPLY_BYTES, buffered: bytearray | None = None):
    """Return the next message of a TCP connection, None at its end and for one longer than most_bytes.

    buffered: what was read beyond the message before, and now beyond this one.
    """
    held = bytearray() if buffered is None else buffered
    wanted = 2
    while True:
        if len(held) >= 2:
            wanted = 2 + (held[0] << 8 | held[1])
            if wanted > 2 + most_bytes:
                return None
            if len(held) >= wanted:
                message = bytes(held[2:wanted])
                held[:wanted] = b""
                return message
        data = await stream.read(wanted - len(held))
        if not data:
            return None
        held += data
