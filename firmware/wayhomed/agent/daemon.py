"""The daemon as a whole: the netmap in the middle, and what moves when it changes.

    coordinator --ControlSession--> Netmap --plan--> DataPlane (kernel, WireGuard) <-- direct --> peers
                                       |               ^   ^ |
                                       |   PathKeeper -+   | |    which way each peer's packets go
                                       +--> RelayLinks ----+ |    those of peers that are not direct
                                                 ^-----------+
Every task of the daemon is started below run() and ends with it.
"""

import asyncio

from wayhomed.core import dataplane as planning
from wayhomed.core import expiry, server_url
from wayhomed.core import prefs as preferences
from wayhomed.core.backoff import Backoff
from wayhomed.core.config import PREFS
from wayhomed.core.netmap import Netmap
from wayhomed.core.pace import Pace
from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import const, monotonic_ms, random_bytes
from wayhomed.port.tasks import OutOfMemory, lasting, run_all, sleep_ms, tell_shortage, wait_for_event
from wayhomed.wire import address, disco, keys, wireguard
from wayhomed.wire.errors import BadWire

from . import parts
from .clock import Settings as ClockSettings
from .clock import TimeKeeper
from .configuration import Configuration
from .control_session import ControlSession, Phase
from .missing import tell_changes
from .netmap_saver import NetmapSaver
from .paths import PathKeeper
from .pings import Pings
from .relay_links import RelayLinks
from .state import StateError
from .trial import Trials
from .watchdog import Progress

# Chosen by us
_DATA_PLANE = "the data plane"
_REPLAN_MS = const(60_000)  # keys expire without anybody saying so
_KEY_MS = const(600_000)
# A netmap that changes without end is put into the kernel this often.
_APPLIES_AT_ONCE = const(20)
_APPLY_EVERY_MS = const(1_000)
_SETTLE_MS = const(500)  # an interface comes with several changes at once
_SAVE_EVERY_MS = const(10_000)


class Settings:
    """What the command line says. mark: the fwmark of all our own sockets; the rest as `wayhomed --help` has it."""

    def __init__(self):
        self.mark = 0x80000
        self.allow_insecure_relays = False
        self.plain_relays = False
        self.clock = ClockSettings([])


class Board:
    """One board: its state, its session, its links, its data plane."""

    def __init__(self, settings: Settings, state, log, make_data_plane, configuration=None):
        """make_data_plane() returns a linux.dataplane.DataPlane, or in tests what looks like one."""
        self.log = log
        self.configuration = configuration or Configuration()
        self.state = state
        self.netmap = Netmap()
        self.data_plane = None  # while it can be used
        self.standing = False  # from before its start until after its stop
        self.data_error = ""
        self.denied: list = []  # what the coordinator wants and the owner's ceiling does not leave, in words
        self.applied = False  # the present netmap is in the kernel
        self.refused_packets = 0  # from relays, of nobody we know
        self.progress = Progress()
        self.replacing = False  # this process ends to become a new one, which goes on with what stands
        self._make_data_plane = make_data_plane
        self._one_call = asyncio.Lock()  # the data plane is asked one thing at a time
        self._node_private_in_use = b""
        self._applied_id = 0  # which node the peers in the kernel know us as; 0 = no peers there
        self._peers_by_key: dict = {}
        self._uplinks: list | None = None  # of the last Facts while the data plane stands
        self._warned: int | None = None  # which warning of the key's end was given last
        self._apply_due = asyncio.Event()
        self._apply_pace = Pace(_APPLIES_AT_ONCE, _APPLY_EVERY_MS)
        self._save_due = asyncio.Event()
        self.saver = NetmapSaver(state, log)
        self._wanted_changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        self._key_due = asyncio.Event()
        self.clock = TimeKeeper(settings.clock, state, log, lambda: self.standing, self._clock_trusted)
        log.tell_time_by(self.clock.now_s)
        tell_shortage[0] = log.warning
        self.links = RelayLinks(self, settings.mark, settings.allow_insecure_relays, settings.plain_relays)
        self.paths = PathKeeper(self, self._one_call)
        self.pings = Pings(self)
        self.session = ControlSession(state, self, settings.mark)
        self.parts: list = []
        self.trials = Trials(self)
        self.trials.recover()
        self.parts = [self.trials] + parts.all_of(self)
        self._take_configuration()

    # --- Life ---

    async def run(self, *services) -> None:
        """Run until stop() is called or a service ends; then the machine is as it was before."""
        self._load_netmap()
        try:
            await run_all(
                lasting(self.clock.run),
                lasting(self.session.run),
                lasting(self._data_path),
                lasting(self._save_loop),
                lasting(self._watch_key),
                lasting(tell_changes, self),
                self._stop.wait(),
                *services,
                *[_run_on(part.run) for part in self.parts],
            )
        finally:
            self.saver.save_now(self.netmap)

    def stop(self) -> None:
        self._stop.set()

    def replace(self) -> None:
        """End, but leave what stands for the next process where the data plane can."""
        if not self._stop.is_set():
            self.replacing = True
            self._stop.set()

    def _take_configuration(self) -> None:
        """Have the configuration file's settings hold from the start."""
        configuration = self.configuration
        for problem in configuration.problems:
            self.log.warning(problem)
        try:
            self._settle(self.state.said, configuration.preferences())
        except (BadWire, StateError) as error:
            configuration.problems.append(str(error))
            self.log.warning("the configuration: " + str(error))

    def _load_netmap(self) -> None:
        try:
            saved = self.state.load_netmap()
        except StateError as error:
            self.log.warning(str(error))
            return
        if saved is None or not self.state.registered:
            return
        if saved.node.key != keys.public_of(self.state.node_private):
            self.log.info("the netmap on disk is another key's; not used")
            return
        self.log.info("starting with the netmap on disk: %d peers" % len(saved.peers))
        self.netmap = saved
        self._index_peers()
        self.links.map_received(saved.derp_map)

    # --- The owner's wishes (from the local API) ---

    def change_prefs(self, fields: dict, over_mesh: bool = False) -> None:
        """Take new settings and keep them, on trial if they come over the mesh.

        Raises BadWire for what makes no sense, StateError if they can't be kept.
        """
        self._refuse_fixed(fields)
        if fields.get("WantRunning") and not (fields.get("LoginServer") or self.state.prefs.login_server):
            raise BadWire("which coordinator? say it once: wayhomectl up --login-server https://mesh.example.net")
        said = preferences.changed(self.state.said, fields)
        if over_mesh:
            self.trials.begin(self.state.said, said.as_json())
        self._settle(said, self.state.fixed)

    def settle_again(self, said) -> None:
        """Have these settings hold, Prefs, beside what the configuration says now. Raises BadWire, StateError."""
        self._settle(said, self.configuration.preferences())

    def _refuse_fixed(self, fields: dict) -> None:
        """Raise BadWire for a field that the configuration file says otherwise, or that passes the ceiling."""
        state, configuration = self.state, self.configuration
        wanted = preferences.changed(state.prefs, fields).as_json()
        standing = state.prefs.as_json()
        for setting in PREFS:
            name = PREFS[setting]
            if name in fields and name in state.fixed and wanted[name] != standing[name]:
                raise BadWire(
                    "%s stands in %s; change it there, then have wayhomed read it again (SIGHUP)"
                    % (setting, configuration.place(setting))
                )
        for text in wanted["AdvertiseRoutes"] if "AdvertiseRoutes" in fields else ():
            reason = configuration.ceiling.lan_reason(address.prefix_from_text(text))
            if reason:
                raise BadWire("the route %s can't be offered: %s" % (text, reason))

    def reload(self, over_mesh: bool = False) -> None:
        """Read the configuration file again and do what it says; one with a fault changes nothing."""
        configuration = self.configuration
        try:
            on_trial = configuration.reread(over_mesh)
        except StateError as error:
            self.log.warning("the configuration: " + str(error))
            return
        if on_trial:
            self.trials.begin_file()
        for problem in configuration.problems:
            self.log.warning(problem)
        try:
            self._settle(self.state.said, configuration.preferences())
        except (BadWire, StateError) as error:
            configuration.problems.append(str(error))
            self.log.warning("the configuration: " + str(error))
            return
        if not configuration.problems:
            self.log.info("the configuration was read again")
        if not self.state.registered and self.state.prefs.want_running:
            self.session.login("", False, False, False)  # the auth key in the file may be another
        self._tell()

    def _settle(self, said, fixed: dict) -> None:
        """Let these settings hold, and keep what is to be kept. Raises BadWire, StateError: nothing is changed then."""
        state = self.state
        wanted = preferences.settled(said, fixed)
        moved = bool(state.server and wanted.login_server and wanted.login_server != state.server)
        kept = (state.said, state.fixed, state.prefs, state.server)
        kept_keys = (state.registered, state.server_key, state.node_private, state.next_node_private)
        state.said, state.fixed, state.prefs = said, fixed, wanted
        state.server = wanted.login_server or state.server
        if moved:
            # Another coordinator: our keys there must not be linked with those here.
            state.registered = False
            state.server_key = None
            state.node_private = keys.new_private(random_bytes(32))
            state.next_node_private = None
        try:
            if moved or said.as_json() != kept[0].as_json() or state.server != kept[3]:
                state.save()
            if moved:
                state.forget_netmap()
        except StateError:
            state.said, state.fixed, state.prefs, state.server = kept
            state.registered, state.server_key, state.node_private, state.next_node_private = kept_keys
            raise
        if moved:
            self.netmap = Netmap()
            self._index_peers()
            self.node_key_changed()
        self.session.settings_changed()
        for part in self.parts:
            part.settings_changed()
        self._wanted_changed.set()
        self._apply_due.set()

    # --- What the session asks and tells ---

    def standing_auth_key(self) -> str:
        """Return the auth key that the configuration file leads to, "" if there is none."""
        return self.configuration.auth_key()

    def net_info(self) -> dict:
        return self.paths.net_info()

    def own_endpoints(self):
        return self.paths.told_endpoints()

    def netmap_changed(self, difference) -> None:
        changed = [node_id for node_id in difference.peers_changed if node_id in self.netmap.peers]
        before = self._peers_by_key
        self._index_peers()
        for node_id in changed:
            peer = self.netmap.peers[node_id]
            old = before.get(peer.key)
            if old is not None and old.home_derp != peer.home_derp:
                self.links.relays.peer_moved(peer.key)
        for key in before:
            if key not in self._peers_by_key:
                self.links.relays.peer_moved(key)
        if difference.relays_changed:
            self.links.map_received(self.netmap.derp_map)
            self.paths.relays_changed()
        self.applied = False
        self._apply_due.set()
        if difference.lasting:
            self._save_due.set()
        if difference.self_changed:
            self._key_due.set()

    def node_key_changed(self) -> None:
        self.links.node_key_changed()
        self._apply_due.set()

    def session_changed(self) -> None:
        self._tell()

    @property
    def has_uplink(self):
        """Tell whether a default route leads out by an interface that has a link; None while that is not known."""
        return None if self._uplinks is None else bool(self._uplinks)

    @property
    def disco_public(self) -> bytes:
        return self.paths.disco_public

    async def ping_asked(self, request: dict) -> dict:
        return await self.pings.asked(request)

    def forget_coordinator(self) -> None:
        """Take nothing more from a coordinator that proved to be a false one, and nothing of what it said."""
        self.state.server_key = None
        self.state.key_undated = False
        try:
            self.forget_login()
        except StateError as error:
            self.log.error(str(error))

    def forget_login(self) -> None:
        """Be a node that nobody knows, with a key of its own. Raises StateError if the disk still says otherwise."""
        self.state.registered = False
        self.state.node_private = keys.new_private(random_bytes(32))
        self.state.next_node_private = None
        self.netmap = Netmap()
        self._index_peers()
        self.node_key_changed()
        self.state.save()
        self.state.forget_netmap()

    # --- What the clock tells ---

    def _clock_trusted(self) -> None:
        """Now dates mean something: certificates are looked at again, and whose key has run out."""
        self.links.clock_trusted()
        self._apply_due.set()
        self._key_due.set()
        self._tell()

    # --- The end of our key ---

    async def _watch_key(self) -> None:
        """Warn, weeks ahead, of the day on which our key ends: a remote board must not be locked out unheard."""
        while True:
            self._key_due.clear()
            step = self._expiry_step()
            if step != self._warned:
                self._warned = step
                if step is not None:
                    self.log.warning(self.expiry_warning() or expiry.EXPIRED)
                self.session.settings_changed()
                self._tell()
            self.session.time_passed()
            await wait_for_event(self._key_due, _KEY_MS)

    def _expiry_step(self):
        node = self.netmap.node
        return None if node is None else expiry.step(node.key_expiry_s, self.trusted_now_s())

    def expiry_warning(self) -> str:
        """Return the warning that is due, "" if none is, or the session tells of the key's end itself."""
        node = self.netmap.node
        if node is None or self.session.error == expiry.EXPIRED:
            return ""
        return expiry.words(node.key_expiry_s, self.trusted_now_s())

    def warnings(self) -> list:
        """Return what the coordinator's administrator should hear of, in the manner of its DebugFlags."""
        flags = []
        if self._warned is not None:
            flags.append("warn-key-expires-within-%d-days" % self._warned if self._warned else "warn-key-expired")
        if self.saver.error or self.state.problem:
            flags.append("warn-disk-not-writable")
        return flags

    # --- What the relay links ask and tell ---

    def node_private(self) -> bytes:
        return self.state.node_private

    def relays_changed(self) -> None:
        self._tell()

    def relay_is_back(self) -> None:
        self.paths.relay_is_back()

    def home_changed(self) -> None:
        self.session.settings_changed()
        self._tell()

    def packet_received(self, node_key: bytes, packet: bytes, region_id: int) -> None:
        """A relay brought a packet of a node; what is no peer's goes nowhere."""
        peer = self._peers_by_key.get(node_key)
        if peer is None or peer.expired:
            self.refused_packets += 1
            return
        self.links.relays.packet_received(node_key, region_id, monotonic_ms())
        if disco.looks_like_disco(packet):
            self.paths.relay_received(node_key, packet, region_id)
        elif self.data_plane is not None:
            if len(packet) == wireguard.RESPONSE_BYTES and packet[0] == wireguard.RESPONSE:
                self.links.handshake_answered(node_key)
            elif len(packet) > wireguard.KEEPALIVE_BYTES and packet[0] == wireguard.DATA:
                self.paths.relayed_data_received(node_key)
            self.data_plane.inject(node_key, packet)

    # --- What the paths ask and tell ---

    def peer_by_key(self, node_key: bytes):
        """Return the netmap's Node of a peer, or None."""
        return self._peers_by_key.get(node_key)

    def paths_changed(self) -> None:
        self._tell()

    def endpoints_changed(self) -> None:
        """We can be reached elsewhere, or the network looks different: the coordinator tells the others."""
        self.session.settings_changed()
        self._tell()

    # --- What the parts tell ---

    def apply_again(self) -> None:
        """Something that the kernel is to do has changed, beside netmap and settings."""
        self._apply_due.set()

    def tell(self) -> None:
        """Something that the status shows has changed."""
        self._tell()

    # --- The data path ---

    async def _data_path(self) -> None:
        """Have the data plane stand while the owner wants it; mend it when it breaks."""
        backoff = Backoff()
        if not self.state.prefs.want_running:
            await self._clean_up()
        while True:
            self._wanted_changed.clear()
            if not self.state.prefs.want_running:
                await self._wanted_changed.wait()
                continue
            started_ms = monotonic_ms()
            try:
                await run_all(self._stand(), self._until_unwanted())
                self.data_error = ""
                continue
            except (DataPlaneError, OutOfMemory) as error:
                self.data_error = str(error.args[-1])
            self.log.error("the tunnel does not stand, and is tried again: " + self.data_error)
            self._tell()
            if monotonic_ms() - started_ms > _REPLAN_MS:
                backoff.succeeded()
            await wait_for_event(self._wanted_changed, backoff.failed(random_bytes(1)[0]))

    async def _clean_up(self) -> None:
        """Finish a `down` in the middle of which the daemon was killed."""
        try:
            await self._make_data_plane().clean_up()
        except DataPlaneError as error:
            self.log.warning("what a killed daemon may have left can't be looked for: %s" % error)

    async def _until_unwanted(self) -> None:
        while self.state.prefs.want_running:
            self._wanted_changed.clear()
            await self._wanted_changed.wait()

    async def _stand(self) -> None:
        await self.clock.before_tunnel()
        data_plane = self._make_data_plane()
        self._node_private_in_use = self.state.node_private
        self.standing = True
        self.progress.due(_DATA_PLANE, monotonic_ms())
        try:
            await data_plane.start(self._node_private_in_use)
            if data_plane.adopted:
                self.log.info("a tunnel of ours stands already: it goes on as it is")
            if self.paths.tunnel_stands(data_plane):
                self.session.settings_changed()
            await self._use(data_plane)
        finally:
            self.standing = False
            self.progress.rests(_DATA_PLANE)
            self._tell()

    async def _use(self, data_plane) -> None:
        self.data_plane = data_plane
        self._applied_id = 0
        self._uplinks = None
        self._apply_due.set()
        try:
            await run_all(
                lasting(self.links.run),
                lasting(self.paths.run, data_plane),
                lasting(data_plane.carry_held),
                self._apply_loop(data_plane),  # without it what the netmap has closed would stay open: all begins anew
                lasting(self._pump, data_plane),
                lasting(self._notice_changes, data_plane),
                self._notice_end(data_plane),
                *[_run_on(part.stand, data_plane) for part in self.parts],
            )
        finally:
            self.data_plane = None
            self.applied = False
            async with self._one_call:
                stands = await self._leave(data_plane)
            if not stands:
                self._renew_disco()
                self.log.info("the machine is as it was before")

    async def _leave(self, data_plane) -> bool:
        """Let go of the data plane; return whether the tunnel stands on for the process that takes our place."""
        if not self.replacing or not self.state.prefs.want_running:
            await data_plane.stop()
            return False
        if await data_plane.leave():
            self.log.info("the tunnel stands on, for the process that takes over")
            return True
        self.log.warning("userspace WireGuard ends with this process: no tunnel until the next one has started its own")
        return False

    def _renew_disco(self) -> None:
        # WireGuard's sessions have ended with the tunnel. Stock clients begin theirs anew at once when they see another
        # disco key; otherwise they send into the old one for 15 seconds more (measured with 1.90.9).
        self.paths.tunnel_is_gone()
        self.session.settings_changed()

    async def _apply_loop(self, data_plane) -> None:
        while True:
            self.progress.due(_DATA_PLANE, monotonic_ms() + _REPLAN_MS)
            await wait_for_event(self._apply_due, _REPLAN_MS)
            await sleep_ms(self._apply_pace.wait_ms(monotonic_ms()))
            self._apply_pace.done(monotonic_ms())
            self._apply_due.clear()
            async with self._one_call:
                if self._node_private_in_use != self.state.node_private:
                    self._node_private_in_use = self.state.node_private
                    await data_plane.set_private_key(self._node_private_in_use)
                facts = data_plane.facts(self._remotes(), self.trusted_now_s())
                prefs = self.state.prefs
                wishes = planning.Preferences(
                    prefs.advertise_routes,
                    prefs.accept_routes,
                    prefs.snat,
                    self.configuration.ceiling,
                    prefs.snat_except,
                    prefs.lan_to_mesh,
                    prefs.mtu_bytes,
                )
                for part in self.parts:
                    part.wish(wishes)
                plan = planning.plan(self.netmap, wishes, facts)
                own_id = self.netmap.node.id if self.netmap.node else 0
                if self._applied_id not in (0, own_id):
                    # We are another node than before (deleted, and joined anew): the peers have forgotten our WireGuard
                    # sessions, and without this ours would be believed for another 15 s.
                    await data_plane.apply(planning.plan(Netmap(), wishes, facts))
                    self.paths.applied([], facts)
                await data_plane.apply(plan)
                self._applied_id = own_id
                moved = self._uplinks not in (None, facts.uplinks)
                self._uplinks = facts.uplinks
                if moved:
                    await data_plane.uplink_changed()
            self.paths.applied([peer for peer in self.netmap.peers.values() if peer.key in plan.peers], facts)
            for part in self.parts:
                part.applied(plan, facts)
            if moved:
                self._uplink_changed()
            for problem in plan.problems:
                self.log.warning("netmap: " + problem)
            for sentence in plan.denied:
                if sentence not in self.denied:
                    self.log.warning("not allowed here: " + sentence)
            self.denied = plan.denied
            if not self.applied and not self._apply_due.is_set():
                self.applied = self.netmap.node is not None
                self.data_error = ""
                self._tell()

    async def _pump(self, data_plane) -> None:
        """Carry what WireGuard sends to relayed peers to their relays."""
        links, paths = self.links, self.paths
        while True:
            key, datagram = await data_plane.receive()
            peer = self._peers_by_key.get(key)
            if peer is not None:
                links.send(key, peer.home_derp, datagram)
                if len(datagram) > wireguard.KEEPALIVE_BYTES:  # a keepalive is nobody's traffic
                    paths.packet_sent(key)

    async def _notice_changes(self, data_plane) -> None:
        while True:
            await data_plane.changed()
            await sleep_ms(_SETTLE_MS)
            self._apply_due.set()

    def _uplink_changed(self) -> None:
        """The way out of this machine is another one: nothing that went by the old one is worth waiting for."""
        self.log.info("the uplink has changed: everything is connected anew")
        self.clock.uplink_changed()
        self.links.uplink_changed()
        self.session.uplink_changed()
        self.paths.uplink_changed()

    async def _notice_end(self, data_plane) -> None:
        raise DataPlaneError(await data_plane.ended())

    def _remotes(self) -> list:
        """Return the addresses that no route may swallow: the coordinator's and the relays', as far as known."""
        remotes = []
        if self.session.server_address:
            remotes.append(self.session.server_address)
        texts = [self._server_host()]
        for region in self.netmap.derp_map.regions.values():
            for node in region.nodes:
                texts += [node.ipv4, node.ipv6]
        for text in texts:
            try:
                remotes.append(address.ip_from_text(text))
            except BadWire:
                pass  # a name, or nothing
        return remotes

    def _server_host(self) -> str:
        try:
            return server_url.parse(self.state.prefs.login_server).host
        except BadWire:
            return ""

    def trusted_now_s(self) -> int:
        """Return seconds since 1970, 0 while the clock is not to be trusted."""
        return self.clock.trusted_now_s()

    def _index_peers(self) -> None:
        self._peers_by_key = {peer.key: peer for peer in self.netmap.peers.values()}

    # --- The netmap on disk ---

    async def _save_loop(self) -> None:
        while True:
            await self._save_due.wait()
            self._save_due.clear()
            before = self.saver.error
            await self.saver.save(self.netmap)
            if self.saver.error != before:
                self.session.settings_changed()
                self._tell()
            await sleep_ms(_SAVE_EVERY_MS)

    # --- Questions ---

    async def news(self, timeout_ms: int) -> None:
        """Wait until something that the status shows may have changed."""
        await wait_for_event(self._news, timeout_ms)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def is_up(self) -> bool:
        """Tell whether packets can flow: let in by the coordinator once, netmap in the kernel, home relay connected."""
        return (
            self.netmap.node is not None
            and self.applied
            and self.links.relays.is_up(self.links.relays.home)
            and self.session.phase in (Phase.RUNNING, Phase.CONNECTING, Phase.JOINING)
        )

    async def data_plane_status(self) -> dict:
        """Return DataPlane.status(), no peers and no problems while the tunnel is down. Raises DataPlaneError."""
        if self.data_plane is not None:
            async with self._one_call:
                if self.data_plane is not None:  # or it ended while we waited
                    return await self.data_plane.status()
        return {"peers": {}, "problems": []}


async def _run_on(part, *args) -> None:
    """Run a part's coroutine, then wait to be cancelled: that one returns is not the end of the others."""
    await lasting(part, *args)
    await asyncio.Event().wait()
