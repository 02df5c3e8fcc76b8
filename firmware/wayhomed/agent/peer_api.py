"""The PeerAPI, as little of it as an exit node needs: DNS over HTTP for those whose traffic it carries.

It listens at the mesh addresses alone; the packet filter opens its port, and it answers only peers that the policy lets
reach the Internet through us. Nothing but names is at its paths. Source: wireguard.md sections 6 (step 4) and 7.1.
"""

import asyncio

from wayhomed.core import ranges
from wayhomed.core.names import is_below
from wayhomed.port import const
from wayhomed.port.tasks import lasting, start, wait_for_event, within
from wayhomed.port.tcp_listener import TcpListener
from wayhomed.wire import address, dns, doh
from wayhomed.wire.errors import BadWire

from .part import Part, Trouble

# Chosen by us
PORT = const(42_053)
_MAX_CONNECTIONS = const(32)
_REQUEST_MS = const(5_000)
_ANSWER_MS = const(12_000)  # more than core.dns_forward takes
_AGAIN_MS = const(10_000)


class PeerApi(Part):
    """resolver: a resolver.Resolver, who knows the answers."""

    name = "peer_api"

    def __init__(self, board, resolver):
        super().__init__(board)
        self._resolver = resolver
        self._wanted = False
        self._ips: list = []
        self._users = ranges.Ranges()
        self._due = asyncio.Event()
        self._open: dict = {}  # ip: (listener, task)
        self._tasks: list = []
        self._error = ""

    def serve_exit_users(self, wanted: bool) -> None:
        """Offer names to those who use this machine as an exit node, or do not any more."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._due.set()
            self._board.apply_again()

    # --- What the daemon asks and tells ---

    def wish(self, wishes) -> None:
        wishes.peer_api_port = PORT if self._wanted else 0

    def applied(self, plan, facts) -> None:
        self._users = plan.exit_users
        if sorted(plan.addresses) != self._ips:
            self._ips = sorted(plan.addresses)
            self._due.set()

    def hostinfo(self) -> dict:
        """Return the services that other clients look for (control.md 8.6)."""
        if not self._open:
            return {}
        found = []
        for ip in sorted(self._open):
            found.append({"Proto": "peerapi4" if len(ip) == 4 else "peerapi6", "Port": PORT})
        return {"Services": found + [{"Proto": "peerapi-dns-proxy", "Port": 1}]}

    # --- Serving ---

    async def run(self) -> None:
        try:
            while True:
                self._due.clear()
                self._listen()
                await wait_for_event(self._due, _AGAIN_MS)
        finally:
            for ip in list(self._open):
                self._close(ip)
            for task in self._tasks:
                task.cancel()

    def _listen(self) -> None:
        wanted = self._ips if self._wanted else []
        before = sorted(self._open)
        for ip in before:
            if ip not in wanted or self._open[ip][1].done():
                self._close(ip)
        self._error = ""
        for ip in wanted:
            if ip in self._open:
                continue
            try:
                listener = TcpListener(ip, PORT)
            except OSError as error:
                self._error = str(error.args[-1])
                continue
            self._open[ip] = (listener, start(self._accept(listener)))
        if sorted(self._open) != before:
            self._board.session.settings_changed()
            self._board.tell()

    def _close(self, ip: bytes) -> None:
        listener, task = self._open.pop(ip)
        task.cancel()
        listener.close()

    async def _accept(self, listener: TcpListener) -> None:
        try:
            while True:
                stream, source = await lasting(listener.accept)
                self._tasks = [task for task in self._tasks if not task.done()]
                if len(self._tasks) >= _MAX_CONNECTIONS:
                    stream.close()
                else:
                    self._tasks.append(start(self._serve(stream, source)))
        except OSError:
            self._due.set()  # its address is gone

    async def _serve(self, stream, source: tuple) -> None:
        try:
            await within(_REQUEST_MS + _ANSWER_MS, self._answer(stream, source), "a peer")
        except OSError:
            pass
        finally:
            stream.close()

    async def _answer(self, stream, source: tuple) -> None:
        data = await _some(stream)
        if not self._users.intersection(ranges.Ranges([ranges.single(source[0])])):
            await stream.write(doh.encode_response(doh.FORBIDDEN))
            return
        reader = doh.RequestReader()
        try:
            while not reader.feed(data):
                data = await _some(stream)
            query = dns.decode_query(reader.message)
        except doh.NotHere:
            await stream.write(doh.encode_response(doh.NOT_FOUND))
            return
        except BadWire:
            await stream.write(doh.encode_response(doh.BAD_REQUEST))
            return
        if self._is_filtered(query):
            await stream.write(doh.encode_response(doh.OK, dns.encode_answer(query, dns.NXDOMAIN)))
            return
        told = asyncio.Event()
        replies: list = []

        def send(_client, query, message) -> None:
            replies.append(dns.encode_answer(query, dns.SERVFAIL) if message is None else message)
            told.set()

        self._resolver.ask(query, stream, source, send)
        await told.wait()
        await stream.write(doh.encode_response(doh.OK, replies[0]))

    def _is_filtered(self, query: dns.Query) -> bool:
        """Tell whether the coordinator lets no exit node answer for a name (control.md 8.4: ExitNodeFilteredSet)."""
        filtered = self._board.netmap.dns.get("ExitNodeFilteredSet")
        name = dns.name_text(query.labels)
        for suffix in filtered if isinstance(filtered, list) else ():
            if isinstance(suffix, str) and suffix and is_below(name, suffix.lower().strip(".")):
                return True
        return False

    # --- For people ---

    def troubles(self) -> list:
        if self._wanted and self._error:
            return [Trouble("users of this exit node get no DNS from it: port %d: %s" % (PORT, self._error))]
        return []

    def status(self) -> dict:
        return {"serving": [address.endpoint_text((ip, PORT)) for ip in sorted(self._open)]} if self._wanted else {}


async def _some(stream) -> bytes:
    data = await stream.read()
    if not data:
        raise OSError(104, "hung up")
    return data
