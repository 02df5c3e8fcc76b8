"""The links to relays: DERP over TLS, one link a region, each kept alive, each with a bounded queue of its own.

What is decided (which region, when to open, close, retry) is decided in core.relays; here bytes are carried.
"""

import asyncio

from wayhomed.core.relays import Relays
from wayhomed.port import const, monotonic_ms, net, random_bytes
from wayhomed.port.tasks import Mailbox, lasting, run_all, sleep_ms, start, wait_for_event, within
from wayhomed.wire import address, derp, keys, wireguard
from wayhomed.wire.errors import BadWire

from .certificates import tls_by_authorities

# Fixed by the protocol (derp.md 1, 4, 9)
_CONNECT_MS = const(1_500)
_HANDSHAKE_MS = const(10_000)
_SILENCE_MS = const(120_000)
_NAME = "the relay links"
_EXPIRE_MS = const(15_000)
_DEFAULT_PORT = const(443)
_PLAIN_PORT = const(80)
_PIN = "sha256-raw:"
# Chosen by us
QUEUE_FRAMES = const(128)  # for one region; when full, the oldest is dropped
_PROBE_MS = const(3_000)
_PROBE_AGAIN_MS = const(300_000)
_STALE_MS = const(5_000)  # WireGuard sends an initiation again after this long
_INITIATION_MS = const(90_000)  # as long as WireGuard itself tries (whitepaper 6.1)
_MAX_INITIATIONS = const(512)


class RelayLinks:
    """All links. `board` gives node_private(), clock and log, and is told packet_received(node key, packet, region id),
    relays_changed() when a link came or went, relay_is_back() when one that broke stands again, and home_changed().
    """

    def __init__(self, board, mark: int, allow_insecure: bool, plain_http: bool):
        """allow_insecure: take InsecureForTests at its word; plain_http: relays speak HTTP without TLS. For labs."""
        self.relays = Relays()
        self._board = board
        self._log = board.log
        self._mark = mark
        self._allow_insecure = allow_insecure
        self._plain_http = plain_http
        self._queues: dict = {}  # region id -> Mailbox of (frame, queued at ms)
        self._tasks: dict = {}  # region id -> task
        # Peer's node key -> (region id, frame, queued at ms): the newest initiation that it did not answer yet. Of one
        # that went into a dying link WireGuard sends a new one only after 5 s; we send it again when the link is back.
        self._initiations: dict = {}
        self._heard_ms: dict = {}  # region id -> when its relay last said anything
        self._broken: set = set()  # region ids whose link stood, and broke
        self._changed = asyncio.Event()
        self._probe_due = asyncio.Event()
        self.errors: dict = {}  # region id -> why its link is down
        self.bytes_sent = self.bytes_received = 0

    # --- What the daemon tells ---

    def map_received(self, derp_map) -> None:
        before = self.relays.home
        for region_id in self.relays.map_received(derp_map, monotonic_ms()):
            self._end(region_id)
        if len(self.relays.candidates()) > 1:
            self._probe_due.set()
        self._home_changed(before)
        self._changed.set()

    def node_key_changed(self) -> None:
        """Connect everywhere anew: a relay knows us by our node key."""
        self._initiations = {}
        for region_id in list(self._tasks):
            self._end(region_id)
        self._changed.set()

    def uplink_changed(self) -> None:
        """Connect everywhere anew, at once: the old connections may be dead without anybody saying so. Queues stay."""
        for region_id in list(self._tasks):
            self._tasks.pop(region_id).cancel()
            self.relays.link_closed(region_id)
        self._changed.set()
        self._probe_due.set()
        self._board.relays_changed()

    def clock_trusted(self) -> None:
        """Connect anew where a certificate was taken without a look at its dates. Queues stay."""
        for region_id in list(self._tasks):
            if not self._plain_http and self._is_dated(region_id):
                self._tasks.pop(region_id).cancel()
                self.relays.link_closed(region_id)
        self._changed.set()

    def _is_dated(self, region_id: int) -> bool:
        for server in self.relays.servers(region_id):
            if not server.cert_name.startswith(_PIN) and not server.insecure_for_tests:
                return True
        return False

    def send(self, node_key: bytes, home_derp: int, packet: bytes) -> bool:
        """Queue a packet for a peer; False if no relay leads to it."""
        now_ms = monotonic_ms()
        region_id = self.relays.region_of(node_key, home_derp, now_ms)
        if not region_id:
            return False
        self.send_by(region_id, node_key, packet)
        return True

    def send_by(self, region_id: int, node_key: bytes, packet: bytes) -> None:
        """Queue a packet for a peer in a certain region."""
        now_ms = monotonic_ms()
        frame = derp.encode_send_packet(node_key, packet)
        if len(packet) == wireguard.INITIATION_BYTES and wireguard.classify(packet) == wireguard.INITIATION:
            self._keep_initiation(region_id, node_key, frame, now_ms)
        queue = self._queues.get(region_id)
        if queue is None:
            queue = self._queues[region_id] = Mailbox(QUEUE_FRAMES)
        queue.put((frame, now_ms))
        if region_id not in self._tasks:
            self._changed.set()

    def _keep_initiation(self, region_id: int, node_key: bytes, frame: bytes, now_ms: int) -> None:
        kept = self._initiations
        if node_key not in kept and len(kept) >= _MAX_INITIATIONS:
            for key in [key for key in kept if now_ms - kept[key][2] >= _INITIATION_MS]:
                del kept[key]
            if len(kept) >= _MAX_INITIATIONS:
                return
        kept[node_key] = (region_id, frame, now_ms)

    def handshake_answered(self, node_key: bytes) -> None:
        """Note that a peer answers: its initiation need not be sent again."""
        if node_key in self._initiations:
            del self._initiations[node_key]

    # --- The links ---

    async def run(self) -> None:
        """Keep a link to every region that is wanted. Never returns; cancelling it closes them all."""
        try:
            await run_all(self._supervise(), self._probe_regions())
        finally:
            self._board.progress.rests(_NAME)
            for region_id in list(self._tasks):
                self._end(region_id)

    async def _supervise(self) -> None:
        while True:
            self._changed.clear()
            for region_id in self.relays.expire(monotonic_ms()):
                self._end(region_id)
            for region_id in self.relays.wanted():
                if region_id not in self._tasks:
                    self._tasks[region_id] = start(lasting(self._keep, region_id))
            self._board.progress.due(_NAME, monotonic_ms() + _EXPIRE_MS)
            await wait_for_event(self._changed, _EXPIRE_MS)

    def _end(self, region_id: int) -> None:
        task = self._tasks.pop(region_id, None)
        if task is not None:
            task.cancel()
        self._queues.pop(region_id, None)
        self.errors.pop(region_id, None)
        self.relays.link_closed(region_id)

    async def _keep(self, region_id: int) -> None:
        """Hold the link to one region, whatever happens to it."""
        relays = self.relays
        while True:
            try:
                await run_all(self._open_and_carry(region_id))
            except (OSError, BadWire) as error:
                text = str(error.args[1]) if len(error.args) > 1 else str(error)
                if text != self.errors.get(region_id):
                    self._log.warning("relay %s: %s" % (relays.region_code(region_id), text))
                self.errors[region_id] = text
            if relays.is_up(region_id):
                self._broken.add(region_id)
            relays.link_lost(region_id, monotonic_ms(), random_bytes(1)[0])
            self._board.relays_changed()
            await sleep_ms(relays.wait_before_retry(region_id, monotonic_ms()))
            relays.retrying(region_id)

    async def _open_and_carry(self, region_id: int) -> None:
        failure: Exception = BadWire("the region has no relay")
        for server in self.relays.servers(region_id):
            try:
                stream, decoder, frames = await within(
                    _HANDSHAKE_MS, self._enter(server, region_id), "relay " + server.host_name
                )
            except (OSError, BadWire) as error:
                failure = error
                continue
            try:
                await self._carry(stream, decoder, frames, region_id)
            finally:
                stream.close()
        raise failure

    async def _enter(self, server, region_id: int) -> tuple:
        """Return (stream, decoder, frames that came along) once the relay has taken us in."""
        stream = await self._connect(server)
        try:
            await stream.write(derp.encode_upgrade_request(server.host_name))
            received = b""
            while True:
                rest = derp.split_upgrade_response(received) if received else None
                if rest is not None:
                    break
                received += await _more(stream)
            decoder = derp.DerpDecoder()
            decoder.append(rest)
            kind, payload = await _next_frame(stream, decoder)
            if kind != derp.SERVER_KEY:
                raise BadWire("the relay does not begin with its key")
            relay_key = derp.decode_server_key(payload)
            private = self._board.node_private()
            hello = derp.encode_client_info(private, relay_key, random_bytes(24))
            await stream.write(hello + derp.encode_note_preferred(region_id == self.relays.home))
            while True:
                kind, payload = await _next_frame(stream, decoder)
                if kind == derp.SERVER_INFO:
                    derp.decode_server_info(payload, private, relay_key)
                    return stream, decoder, decoder.feed(b"")
        except BaseException:
            stream.close()
            raise

    async def _connect(self, server):
        """Return a stream to one relay server, TLS checked as derp.md 7 has it."""
        plain = self._plain_http
        port = server.derp_port or (_PLAIN_PORT if plain else _DEFAULT_PORT)
        failure = OSError(113, "relay %s has no address" % server.host_name)
        for ip in await _addresses(server):
            try:
                stream = await net.connect_tcp(ip, port, _CONNECT_MS, self._mark)
            except OSError as error:
                failure = error
                continue
            if plain:
                return stream
            try:
                return await self._start_tls(stream, server)
            except BaseException:
                stream.close()
                raise
        raise failure

    async def _start_tls(self, stream, server):
        name = server.cert_name
        if server.insecure_for_tests:
            if not self._allow_insecure:
                raise BadWire("relay %s is marked InsecureForTests, which is for labs alone" % server.host_name)
            return await net.tls_unverified(stream, server.host_name)
        if name.startswith(_PIN):
            # The pin is a key's text but for its prefix: 64 hex digits.
            return await net.tls_by_pin(stream, server.host_name, keys.key_from_text(_PIN, name))
        return await tls_by_authorities(stream, server.host_name, name, self._board.clock)

    async def _carry(self, stream, decoder, frames: list, region_id: int) -> None:
        now_ms = monotonic_ms()
        self.relays.link_up(region_id, now_ms)
        self.errors.pop(region_id, None)
        self._log.info("relay %s: connected" % self.relays.region_code(region_id))
        queue = self._queues.get(region_id)
        if queue is None:
            queue = self._queues[region_id] = Mailbox(QUEUE_FRAMES)
        # What waited through an outage would only be in the way of what is sent now, but for unanswered initiations:
        # without a session nothing else is worth anything.
        waiting = queue.take_now()
        first = []
        for kept in self._initiations.values():
            if kept[0] == region_id and now_ms - kept[2] < _INITIATION_MS:
                first.append(kept[1])
                queue.put((kept[1], now_ms))
        for frame, queued_ms in waiting:
            if now_ms - queued_ms < _STALE_MS and frame not in first:
                queue.put((frame, queued_ms))
        self._board.relays_changed()
        if region_id in self._broken:
            self._broken.discard(region_id)
            self._board.relay_is_back()
        self._heard_ms[region_id] = now_ms
        await run_all(
            self._read(stream, decoder, frames, region_id, queue),
            self._write(stream, queue),
            self._watch(region_id),
        )

    async def _write(self, stream, queue) -> None:
        while True:
            data = b"".join([frame for frame, _queued_ms in await queue.take_all()])
            self.bytes_sent += len(data)
            await stream.write(data)

    async def _read(self, stream, decoder, frames: list, region_id: int, queue) -> None:
        while True:
            for kind, payload in frames:
                if kind == derp.RECV_PACKET:
                    self._board.packet_received(payload[: keys.KEY_BYTES], payload[keys.KEY_BYTES :], region_id)
                else:
                    self._frame_received(kind, payload, region_id, queue)
            data = await stream.read()
            if not data:
                raise OSError(104, "the relay closed the connection")
            self.bytes_received += len(data)
            self._heard_ms[region_id] = monotonic_ms()
            frames = decoder.feed(data)

    async def _watch(self, region_id: int) -> None:
        """Raise once the relay was silent for too long; a time limit on each read would cost more than the read."""
        while True:
            silent_ms = monotonic_ms() - self._heard_ms[region_id]
            if silent_ms >= _SILENCE_MS:
                raise OSError(110, "the relay has been silent for %d s" % (silent_ms // 1000))
            await sleep_ms(_SILENCE_MS - silent_ms)

    def _frame_received(self, kind: int, payload: bytes, region_id: int, queue) -> None:
        if kind == derp.PING:
            queue.put((derp.encode_pong(derp.decode_ping(payload)), monotonic_ms()))
        elif kind == derp.PEER_GONE:
            node_key, _reason = derp.decode_peer_gone(payload)
            self.relays.peer_gone(node_key, region_id)
        elif kind == derp.HEALTH:
            problem = derp.decode_health(payload)
            if problem:
                self._log.warning("relay %s says: %s" % (self.relays.region_code(region_id), problem))
        elif kind == derp.RESTARTING:
            self._log.info("relay %s restarts" % self.relays.region_code(region_id))

    def _home_changed(self, before: int) -> None:
        home = self.relays.home
        if home == before:
            return
        self._log.info("home relay: " + (self.relays.region_code(home) or "none"))
        for region_id in self._queues:
            if self.relays.is_up(region_id):
                frame = derp.encode_note_preferred(region_id == home)
                self._queues[region_id].put((frame, monotonic_ms()))
        self._board.home_changed()

    # --- Choosing home among several ---

    async def _probe_regions(self) -> None:
        """Measure how long each region's relay takes to accept a connection, and choose home by it."""
        while True:
            await wait_for_event(self._probe_due, _PROBE_AGAIN_MS)
            self._probe_due.clear()
            candidates = self.relays.candidates()
            if len(candidates) < 2:
                continue
            latencies_ms = {}
            for region_id in candidates:
                server = self.relays.servers(region_id)[0]
                started_ms = monotonic_ms()
                try:
                    stream = await within(_PROBE_MS, self._probe(server), "probing a relay")
                except (OSError, BadWire):
                    continue
                latencies_ms[region_id] = monotonic_ms() - started_ms
                stream.close()
            before = self.relays.home
            if self.relays.probed(latencies_ms, monotonic_ms()):
                self._home_changed(before)
                self._changed.set()
            elif not self.relays.home:
                await sleep_ms(1_000)
                self._probe_due.set()

    async def _probe(self, server):
        port = server.derp_port or (_PLAIN_PORT if self._plain_http else _DEFAULT_PORT)
        for ip in await _addresses(server):
            return await net.connect_tcp(ip, port, _CONNECT_MS, self._mark)
        raise OSError(113, "no address")


async def _addresses(server) -> list:
    """Return a relay's addresses: those that the map gives, else by its name."""
    given = [address.ip_from_text(text) for text in (server.ipv4, server.ipv6) if text not in ("", "none")]
    if given:
        return given
    lengths = [length for text, length in ((server.ipv4, 4), (server.ipv6, 16)) if text != "none"]
    return [ip for ip in await net.resolve(server.host_name, _CONNECT_MS) if len(ip) in lengths]


async def _more(stream) -> bytes:
    data = await stream.read()
    if not data:
        raise OSError(104, "the relay closed the connection: it may not know us yet, or not any more")
    return data


async def _next_frame(stream, decoder) -> tuple:
    while True:
        frame = decoder.next_frame()
        if frame is not None:
            return frame
        decoder.append(await _more(stream))
