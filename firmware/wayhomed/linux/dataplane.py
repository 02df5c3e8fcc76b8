"""The data plane: makes the kernel and WireGuard do what a core.dataplane.Plan says, and leaves the machine as it was.

    start   leftovers removed -> default deny -> proxy -> WireGuard -> interface up -> policy rules
    apply   packet filter -> forwarding -> addresses -> peers -> routes        each by difference
    stop    WireGuard -> policy rules -> settings -> packet filter -> proxy
    leave   proxy; all the rest stands, and works, until a successor's start

The filter is in force before the interface is up and goes after it is down. A tunnel of the kernel's WireGuard outlives
its daemon, killed or by leave(): start() then adopts it as it is, and nothing that flows through it is interrupted.
"""

import asyncio

from wayhomed.core import dataplane as planning
from wayhomed.core.prefs import MIN_MTU_BYTES
from wayhomed.port import const, monotonic_ms, packets
from wayhomed.port.runtime import wall_clock_s
from wayhomed.port.tasks import OutOfMemory, memory_freed, run_all, sleep_ms
from wayhomed.wire import address, keys

from . import facts, link, netlink, routes, wireguard
from .errors import DataPlaneError
from .firewall import (
    COUNTERS,
    TABLE,
    delete_table,
    fast_path,
    held_changes,
    held_elements,
    is_interface_name,
    no_fast_path,
    ruleset,
)
from .handshakes import Handshakes
from .held import HeldPort
from .nft_news import News
from .nft_rules import KernelRules
from .nftables import Nftables
from .proxy import MAX_INDEX, Proxy, address_of
from .shared_port import SharedPort
from .sysctl import FORWARD4, FORWARD6, Sysctls
from .wireguard import PeerChange, changes_between

_ICMP = const(1)
_PROBE_BYTES = const(4096)
_EADDRINUSE = const(98)
_EPERM = const(1)
_EACCES = const(13)
_GONE_TRIES = const(100)
_GONE_S = 0.02
_EAFNOSUPPORT = const(97)
# A WireGuard session carries data for 180 s (whitepaper section 6.1, Reject-After-Time); the lost initiation of its
# successor is sent again within 5 s. So a session younger than this lasts until then, and 5 s more.
_SESSION_S = const(170)
_MEND_MS = const(50)  # at most so often is a peer's endpoint set back after packets that the relay brought


def check_rights() -> None:
    """Raise DataPlaneError where a right is missing, before libraries complain in words of their own."""
    try:
        probe = packets.raw_socket(_ICMP)  # CAP_NET_RAW
        try:
            packets.set_receive_buffer(probe, _PROBE_BYTES)  # CAP_NET_ADMIN
        finally:
            probe.close()
    except OSError as error:
        raise _explained(error)


class Settings:
    """interface: its name; port: WireGuard's UDP port; undo_path: file for settings' former values; wireguard_go.

    wireguard: which one, of linux.wireguard.CHOICES.
    """

    def __init__(
        self,
        undo_path: str,
        interface="wayhome0",
        port=41641,
        wireguard_go="wireguard-go",
        wireguard: str = wireguard.AUTO,
    ):
        self.undo_path = undo_path
        self.interface = interface
        self.port = port
        self.wireguard_go = wireguard_go
        self.wireguard = wireguard


class DataPlane:
    """One tunnel interface with all that belongs to it. Every failure of the machine is a DataPlaneError.

    start, clean_up, apply, set_private_key, status and stop are called one after the other, never at once. Between
    start() and stop() the others may be called at any time, also while one of these has not returned.
    interface: (name, index) of the tunnel, between start() and stop(); port: WireGuard's.
    shared_port: the SharedPort, between start() and stop(). adopted: start() found a tunnel that stood.
    outlives: between start() and stop(), whether the tunnel stands on when this process ends.
    """

    def __init__(self, settings: Settings):
        if not is_interface_name(settings.interface):
            raise DataPlaneError("%s can't be the name of an interface" % settings.interface)
        self._settings = settings
        self._sysctls = Sysctls(settings.undo_path)
        self._last_index = 0
        self._reset()

    def _reset(self) -> None:
        """Forget all that is so between start() and stop(); what is open must have been closed."""
        self._kernel: netlink.Netlink = None  # type: ignore[assignment]
        self._nftables: Nftables = None  # type: ignore[assignment]
        self._proxy: Proxy = None  # type: ignore[assignment]
        self._sources: routes.SourceAddresses = None  # type: ignore[assignment]
        self._held_port: HeldPort = None  # type: ignore[assignment]
        self.shared_port: SharedPort = None  # type: ignore[assignment]
        self._wireguard: wireguard.BackEnd = None  # type: ignore[assignment]
        self.adopted = False
        self._handshakes = Handshakes(wall_clock_s(), monotonic_ms())
        self._index = 0
        self._ruleset = ""
        self._firewall = planning.Firewall()  # that the ruleset was made of
        self._shut = False
        self._fast_devices: list = []  # [(name, index)] that the fast path was asked for with the present rules
        self._plan = planning.Plan()
        self._peers: dict = {}  # {public key: set of prefixes} as WireGuard has them
        self._peers_known = True  # False: a change failed, WireGuard must be asked
        self._indices: dict = {}  # {public key: proxy index}
        self._keys: dict = {}  # the other way round
        self._direct: dict = {}  # {public key: endpoint} of the peers that are not relayed
        self._held: dict = {}  # {endpoint: public key}
        self._held_before: dict = {}  # what left it last: packets of these may still be on their way
        self._held_packets = 0
        self._one_change = asyncio.Lock()  # of WireGuard's peers
        self._astray: set = set()  # peers whose endpoint WireGuard may have lost to a proxy
        self._some_astray = asyncio.Event()

    async def start(self, private_key: bytes) -> None:
        """Bring the interface up, with nothing on it and everything closed; or adopt the one that stands with this key.

        What is adopted stays as it is until the first apply().
        """
        try:
            if await self._adopt(private_key):
                return
            self._kernel = netlink.Netlink()
            self._nftables = Nftables()
            leftover = await self._remove_leftovers()
            self._load_ruleset(planning.Firewall())
            await self._wait_for_port(_GONE_TRIES if leftover else 1)
            self._open_proxy(0)
            self._load_ruleset(planning.Firewall())
            settings = self._settings
            self._wireguard = await wireguard.choose(settings.wireguard, settings.interface, settings.wireguard_go)
            await self._wireguard.set_device(private_key, settings.port, routes.BYPASS_MARK)
            self._sysctls.mark_replies()
            self._open_shared_port()
            link.bring_up(self._kernel, self._index, MIN_MTU_BYTES)
            routes.add_policy_rules(self._kernel)
        except asyncio.CancelledError:
            # Told to end while WireGuard was still starting: nobody else knows yet what has been set up.
            await self._stop_quietly()
            raise
        except (OSError, DataPlaneError, MemoryError) as error:
            await self._stop_quietly()
            raise _explained(error)

    def _open_proxy(self, port: int) -> None:
        """Open what stands in for relayed peers, and what held packets come to; port: the one to try first, or 0."""
        self._sources = routes.SourceAddresses(self._kernel)
        self._proxy = Proxy(self._settings.port, self._sources, port)
        self._held_port = HeldPort((self._settings.port, self._proxy.port))

    def _open_shared_port(self) -> None:
        self._index = link.find(self._kernel, self._settings.interface).index
        self.shared_port = SharedPort(self._settings.port, routes.BYPASS_MARK, self._sources, self._index)

    async def _adopt(self, private_key: bytes) -> bool:
        """Go on with the tunnel that a predecessor left standing; False, and nothing changed, if there is none for us.

        It must be whole: with our key, port and mark, up, behind the packet filter, and with the record of the
        settings that were changed for it.
        """
        try:
            self._kernel = netlink.Netlink()
            self._nftables = Nftables()
            if await self._find_standing(private_key):
                await self._take_over()
                self.adopted = True
        except (OSError, DataPlaneError):
            self.adopted = False
        if not self.adopted:
            self._close_all()
        return self.adopted

    async def _find_standing(self, private_key: bytes) -> bool:
        settings = self._settings
        if settings.wireguard == wireguard.USERSPACE:
            return False
        self._wireguard = wireguard.standing(self._kernel, settings.interface)
        if self._wireguard is None or not link.find(self._kernel, settings.interface).is_up:
            return False
        device = await self._wireguard.device()
        return (
            device.public_key == keys.public_of(private_key)
            and device.port == settings.port
            and device.fwmark == routes.BYPASS_MARK
            and self._nftables.table_exists(*TABLE.split())
            and self._sysctls.adopt()
        )

    async def _take_over(self) -> None:
        """Read from WireGuard what we would have told it, and open what closed with our predecessor."""
        device = await self._wireguard.device()
        port = 0
        for key in device.peers:
            peer = device.peers[key]
            self._peers[key] = set(peer.allowed)
            if _is_proxy(peer.endpoint):
                port = peer.endpoint[1]
                index = peer.endpoint[0][2] << 8 | peer.endpoint[0][3]
                if 0 < index <= MAX_INDEX and index not in self._keys:
                    self._indices[key] = index
                    self._keys[index] = key
        self._open_proxy(port)
        astray = []
        for key in device.peers:
            endpoint = device.peers[key].endpoint
            if key not in self._indices:
                self._take_index(key)
            if endpoint is not None and not _is_proxy(endpoint):
                self._direct[key] = endpoint
            elif endpoint != self._proxy_endpoint(key):
                astray.append(key)
        await self._set_again(astray)
        self._open_shared_port()

    async def leave(self) -> bool:
        """Close what is open and let the tunnel stand for a successor's start(); True if it does.

        One that can't outlive us is stopped as by stop().
        """
        if self._wireguard is None or not self._wireguard.outlives:
            await self.stop()
            return False
        self._close_all()
        return True

    @property
    def interface(self) -> tuple:
        return self._settings.interface, self._index

    @property
    def port(self) -> int:
        return self._settings.port

    @property
    def outlives(self) -> bool:
        return self._wireguard is not None and self._wireguard.outlives

    def direct_peers(self) -> dict:
        """Return {public key: endpoint} of the peers that WireGuard was told to send to directly, or adopted so."""
        return dict(self._direct)

    async def clean_up(self) -> None:
        """Take away what a predecessor left that was killed, without starting.

        Without its filter no interface was left; settings may be, where one resisted as they were put back.
        """
        try:
            self._kernel = netlink.Netlink()
            self._nftables = Nftables()
            if self._nftables.table_exists(*TABLE.split()):
                await self._remove_leftovers()
            else:
                self._sysctls.undo()
        except (OSError, DataPlaneError) as error:
            raise _explained(error)
        finally:
            self._close_all()

    def facts(self, remotes: list, now_s: int = 0):
        """Return this machine's Facts. remotes: addresses of coordinator and relays; now_s: trusted time or 0."""
        found = facts.gather(self._kernel, self._settings.interface, remotes)
        found.forwards4 = self._sysctls.before(FORWARD4) not in (None, "0")
        found.forwards6 = self._sysctls.before(FORWARD6) not in (None, "0")
        found.now_s = now_s
        return found

    async def apply(self, plan) -> None:
        """Make the Plan true; what stands already is left. If it fails midway, everything is closed until the next."""
        try:
            self._load_ruleset(plan.firewall)
            if plan.forwarding:
                self._sysctls.forward()
            else:
                self._sysctls.stop_forwarding()
            found = link.find(self._kernel, self._settings.interface)
            if found is None or found.mtu_bytes != plan.mtu_bytes:
                link.bring_up(self._kernel, self._index, plan.mtu_bytes)
            self._apply_addresses(plan.addresses)
            await self._apply_peers(plan.peers)
            refused = routes.set_tunnel_routes(self._kernel, self._index, plan.routes)
            routes.add_policy_rules(self._kernel)
            self._set_fast_path(plan.forwarding)
        except (OSError, DataPlaneError, MemoryError) as error:
            self._close_everything()
            raise _explained(error)
        for prefix, errno in refused:
            plan.problems.append("the kernel refused the route %s (errno %d)" % (address.prefix_text(prefix), errno))
        self._plan = plan

    async def set_private_key(self, private_key: bytes) -> None:
        """Change the node key; peers, routes and filter stay, sessions begin anew."""
        await self._wireguard.set_device(private_key, self._settings.port, routes.BYPASS_MARK)

    async def status(self) -> dict:
        """Return what the data plane does: interface, traffic of peers by public key, drops, what was refused and why.

        But for the keys of "peers", which are bytes, all of it is ready for JSON.
        """
        try:
            device = await self._wireguard.device()
            counters = self._nftables.counters(*TABLE.split())
        except OSError as error:
            raise _explained(error)
        peers = {}
        for key in device.peers:
            peer = device.peers[key]
            peers[key] = {
                "received_bytes": peer.received_bytes,
                "sent_bytes": peer.sent_bytes,
                "handshake_s": peer.handshake_s,
                "allowed_ips": [address.prefix_text(prefix) for prefix in sorted(peer.allowed)],
                "relayed": _is_proxy(peer.endpoint),
                "endpoint": None
                if peer.endpoint is None or _is_proxy(peer.endpoint)
                else address.endpoint_text(peer.endpoint),
            }
        return {
            "interface": self._settings.interface,
            "wireguard": self._wireguard.name,
            "port": device.port,
            "mtu": self._plan.mtu_bytes,
            "addresses": [address.ip_text(ip) for ip in self._plan.addresses],
            "routes": [address.prefix_text(prefix) for prefix in sorted(self._plan.routes)],
            "forwarding": self._plan.forwarding,
            "peers": peers,
            "dropped": {
                name: {"packets": counters[name][0], "why": COUNTERS[name]} for name in counters if name in COUNTERS
            },
            "refused": [
                {"prefix": address.prefix_text(prefix), "node": node, "reason": reason}
                for prefix, node, reason in self._plan.refused
            ],
            "published": [
                {"name": device.name, "address": address.ip_text(mesh_ip), "target": address.ip_text(target)}
                for device in self._plan.firewall.published
                for mesh_ip, target in device.pairs
            ],
            "problems": self._plan.problems + ([self._sysctls.problem] if self._sysctls.problem else []),
            "relayed": {
                "received": self._proxy.received,
                "injected": self._proxy.injected,
                "refused": self._proxy.refused,
                "held": self._held_packets,
            },
        }

    async def ended(self) -> str:
        """Wait until WireGuard ends by itself; return why. stop() and start() are due then."""
        return await self._wireguard.ended()

    async def changed(self) -> None:
        """Wait until interfaces, addresses, routes or policy rules of this machine change: time for new facts."""
        news = packets.netlink_news_socket(packets.ROUTE_NEWS)
        try:
            await packets.wait_readable(news)
            self._sources.forget()
        finally:
            news.close()

    async def receive(self) -> tuple:
        """Return (public key, datagram): what WireGuard has for a relayed peer. Peers of the past are skipped.

        The datagram is a view, good until the next call.
        """
        while True:
            index, datagram = await self._proxy.receive()
            key = self._keys.get(index)
            if key is not None:
                if key in self._direct:
                    self._went_astray(key)
                return key, datagram

    def inject(self, public_key: bytes, datagram: bytes) -> bool:
        """Hand WireGuard a datagram that a relay brought from a peer; return False if it is refused or no such peer.

        A direct peer stays one: WireGuard either sees its endpoint as the source, or is told it again afterwards; what
        it has for the peer in between goes by the relay.
        """
        index = self._indices.get(public_key)
        if index is None:
            return False
        endpoint = self._direct.get(public_key)
        if endpoint is not None:
            if self._wireguard.takes_fake_source:
                try:
                    return self._proxy.inject_from(endpoint, datagram)
                except OSError:
                    pass  # no way leads there now
            self._went_astray(public_key)
        return self._proxy.inject(index, datagram)

    async def set_paths(self, changes: list) -> None:
        """Set which way WireGuard's packets for peers go: (public key, (ip, port) or None for the relay, renew) each.

        renew: the peer has lost its session, the next packet begins a handshake at once. That is done as well for a
        direct peer that falls back to the relay without a session that lasts: an initiation may be lost on its dead
        path, and WireGuard would send none for 5 s. Peers that are not there yet get their way when apply() adds them.
        """
        async with self._one_change:
            sessions: dict = {}
            for key, endpoint, renew in changes:
                if endpoint is None and not renew and key in self._direct and key in self._peers:
                    sessions = await self._sessions()
                    break
            steps = []
            for key, endpoint, renew in changes:
                was_direct = self._direct.pop(key, None) is not None
                if endpoint is not None:
                    self._direct[key] = endpoint
                if key not in self._peers:
                    continue
                if endpoint is None and was_direct:
                    age_s = self._handshakes.age_s(sessions.get(key, 0), wall_clock_s(), monotonic_ms())
                    renew = renew or age_s is None or age_s >= _SESSION_S
                steps.extend(self._path_steps(key, renew))
            await self._change_peers(steps)

    async def _sessions(self) -> dict:
        """Return {public key: when its session began}, in seconds since 1970, 0 for none."""
        sessions: dict = {}

        def note(peer) -> None:
            sessions[peer.public_key] = peer.handshake_s

        await self._each_peer(note)
        return sessions

    def _path_steps(self, key: bytes, renew: bool) -> list:
        """Return the PeerChanges that set a peer's endpoint."""
        steps = []
        if renew:
            removal = PeerChange(key)
            removal.remove = True
            steps.append(removal)
        change = PeerChange(key)
        change.endpoint = self._direct.get(key) or self._proxy_endpoint(key)
        if renew:
            change.allowed = sorted(self._peers[key])
        else:
            change.update_only = True
        steps.append(change)
        return steps

    def _proxy_endpoint(self, key: bytes) -> tuple:
        return address_of(self._indices[key]), self._proxy.port

    def _is_proxy_of(self, key: bytes, endpoint) -> bool:
        """Tell whether WireGuard sends a peer's packets to its own proxy, or to none yet."""
        return endpoint is None or key not in self._indices or endpoint == self._proxy_endpoint(key)

    async def _change_peers(self, steps: list) -> None:
        """Have WireGuard take these steps, which leave every peer's prefixes as they were."""
        known = self._peers_known
        self._peers_known = False  # until WireGuard has said yes to all of it
        await self._wireguard.set_peers(steps)
        self._peers_known = known

    def hold(self, endpoints: dict) -> None:
        """Let WireGuard have no packet from these endpoints but through us, as their peer's: {(ip, port): public key}.

        All others are let go. What is held is carried by carry_held().
        """
        added = [endpoint for endpoint in endpoints if endpoint not in self._held]
        removed = [endpoint for endpoint in self._held if endpoint not in endpoints]
        if removed:
            self._held_before = {endpoint: self._held[endpoint] for endpoint in removed}
        self._held = dict(endpoints)
        if added or removed:
            try:
                self._nftables.run(held_changes(added, removed))
            except DataPlaneError:  # somebody emptied the sets, or took the whole table away
                self._ruleset = ""
                self._load_ruleset(self._plan.firewall)

    async def carry_held(self) -> None:
        """Bring WireGuard what is held, and set direct peers' endpoints again where it lost them; for ever."""
        carried = [self._held_port.carry(opened, self._use_held) for opened in self._held_port.sockets]
        try:
            await run_all(self._mend(), *carried)
        except OutOfMemory:
            raise
        except OSError as error:
            raise _explained(error)

    def _use_held(self, endpoint: tuple, datagram: bytes) -> None:
        key = self._held.get(endpoint) or self._held_before.get(endpoint)
        if key is not None and self.inject(key, datagram):
            self._held_packets += 1

    def _went_astray(self, key: bytes) -> None:
        self._astray.add(key)
        self._some_astray.set()

    async def _mend(self) -> None:
        """Set endpoints again a little after WireGuard lost them, as to packets that it was handed as from the relay.

        Too early does no harm: what WireGuard then sends to the relay shows that it is astray, and it is set again.
        """
        while True:
            await self._some_astray.wait()
            await sleep_ms(_MEND_MS)
            async with self._one_change:
                self._some_astray.clear()
                keys, self._astray = self._astray, set()
                await self._set_again(keys)

    async def _set_again(self, keys) -> None:
        """Tell WireGuard the endpoints of these peers once more."""
        steps = []
        for key in keys:
            if key in self._peers:
                steps.extend(self._path_steps(key, False))
        await self._change_peers(steps)

    async def uplink_changed(self) -> None:
        """Addresses or routes of this machine changed: WireGuard forgets which address it sent to each peer from."""
        async with self._one_change:
            self._sources.forget()
            await self._set_again(list(self._direct))

    async def traffic(self) -> dict:
        """Return {public key: (bytes sent, bytes received, endpoint or None for the relay, handshake_s)}.

        The endpoint is where WireGuard itself sends to now: an authenticated address of the peer, ours or not. Where it
        is another peer's proxy, in whose name a lie had the peer's packets held, it is set back.
        handshake_s: when the last one was, in seconds since 1970, 0 for never.
        """
        self._handshakes.look(wall_clock_s(), monotonic_ms())
        found: dict = {}

        def note(peer) -> None:
            key = peer.public_key
            endpoint = None if _is_proxy(peer.endpoint) else peer.endpoint
            if endpoint is None and (key in self._direct or not self._is_proxy_of(key, peer.endpoint)):
                self._went_astray(key)
            found[key] = (peer.sent_bytes, peer.received_bytes, endpoint, peer.handshake_s)

        await self._each_peer(note)
        return found

    async def _each_peer(self, use) -> None:
        try:
            await self._wireguard.each_peer(use)
        except OSError as error:
            raise _explained(error)

    def own_addresses(self) -> list:
        """Return the ips of this machine that others may try to reach it by, the tunnel's own left out."""
        try:
            return link.reachable_addresses(self._kernel, self._index)
        except OSError as error:
            raise _explained(error)

    async def stop(self) -> None:
        """Take everything away again. Raises DataPlaneError for the first thing that resisted, after trying all."""
        problem = await self._stop_all()
        if problem is not None:
            raise _explained(problem)

    async def _stop_quietly(self) -> None:
        await self._stop_all()

    async def _stop_all(self):
        """Take everything away; return the first error or None."""
        problem = None
        if self._wireguard is not None:
            try:
                await self._wireguard.stop()
            except (OSError, DataPlaneError) as error:
                problem = error
        for step in (self._remove_rules, self._sysctls.undo, self._remove_table):
            try:
                step()
            except (OSError, DataPlaneError) as error:
                problem = problem or error
        self._close_all()
        return problem

    def _close_all(self) -> None:
        """Close what is open and forget all."""
        for opened in (
            self.shared_port,
            self._held_port,
            self._proxy,
            self._wireguard,
            self._kernel,
            self._nftables,
        ):
            if opened is not None:
                opened.close()
        self._reset()

    def _remove_rules(self) -> None:
        if self._kernel is not None:
            routes.remove_policy_rules(self._kernel)

    def _remove_table(self) -> None:
        if self._nftables is not None:
            self._nftables.run(delete_table())

    async def _remove_leftovers(self) -> bool:
        """Take away what a predecessor left that was killed; tell whether its WireGuard was still there.

        Its filter goes last, after its interface.
        """
        interface = self._settings.interface
        present = link.links(self._kernel)
        for route in routes.routes(self._kernel):
            if route.table == routes.TABLE:
                for found in present:
                    if found.index == route.index and found.name != interface:
                        raise DataPlaneError(
                            "another mesh client uses routing table 52 through %s; stop it first" % found.name
                        )
        found_one = interface in [found.name for found in present]  # its WireGuard may end as soon as its socket goes
        if found_one:  # else the socket may be another namespace's
            wireguard.remove_socket(interface)
        for _ in range(_GONE_TRIES):
            left = link.find(self._kernel, interface)
            if left is None:
                break
            link.delete(self._kernel, left.index)
            await asyncio.sleep(_GONE_S)
        routes.remove_policy_rules(self._kernel)
        self._sysctls.undo()
        self._nftables.run(delete_table())
        return found_one

    async def _wait_for_port(self, tries: int) -> None:
        """Wait until WireGuard's port is free, which a leftover that is ending holds for a moment longer.

        WireGuard binds it when the interface comes up, and would tell nobody that it is taken.
        """
        while not self._port_is_free():
            tries -= 1
            if tries <= 0:
                raise DataPlaneError(
                    "UDP port %d is taken by another program; stop it or give another --port" % self._settings.port
                )
            await asyncio.sleep(_GONE_S)

    def _port_is_free(self) -> bool:
        for make, size in ((packets.udp_socket, 4), (packets.udp_socket6, 16)):
            try:
                probe = make()
            except OSError as error:
                if error.errno == _EAFNOSUPPORT and size == 16:
                    continue
                raise
            try:
                probe.bind(packets.inet_address(bytes(size), self._settings.port))
            except OSError as error:
                if error.errno != _EADDRINUSE:
                    raise
                return False
            finally:
                probe.close()
        return True

    def _load_ruleset(self, firewall) -> None:
        ports = () if self._held_port is None else (self._settings.port, self._held_port.port)
        wanted = ruleset(self._settings.interface, firewall, ports)
        if wanted != self._ruleset:
            self._end_fast_path()
            self._nftables.run(wanted + held_elements(self._held))
            self._ruleset = wanted
        self._firewall = firewall

    def put_rules_back(self) -> None:
        """Load the packet filter again as it was last, after somebody deleted or changed it.

        Raises DataPlaneError: it could not be done, and the interface is down or gone.
        """
        try:
            had_fast_path = bool(self._fast_devices)
            self._ruleset = ""
            self._load_ruleset(self._firewall)
            if self._shut:
                link.bring_up(self._kernel, self._index, self._plan.mtu_bytes)
                self._shut = False
            self._set_fast_path(had_fast_path)
        except (OSError, DataPlaneError, MemoryError) as error:
            self._close_everything()
            raise _explained(error)

    def shut(self) -> None:
        """Let no packet through the tunnel until put_rules_back(): for the time in which there is no packet filter."""
        try:
            link.take_down(self._kernel, self._index)
        except OSError as error:
            raise _explained(error)
        self._shut = True

    def make_news(self) -> None:
        """Change nothing, but in such a manner that the kernel tells of it: who listens learns how we are called."""
        self._nftables.run("add chain %s news\ndelete chain %s news\n" % (TABLE, TABLE))

    def own_name(self) -> str:
        """Return what the kernel calls this process where it tells of our changes."""
        with open("/proc/self/comm") as file:
            return file.read().rstrip("\n")

    def way_to(self, ip: bytes):
        """Return (name, index) of the interface by which packets to an ip leave, None if there is no way."""
        try:
            index = routes.interface_towards(self._kernel, ip)
            for found in link.links(self._kernel):
                if found.index == index:
                    return found.name, index
        except OSError:
            pass
        return None

    def foreign_rules(self):
        """Return a nft_rules.KernelRules; its user closes it. Raises DataPlaneError."""
        try:
            return KernelRules(TABLE.split()[1])
        except OSError as error:
            raise _explained(error)

    def nft_news(self):
        """Return what hears of changes to nftables, a nft_news.News; its user closes it. Raises DataPlaneError."""
        try:
            return News(*TABLE.split())
        except OSError as error:
            raise _explained(error)

    def _set_fast_path(self, forwarding: bool) -> None:
        """Let known connections pass without asking the rules again, until these change.

        A kernel without flowtables goes on asking them for each packet.
        """
        devices = self._devices() if forwarding else []
        if devices == self._fast_devices:
            return
        self._end_fast_path()
        self._fast_devices = devices
        if devices:
            try:
                self._nftables.run(fast_path(self._settings.interface, [name for name, _index in devices]))
            except DataPlaneError:
                pass

    def _end_fast_path(self) -> None:
        self._fast_devices = []
        try:
            self._nftables.run(no_fast_path())
        except DataPlaneError:
            # There is none, mostly; if there is, known connections would go past the new rules.
            if self._nftables.flowtable_exists(*TABLE.split()):
                raise

    def _devices(self) -> list:
        """Return [(name, index)] of the interfaces beside ours that have addresses: where a LAN or an uplink is."""
        with_addresses = [found.index for found in link.addresses(self._kernel)]
        return sorted(
            [
                (found.name, found.index)
                for found in link.links(self._kernel)
                if found.is_up
                and found.index in with_addresses
                and found.name not in ("lo", self._settings.interface)
                and is_interface_name(found.name)
            ]
        )

    def _close_everything(self) -> None:
        """After a failure: no rule of before may stay open that the netmap has closed."""
        self._ruleset = ""
        self._peers_known = False
        try:
            self._load_ruleset(planning.Firewall())
        except DataPlaneError:
            # Without nftables only the interface itself is left to close.
            try:
                link.delete(self._kernel, self._index)
            except OSError:
                pass

    def _apply_addresses(self, wanted: list) -> None:
        present = [
            found.ip for found in link.addresses(self._kernel) if found.index == self._index and not found.is_link_local
        ]
        for ip in present:
            if ip not in wanted:
                link.remove_address(self._kernel, self._index, ip)
        for ip in wanted:
            if ip not in present:
                link.add_address(self._kernel, self._index, ip)

    async def _apply_peers(self, wanted: dict) -> None:
        async with self._one_change:
            await self._change_to(wanted)

    async def _change_to(self, wanted: dict) -> None:
        if not self._peers_known:
            device = await self._wireguard.device()
            self._peers = {key: set(device.peers[key].allowed) for key in device.peers}
        endpoints = {}
        for key in wanted:
            if key not in self._indices:
                self._take_index(key)
            endpoints[key] = self._direct.get(key) or self._proxy_endpoint(key)
        changes = changes_between(self._peers, wanted, endpoints)
        if changes:
            self._peers_known = False  # until WireGuard has said yes to all of it
            await self._wireguard.set_peers(changes)
            for key in self._peers:
                if key not in wanted:
                    self._give_index_back(key)
                    self._direct.pop(key, None)
            self._peers = {key: set(wanted[key]) for key in wanted}
        self._peers_known = True

    def _take_index(self, key: bytes) -> None:
        """Give a peer the next index in turn: one just given back is used last, late packets may still bear it."""
        while True:
            self._last_index = self._last_index % MAX_INDEX + 1
            if self._last_index not in self._keys:
                break
        self._indices[key] = self._last_index
        self._keys[self._last_index] = key

    def _give_index_back(self, key: bytes) -> None:
        index = self._indices.pop(key, None)
        if index is not None:
            del self._keys[index]


def _is_proxy(endpoint) -> bool:
    """Tell whether an endpoint, (ip, port) or None, is one of the proxy's."""
    return endpoint is not None and endpoint[0][:2] == address_of(1)[:2]


def _explained(error) -> DataPlaneError:
    if isinstance(error, DataPlaneError):
        return error
    if isinstance(error, MemoryError):
        return DataPlaneError(str(memory_freed(error).args[-1]))
    if error.errno in (_EPERM, _EACCES):
        return DataPlaneError("not allowed: wayhomed needs root, or CAP_NET_ADMIN and CAP_NET_RAW")
    return DataPlaneError("the kernel refused: %s" % error)
