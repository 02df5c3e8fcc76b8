"""Carries core.paths: every peer's way, by the relay or direct, and how the network sees us.

    WireGuard's port   disco, STUN --> udp_received, StunRound     what comes of it: datagrams by UDP or a relay,
    relays             disco       --> relay_received              WireGuard's endpoints to set, sources to hold back,
    the kernel         traffic     --> traffic_seen                endpoints to tell the coordinator
    the clock                      --> timer_fired

Nothing here wakes an idle machine: each loop waits for an event until the core names a time.
"""

import asyncio

from wayhomed.core import netcheck as measuring
from wayhomed.core import paths as deciding
from wayhomed.core.candidates import Own
from wayhomed.core.endpoints import OwnEndpoints, netinfo
from wayhomed.core.paths import Paths
from wayhomed.port import const, monotonic_ms, monotonic_us, net, packets, random_bytes
from wayhomed.port.tasks import run_all, sleep_ms, start, wait_for_event
from wayhomed.wire import disco, keys, stun
from wayhomed.wire.address import endpoint_text
from wayhomed.wire.errors import BadWire

from .state import StateError

# Chosen by us
POLL_MS = const(3_000)  # of WireGuard's counters while somebody may be direct (wireguard.md 3.1)
_PING_AGAIN_MS = const(1_000)
_LOOKUP_MS = const(2_000)
_NAMES_MS = const(600_000)  # a STUN server's addresses are believed this long
_MAX_NAMES = const(64)
_BROKEN_MS = const(1_000)  # a pause after the port could not be read
_ANSWERS = const(8)  # times in a row that a failure to send may make the core send elsewhere
_ENOBUFS = const(105)
_ETIMEDOUT = const(110)
_ENOTCONN = const(107)
_EHOSTUNREACH = const(113)


class _Ping:
    """A ping of a user, under way. answer: (endpoint or None, region id, round trip in us)."""

    def __init__(self):
        self.came = asyncio.Event()
        self.sent_us: dict = {}  # txid -> when
        self.answer: tuple = ()


class PathKeeper:
    """The paths to all peers while the data plane stands; by the relay, all of them, while it doesn't.

    `board` gives netmap, links, log, state, and is told endpoints_changed() and paths_changed(). `one_call` is the lock
    under which the data plane is asked one thing at a time.
    """

    def __init__(self, board, one_call):
        self.netcheck = None  # the newest core.netcheck.Netcheck
        self._board = board
        self._one_call = one_call
        self._data_plane = None
        self._own_endpoints: OwnEndpoints = None  # type: ignore[assignment]  # until the first run()
        self._told: list | None = None  # what the coordinator is told; None before the first measurement
        self._resolved: dict = {}  # host name -> addresses
        self._resolved_ms = 0
        self._measuring = False
        self._round: measuring.StunRound | None = None  # the one under way
        self._measure_due = asyncio.Event()
        self._measured = asyncio.Event()  # replaced by a new one each time
        self._answered = asyncio.Event()
        self._wake = asyncio.Event()  # the timer may have moved
        self._poll_wanted = asyncio.Event()
        self._sets_due = asyncio.Event()
        self._has_timer = False
        self._trouble = ""
        self._adopted: dict = {}  # node key -> endpoint that WireGuard sends to since before we began
        self._begin(board.state.load_disco())

    def reset(self) -> None:
        """Begin anew, with a new disco key: WireGuard's sessions and endpoints are gone."""
        self._begin(None)

    def _begin(self, disco_private) -> None:
        self.is_kept_key = disco_private is not None
        self._disco_private = disco_private or keys.new_private(random_bytes(32))
        self._core = Paths(self._disco_private, random_bytes)
        self.disco_public = self._core.disco_public
        self._wanted: dict = {}  # node key -> (endpoint or None, renew), still to be set
        self._held_version = self._core.held_version
        self._pings: list = []
        self._waiting: dict = {}  # txid -> _Ping
        if self._told is not None:
            now_ms = monotonic_ms()
            self._core.own_endpoints(self._own_endpoints.to_call_with(now_ms), now_ms)

    def tunnel_stands(self, data_plane) -> bool:
        """Note that a data plane was started; return whether our disco key changed for it.

        Peers take their sessions for lost when it changes. So it stays with a tunnel that was adopted, and is kept on
        disk while one stands that may be.
        """
        changed = self.is_kept_key and not data_plane.adopted
        if changed:
            self.reset()
        self._adopted = data_plane.direct_peers() if data_plane.adopted else {}
        if not data_plane.outlives:
            self._board.state.forget_disco()
        elif not self.is_kept_key:
            try:
                self._board.state.save_disco(self._disco_private)
                self.is_kept_key = True
            except StateError as error:
                self._board.log.warning(str(error))
        return changed

    def tunnel_is_gone(self) -> None:
        """Note that the data plane was stopped, and all sessions with it."""
        self._board.state.forget_disco()
        self.reset()

    # --- Questions ---

    def view(self, node_key: bytes):
        """Return the core.paths.PathView of a peer, None for one that is not there (yet)."""
        return self._core.view(node_key, monotonic_ms())

    def refused(self) -> dict:
        """Return how many disco messages were left alone, by reason."""
        return self._core.refused

    def endpoints(self) -> list:
        """Return [((ip, port), type)]: where we think that we can be reached, the most reliable first."""
        return list(self._told or ())

    def told_endpoints(self):
        """Return what the coordinator is to be told: endpoints(), or None while nothing is known."""
        return self._told

    def net_info(self) -> dict:
        """Return Hostinfo.NetInfo; empty while we have no home relay."""
        home = self._board.links.relays.home
        return netinfo(self.netcheck, home) if home else {}

    def local_ips(self) -> list:
        """Return this machine's own addresses, as netcheck.describe() compares with them."""
        return self._own_endpoints.local_ips() if self._own_endpoints is not None else []

    # --- What the daemon tells ---

    def applied(self, peers: list, facts) -> None:
        """Take the peers (core.node.Node) that WireGuard has now, and the machine's Facts.

        To be called after WireGuard has them: what is decided for a peer must find it there.
        """
        now_ms = monotonic_ms()
        netmap = self._board.netmap
        mesh = {prefix[0] for peer in peers for prefix in peer.addresses}
        if netmap.node is not None:
            mesh.update([prefix[0] for prefix in netmap.node.addresses])
        own_key = keys.public_of(self._board.state.node_private)
        self._core.peers_changed(own_key, peers, Own(facts.own, facts.connected, mesh), now_ms)
        adopted, self._adopted = self._adopted, {}
        for key in adopted:
            self._core.adopted(key, adopted[key], now_ms)
        if self._own_endpoints is not None and self._own_endpoints.interfaces_changed(
            self._data_plane.own_addresses() if self._data_plane is not None else facts.own, mesh
        ):
            self._measure(True)
        self._carry_out()

    def uplink_changed(self) -> None:
        """This machine has another way out: what was proven is void, and we look different from outside."""
        self._resolved_ms = 0
        self._core.uplink_changed(monotonic_ms())
        self._measure(True)
        self._carry_out()

    def relays_changed(self) -> None:
        """There is a new relay map: other servers to ask."""
        self._measure(True)

    def relay_is_back(self) -> None:
        """A link to a relay broke and stands again: maybe because a router has another address now, and so have we."""
        self._measure(False)

    def relay_received(self, node_key: bytes, packet: bytes, region_id: int) -> None:
        """Take a disco packet that a relay brought from a peer."""
        self._core.relay_received(node_key, packet, region_id, monotonic_ms())
        self._carry_out()

    def packet_sent(self, node_key: bytes) -> None:
        """Note that WireGuard had a packet for a relayed peer. Called for each, so most calls must cost little."""
        self._core.packet_sent(node_key, monotonic_ms())
        outputs = self._core.take()
        if outputs or not self._has_timer:
            self._carry_out(outputs)

    def relayed_data_received(self, node_key: bytes) -> None:
        """Note that a relay brought a peer's data. Called for each such packet."""
        self._core.relayed_data_received(node_key, monotonic_ms())
        outputs = self._core.take()
        if outputs:
            self._carry_out(outputs)

    # --- What users ask ---

    async def run_netcheck(self, timeout_ms: int):
        """Measure now; return the core.netcheck.Netcheck. Raises OSError while the tunnel is down, or when it takes
        longer than that.
        """
        self._must_stand()
        measured = self._measured
        self._measure(False)
        if not await wait_for_event(measured, timeout_ms):
            raise OSError(_ETIMEDOUT, "the measurement did not end within %d s" % (timeout_ms // 1000))
        return self.netcheck

    async def ping(self, peer, timeout_ms: int, by_relay: bool = False) -> dict:
        """Ask a peer's daemon for an answer, by the way that its packets take now, or by the relay.

        Returns {"path": "direct" or "relay", "endpoint": text or "", "region": id or 0, "latency_ms": float}.
        Raises OSError.
        """
        self._must_stand()
        one = _Ping()
        started_ms = monotonic_ms()
        try:
            while True:
                left_ms = started_ms + timeout_ms - monotonic_ms()
                if left_ms <= 0:
                    raise OSError(_ETIMEDOUT, "%s did not answer" % peer.display_name())
                try:
                    txid = self._core.user_ping(peer.key, monotonic_ms(), by_relay)
                except BadWire as error:
                    raise OSError(_EHOSTUNREACH, "%s can't be asked: %s" % (peer.display_name(), error))
                one.sent_us[txid] = monotonic_us()
                self._waiting[txid] = one
                self._carry_out()
                if await wait_for_event(one.came, min(left_ms, _PING_AGAIN_MS)):
                    break
        finally:
            for txid in one.sent_us:
                self._waiting.pop(txid, None)
        endpoint, region_id, latency_us = one.answer
        return {
            "path": "relay" if endpoint is None else "direct",
            "endpoint": "" if endpoint is None else endpoint_text(endpoint),
            "region": region_id,
            "latency_ms": latency_us / 1000,
        }

    def _must_stand(self) -> None:
        if self._data_plane is None:
            raise OSError(_ENOTCONN, "the tunnel does not stand; run: wayhomectl up")

    # --- The loops ---

    async def run(self, data_plane) -> None:
        """Keep the paths on a data plane that was started. Never returns; ends by cancellation, or DataPlaneError."""
        self._data_plane = data_plane
        if self._own_endpoints is None:
            self._own_endpoints = OwnEndpoints(data_plane.shared_port.port, random_bytes)
        self._measure(True)
        try:
            await run_all(
                self._receive(data_plane.shared_port),
                self._keep_time(),
                self._measure_when_due(data_plane.shared_port),
                self._set_paths(data_plane),
                self._poll(data_plane),
            )
        finally:
            self._data_plane = None

    async def _receive(self, port) -> None:
        """Take what comes to our port besides WireGuard's own. Whatever the socket says, the daemon goes on."""
        while True:
            try:
                source, datagram = await port.receive()
            except OSError as error:
                self._tell_trouble("the shared port can't be read: %s" % error)
                await sleep_ms(_BROKEN_MS)
                continue
            now_ms = monotonic_ms()
            if disco.looks_like_disco(datagram):
                self._core.udp_received(datagram, source, now_ms)
                self._carry_out()
            elif stun.is_stun(datagram) and self._round is not None:
                if self._round.answer_received(datagram, source, now_ms):
                    self._answered.set()

    async def _keep_time(self) -> None:
        while True:
            self._wake.clear()
            now_ms = monotonic_ms()
            due_ms = self.next_timer_ms(now_ms)
            self._has_timer = due_ms is not None
            if due_ms is None:
                await self._wake.wait()
                continue
            # At least a moment: a core that named the past again and again must not stop the daemon.
            if due_ms <= now_ms:
                self._fire(now_ms)
                await sleep_ms(1)
            else:
                await wait_for_event(self._wake, due_ms - now_ms)

    def next_timer_ms(self, now_ms: int):
        """Return when something is due: in the core, or a measurement as long as there is traffic; None = nothing, so
        that nothing wakes this machine.
        """
        due_ms = self._core.next_timer_ms()
        refresh_ms = self._refresh_ms(now_ms)
        if due_ms is None or refresh_ms is None:
            return refresh_ms if due_ms is None else due_ms
        return min(due_ms, refresh_ms)

    def _refresh_ms(self, now_ms: int):
        """Return when to look again how the network sees us; None while that is under way, or nobody wants to know."""
        if self._measuring or self._measure_due.is_set() or not self._board.netmap.derp_map.regions:
            return None
        return self._own_endpoints.next_refresh_ms() if self._core.endpoints_wanted(now_ms) else None

    def _fire(self, now_ms: int) -> None:
        refresh_ms = self._refresh_ms(now_ms)
        if refresh_ms is not None and refresh_ms <= now_ms:
            self._measure(False)
        self._core.timer_fired(now_ms)
        self._carry_out()

    def _carry_out(self, outputs=()) -> None:
        """Do what the core has decided; outputs: what was taken of it already."""
        core = self._core
        for _ in range(_ANSWERS):
            outputs = outputs or core.take()
            if not outputs:
                break
            for output in outputs:
                kind = output[0]
                if kind == deciding.SEND_UDP:
                    self._send(output[1], output[2])
                elif kind == deciding.SEND_RELAY:
                    self._send_by_relay(output[1], output[2], output[3])
                elif kind == deciding.SET_PATH:
                    self._want_path(output[1], output[2], output[3])
                elif kind == deciding.REFRESH_ENDPOINTS:
                    self._measure(False)
                elif kind == deciding.PONGED:
                    self._ponged(output[2], output[3], output[4])
            outputs = ()
        if core.held_version != self._held_version:
            self._sets_due.set()
        self._wake.set()
        self._poll_wanted.set()

    def _send(self, endpoint: tuple, datagram: bytes) -> None:
        if self._data_plane is None:
            return
        try:
            self._data_plane.shared_port.send(endpoint, datagram)
        except OSError as error:
            if error.errno not in (packets.EAGAIN, _ENOBUFS):  # full: lost, as on any network
                self._core.send_failed(endpoint, monotonic_ms())

    def _send_by_relay(self, node_key: bytes, region_id: int, datagram: bytes) -> None:
        links = self._board.links
        if region_id:
            links.send_by(region_id, node_key, datagram)
            return
        peer = self._board.peer_by_key(node_key)
        if peer is not None:
            links.send(node_key, peer.home_derp, datagram)

    def _want_path(self, node_key: bytes, endpoint, renew: bool) -> None:
        before = self._wanted.get(node_key)
        self._wanted[node_key] = (endpoint, renew or (before is not None and before[1]))
        self._sets_due.set()
        self._board.log.debug("%s: %s" % (keys.short(node_key), endpoint_text(endpoint) if endpoint else "relay"))
        self._board.paths_changed()

    def _ponged(self, txid: bytes, endpoint, region_id: int) -> None:
        one = self._waiting.get(txid)
        if one is not None and not one.answer:
            one.answer = (endpoint, region_id, monotonic_us() - one.sent_us[txid])
            one.came.set()

    async def _set_paths(self, data_plane) -> None:
        while True:
            await self._sets_due.wait()
            self._sets_due.clear()
            async with self._one_call:
                # Sources are held back before a path falls back to the relay: their packets would move it again.
                if self._held_version != self._core.held_version:
                    self._held_version = self._core.held_version
                    data_plane.hold(self._core.held())
                wanted, self._wanted = self._wanted, {}
                if wanted:
                    await data_plane.set_paths([(key, wanted[key][0], wanted[key][1]) for key in wanted])

    async def _poll(self, data_plane) -> None:
        """Ask WireGuard what moved, while a peer is direct or about to be: of direct packets we see nothing else."""
        while True:
            if not self._core.polling_wanted(monotonic_ms()):
                self._poll_wanted.clear()
                await self._poll_wanted.wait()
                continue
            async with self._one_call:
                traffic = await data_plane.traffic()
                now_ms = monotonic_ms()
                for key in traffic:
                    sent, received, endpoint, _handshake_s = traffic[key]
                    # What is still to be set was decided after what WireGuard says here.
                    if key not in self._wanted:
                        self._core.traffic_seen(key, sent, received, endpoint, now_ms)
            self._carry_out()
            await sleep_ms(POLL_MS)

    # --- How the network sees us ---

    def _measure(self, anew: bool) -> None:
        """Have a measurement made; anew: one that is under way tells nothing any more."""
        if anew or not self._measuring:
            self._measure_due.set()
            self._answered.set()

    async def _measure_when_due(self, port) -> None:
        while True:
            await self._measure_due.wait()
            self._measure_due.clear()
            if not self._board.netmap.derp_map.regions:
                continue  # nobody to ask yet; the relay map will have us measure
            self._measuring = True
            try:
                netcheck = await self._ask_servers(port)
            finally:
                self._measuring = False
                self._round = None
            if not self._measure_due.is_set():
                self._measurement_ended(netcheck)

    async def _ask_servers(self, port):
        """Return the Netcheck of one round, which ends before its time when another is due."""
        await self._resolve_names()
        servers = measuring.stun_servers(self._board.netmap.derp_map, self._resolved)
        one = self._round = measuring.StunRound(servers, random_bytes, monotonic_ms())
        while not self._measure_due.is_set():
            self._answered.clear()
            now_ms = monotonic_ms()
            for server, datagram in one.take_requests(now_ms):
                try:
                    port.send((server.ip, server.port), datagram)
                except OSError as error:
                    if error.errno not in (packets.EAGAIN, _ENOBUFS):
                        one.send_failed(server, now_ms)
            due_ms = one.next_timer_ms()
            if one.done(now_ms) or due_ms is None:
                break
            await wait_for_event(self._answered, max(1, due_ms - now_ms))
        return one.report(monotonic_ms())

    def _measurement_ended(self, netcheck) -> None:
        now_ms = monotonic_ms()
        before = self.net_info()
        self.netcheck = netcheck
        self._own_endpoints.report_received(netcheck, now_ms)
        current = self._own_endpoints.current(now_ms)
        # The order alone is no news: it is the answers' order among equals.
        changed = self._told is None or sorted(current) != sorted(self._told)
        if changed:
            self._told = current
        self._core.own_endpoints(self._own_endpoints.to_call_with(now_ms), now_ms)
        if changed or before != self.net_info():
            self._board.endpoints_changed()
        self._measured.set()
        self._measured = asyncio.Event()
        self._carry_out()

    async def _resolve_names(self) -> None:
        """Ask DNS for the STUN servers that the relay map names without addresses. What fails keeps what it had."""
        now_ms = monotonic_ms()
        names = measuring.hosts_to_resolve(self._board.netmap.derp_map)[:_MAX_NAMES]
        fresh = now_ms - self._resolved_ms < _NAMES_MS and self._resolved_ms
        missing = [name for name in names if not fresh or name not in self._resolved]
        if not missing:
            return
        failed = False

        async def look_up(name):
            nonlocal failed
            try:
                self._resolved[name] = await net.resolve(name, _LOOKUP_MS)
            except OSError:
                failed = True

        tasks = [start(look_up(name)) for name in missing]
        try:
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
        self._resolved = {name: self._resolved[name] for name in names if name in self._resolved}
        self._resolved_ms = 0 if failed else max(1, now_ms)

    def _tell_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._board.log.warning(text)
