"""Boards that talk through a network made of dicts: NATs, firewalls, loss, delay, a relay; the test owns the clock.

Each Site has the real core.paths.Paths and a WireGuard of four lines: it sends where it was told, roams to whoever
sends it a packet, and counts. Everything is decided by the seed, so a failure comes again.
"""

from wayhomed.core.candidates import Own
from wayhomed.core.node import Node
from wayhomed.core.paths import PONGED, REFRESH_ENDPOINTS, SEND_RELAY, SEND_UDP, SET_PATH, Paths
from wayhomed.port.crypto import sha256
from wayhomed.wire import keys

TICK_MS = 10
RELAY_MS = 40
STUN_MS = 30
POLL_MS = 3000
SEARCH_MS = 23_000
SEARCH_BLOCKED_MS = 5_000
REGION = 900
PACKET_BYTES = 128
STUN_SERVER = (b"\xc0\x00\x02\x01", 3478)


class Random:
    """Random bytes that only the seed decides, the same on both Pythons."""

    def __init__(self, seed: int):
        self._seed = b"%d " % seed
        self._count = 0

    def bytes(self, n: int) -> bytes:
        self._count += 1
        return sha256(self._seed + b"%d" % self._count)[:n]

    def below(self, limit: int) -> int:
        return int.from_bytes(self.bytes(6), "big") % limit


class Nat:
    """One outside address. hard: another port for each destination. strict: lets in only whom it sent to, by port."""

    def __init__(self, outside_ip: bytes, hard: bool = False, strict: bool = True):
        self.ip = outside_ip
        self.hard = hard
        self.strict = strict
        self.next_port = 20_000
        self.ports: dict = {}  # (inside endpoint, destination or None) -> port
        self.inside: dict = {}  # port -> inside endpoint
        self.sent_to: set = set()  # (port, destination endpoint), and (port, its ip)

    def out(self, inside: tuple, destination: tuple) -> tuple:
        key = (inside, destination if self.hard else None)
        if key not in self.ports:
            self.next_port += 7
            self.ports[key] = self.next_port
            self.inside[self.next_port] = inside
        port = self.ports[key]
        self.sent_to.add((port, destination))
        self.sent_to.add((port, destination[0]))
        return self.ip, port

    def forget(self) -> None:
        """Begin anew, as a router does that was switched off and on: with other ports."""
        self.ports, self.inside, self.sent_to = {}, {}, set()

    def into(self, port: int, source: tuple):
        """Return the inside endpoint that gets a datagram from source; None: dropped."""
        if (port, source if self.strict else source[0]) not in self.sent_to:
            return None
        return self.inside.get(port)


class LinuxNat(Nat):
    """A Linux router: one port for all destinations, unless another inside endpoint has it towards one of them.

    Then that destination, and all that are asked after it, see another port (kernel: nf_nat_core.c,
    find_appropriate_src). An old flow lives as long as the far end pings it, so it never ends here.
    """

    def __init__(self, outside_ip: bytes):
        super().__init__(outside_ip)
        self.newest: dict = {}  # inside endpoint -> the port it got last

    def forget(self) -> None:
        super().forget()
        self.newest = {}

    def out(self, inside: tuple, destination: tuple) -> tuple:
        if (inside, destination) not in self.ports:
            self.next_port += 7
            for port in (self.newest.get(inside, inside[1]), inside[1], self.next_port):
                if (port, destination) not in self.inside:
                    break
            self.newest[inside] = port
            self.ports[(inside, destination)] = port
            self.inside[(port, destination)] = inside
        return self.ip, self.ports[(inside, destination)]

    def into(self, port: int, source: tuple):
        return self.inside.get((port, source))


class Site:
    """One board: its way out, its Paths, its WireGuard."""

    def __init__(self, mesh, number: int, endpoint: tuple, nat=None):
        self.mesh = mesh
        self.number = number
        self.endpoint = endpoint
        self.nat = nat
        self.udp_blocked = False
        self.relay_is_up = True
        self.node = Node()
        self.node.id = number
        self.node.key = bytes([number]) * 32
        self.node.home_derp = REGION
        self.disco_count = 0
        self.sent: dict = {}  # node key -> bytes that WireGuard sent
        self.received: dict = {}
        self.by_relay: dict = {}  # node key -> packets that went by the relay
        self.events: list = []  # (ms, endpoint or None, renew) of each SET_PATH
        self.ponged: list = []
        self.datagrams = 0  # disco by UDP
        self.restart()

    def restart(self) -> None:
        """Begin anew with another disco key, and a WireGuard that knows nothing."""
        self.disco_count += 1
        random = Random(self.mesh.seed * 1000 + self.number * 10 + self.disco_count)
        self.paths = Paths(keys.new_private(random.bytes(32)), random.bytes)
        self.node.disco_key = self.paths.disco_public
        self.told: dict = {}  # node key -> endpoint or None: WireGuard's own view
        self.next_poll_ms = 0
        self.next_search_ms = 0

    def own(self) -> Own:
        return Own([self.endpoint[0]])

    def send(self, to, packets: int = 1) -> None:
        """Have WireGuard send packets to another site."""
        for _ in range(packets):
            self.sent[to.node.key] = self.sent.get(to.node.key, 0) + PACKET_BYTES
            endpoint = self.told.get(to.node.key)
            if endpoint is None:
                self.by_relay[to.node.key] = self.by_relay.get(to.node.key, 0) + 1
                self.paths.packet_sent(to.node.key, self.mesh.now_ms)
                self.carry_out()
                self.mesh.by_relay(self, to, None)
            else:
                self.mesh.by_udp(self, endpoint, None)

    def got_packet(self, key: bytes, source) -> None:
        """source: the endpoint it came from directly, None for the relay."""
        self.received[key] = self.received.get(key, 0) + PACKET_BYTES
        if source is not None and self.paths.held().get(source) != key:
            self.told[key] = source  # WireGuard roams

    def carry_out(self) -> None:
        for output in self.paths.take():
            if output[0] == SEND_UDP:
                self.datagrams += 1
                self.mesh.by_udp(self, output[1], output[2])
            elif output[0] == SEND_RELAY:
                assert output[2] in (0, REGION)
                self.mesh.by_relay(self, self.mesh.site_of(output[1]), output[3])
            elif output[0] == SET_PATH:
                self.told[output[1]] = output[2]
                self.events.append((self.mesh.now_ms, output[2], output[3]))
            elif output[0] == REFRESH_ENDPOINTS:
                self.mesh.later(STUN_MS, self.found_endpoints)
            elif output[0] == PONGED:
                self.ponged.append(output[1:])

    def found_endpoints(self) -> None:
        found = [self.endpoint]
        if self.nat is not None and not self.udp_blocked:
            found.insert(0, self.nat.out(self.endpoint, STUN_SERVER))
        self.node.endpoints = found
        self.next_search_ms = self.mesh.now_ms + (SEARCH_BLOCKED_MS if self.udp_blocked else SEARCH_MS)
        self.paths.own_endpoints(found, self.mesh.now_ms)
        self.carry_out()

    def tick(self) -> None:
        now_ms = self.mesh.now_ms
        due_ms = self.paths.next_timer_ms()
        if due_ms is not None and due_ms <= now_ms:
            self.paths.timer_fired(now_ms)
        if now_ms >= self.next_search_ms and self.paths.endpoints_wanted(now_ms):
            self.found_endpoints()
        if now_ms >= self.next_poll_ms and self.paths.polling_wanted(now_ms):
            self.next_poll_ms = now_ms + POLL_MS
            for key in set(self.sent) | set(self.received):
                endpoint = self.told.get(key)
                self.paths.traffic_seen(key, self.sent.get(key, 0), self.received.get(key, 0), endpoint, now_ms)
        self.carry_out()

    def view(self, of):
        return self.paths.view(of.node.key, self.mesh.now_ms)


class Mesh:
    """All sites, what is under way between them, and the time."""

    def __init__(self, seed: int = 1, delay_ms: int = 20, loss_percent: int = 0, start_ms: int = 1_000):
        self.seed = seed
        self.now_ms = start_ms
        self.delay_ms = delay_ms
        self.loss_percent = loss_percent
        self.sites: list = []
        self.dead: set = set()  # (number of the sender, number of the receiver): no UDP gets through this way
        self._random = Random(seed)
        self._under_way: list = []  # (due ms, function, arguments)

    def site(self, endpoint: tuple, nat=None):
        site = Site(self, len(self.sites) + 1, endpoint, nat)
        self.sites.append(site)
        return site

    def site_of(self, key: bytes):
        for site in self.sites:
            if site.node.key == key:
                return site
        raise KeyError(key)

    def netmap_changed(self) -> None:
        """Tell every site about the others as they are now, with the endpoints that each knew of itself."""
        for site in self.sites:
            if not site.node.endpoints:
                site.found_endpoints()
        for site in self.sites:
            peers = [other.node.copy() for other in self.sites if other is not site]
            site.paths.peers_changed(site.node.key, peers, site.own(), self.now_ms)
            site.carry_out()

    def later(self, delay_ms: int, function, *arguments) -> None:
        self._under_way.append((self.now_ms + delay_ms, function, arguments))

    def by_relay(self, sender, receiver, datagram) -> None:
        """datagram: disco; None stands for a packet of WireGuard's."""
        if sender.relay_is_up and receiver.relay_is_up:
            self.later(RELAY_MS, self._from_relay, sender, receiver, datagram)

    def _from_relay(self, sender, receiver, datagram) -> None:
        if datagram is None:
            receiver.got_packet(sender.node.key, None)
        else:
            receiver.paths.relay_received(sender.node.key, datagram, REGION, self.now_ms)
            receiver.carry_out()

    def by_udp(self, sender, destination: tuple, datagram) -> None:
        source = sender.endpoint
        receiver = self._at(destination, sender.nat)
        if receiver is None or not _is_private(destination):
            if sender.udp_blocked:
                return
            if sender.nat is not None:
                source = sender.nat.out(source, destination)
        if self._random.below(100) < self.loss_percent:
            return
        jitter_ms = self._random.below(5)
        self.later(self.delay_ms + jitter_ms, self._from_network, sender, source, destination, datagram)

    def _at(self, endpoint: tuple, nat):
        """Return the site with this very endpoint: a public one, or a private one on the same network."""
        for site in self.sites:
            if site.endpoint == endpoint and (site.nat is nat or not _is_private(endpoint)):
                return site
        return None

    def _from_network(self, sender, source: tuple, destination: tuple, datagram) -> None:
        receiver = self._at(destination, sender.nat)
        if receiver is None:
            for site in self.sites:
                if site.nat is not None and site.nat.ip == destination[0]:
                    inside = site.nat.into(destination[1], source)
                    if inside is not None:
                        receiver = self._at(inside, site.nat)
        if receiver is None or (sender.number, receiver.number) in self.dead:
            return
        if receiver.udp_blocked and receiver.nat is not sender.nat:
            return
        if datagram is None:
            receiver.got_packet(sender.node.key, source)
        else:
            receiver.paths.udp_received(datagram, source, self.now_ms)
            receiver.carry_out()

    def run(self, duration_ms: int, each_100_ms=None) -> None:
        """Let time pass; each_100_ms() is called as often as its name says."""
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += TICK_MS
            due = [entry for entry in self._under_way if entry[0] <= self.now_ms]
            self._under_way = [entry for entry in self._under_way if entry[0] > self.now_ms]
            for _due_ms, function, arguments in sorted(due, key=lambda entry: entry[0]):
                function(*arguments)
            for site in self.sites:
                site.tick()
            if each_100_ms is not None and self.now_ms % 100 == 0:
                each_100_ms()


def _is_private(endpoint: tuple) -> bool:
    return endpoint[0][:1] == b"\x0a" or endpoint[0][:2] == b"\xc0\xa8"
