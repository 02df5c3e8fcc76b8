"""What the network between us and the relays is like, asked of STUN servers (derp.md sections 8 and 9).

One StunRound is one measurement: it says which requests to send, takes the answers, and ends in a Netcheck. All
requests leave from the WireGuard port, so what the servers saw is that port's own mapping in the NAT. Pure: time
(monotonic milliseconds) and randomness come as arguments; an endpoint is (address of 4 or 16 bytes, port).
"""

from collections import namedtuple

from wayhomed.core import prefixes
from wayhomed.port import const
from wayhomed.wire import address, stun
from wayhomed.wire.errors import BadWire

# --- Fixed by the protocol (derp.md 7 to 9) ---
STUN_PORT = const(3478)
TRIES = const(3)
BUDGET_MS = const(3_000)
_NO_STUN = const(-1)
_NO_FAMILY = "none"

# --- Chosen by us ---
# A relay map may name thousands; of so many each region gets its first server before any gets a second.
MAX_SERVERS = const(32)
# The second request leaves after the first of these, the third after the second: 40 bytes are cheaper than waiting.
_SPACING_MS = (100, 200)
# Once two servers of each family have answered, the slower ones get as long again as the slowest so far, at least this.
ENOUGH_ANSWERS = const(2)
_GRACE_MIN_MS = const(100)

StunServer = namedtuple("StunServer", ("region_id", "name", "ip", "port"))


def hosts_to_resolve(derp_map) -> list:
    """Return the host names that DNS must be asked for before stun_servers() knows all addresses, each once."""
    names: list = []
    for node in _stun_nodes(derp_map):
        if "" in (node[1].ipv4, node[1].ipv6) and not _literal(node[1].host_name) and node[1].host_name not in names:
            names.append(node[1].host_name)
    return names


def stun_servers(derp_map, resolved: dict) -> list:
    """Return the StunServers of a DERP map; resolved: host name -> its addresses (4 or 16 bytes), as DNS gave them.

    A region that is never to be measured has none, nor has an address at which no server can be.
    """
    servers = []
    for region_id, node in _stun_nodes(derp_map):
        literal = _literal(node.host_name)
        by_name = [literal] if literal else resolved.get(node.host_name, [])
        for text, size in ((node.ipv4, 4), (node.ipv6, 16)):
            if text == _NO_FAMILY:
                continue
            for ip in [address.ip_from_text(text)] if text else by_name:
                if len(ip) == size and not _is_no_unicast(ip):
                    servers.append(StunServer(region_id, node.name, ip, node.stun_port or STUN_PORT))
    return servers


class Netcheck:
    """What one round found.

    asked4, asked6: servers of that family; addresses4: how many addresses those of IPv4 have between them.
    unreachable4, unreachable6: those to which nothing could be sent; answered4, answered6: those that answered.
    udp4, udp6: UDP goes there and back.
    mapped4, mapped6: [(endpoint, servers that saw us there)], most often seen first, then the fastest answer's.
    rewritten4: servers at public IPv4 addresses that saw us at a private one.
    mapping_varies: True, False, or None where the answers of two addresses could not be compared (IPv4).
    latencies_ms: {(region id, 4 or 6): best round trip}; preferred: the region with the least of them, 0 = none.
    """

    def __init__(self):
        self.asked4 = self.asked6 = self.addresses4 = 0
        self.unreachable4 = self.unreachable6 = 0
        self.answered4 = self.answered6 = 0
        self.mapped4: list = []
        self.mapped6: list = []
        self.rewritten4 = 0
        self.mapping_varies: bool | None = None
        self.latencies_ms: dict = {}
        self.preferred = 0

    @property
    def udp4(self) -> bool:
        return self.answered4 > 0

    @property
    def udp6(self) -> bool:
        return self.answered6 > 0

    def region_latencies_ms(self) -> dict:
        """Return region id -> its best round trip over both families, as Relays.probed() takes it."""
        best: dict = {}
        for region_id, family in self.latencies_ms:
            latency = self.latencies_ms[(region_id, family)]
            if latency < best.get(region_id, latency + 1):
                best[region_id] = latency
        return best


class _Asked:
    """One server in a round."""

    def __init__(self, server: StunServer, now_ms: int):
        self.server = server
        self.tries = 0
        self.next_ms = now_ms
        self.latency_ms = 0  # 0 = no answer yet
        self.seen_at: tuple | None = None  # the endpoint it saw us at, if that can be believed
        self.unreachable = False

    def is_settled(self) -> bool:
        return self.unreachable or self.latency_ms > 0


class StunRound:
    """One measurement; done when all have answered, enough have, or the 3 s are over."""

    def __init__(self, servers: list, random_bytes, now_ms: int):
        self._random_bytes = random_bytes
        self._now_ms = self._start_ms = now_ms
        self._asked: dict = {}  # (ip, port) -> _Asked
        for server in _chosen(servers):
            self._asked[(server.ip, server.port)] = _Asked(server, now_ms)
        self._sent: dict = {}  # txid -> (endpoint asked, when)
        self._end_ms = now_ms + BUDGET_MS
        self._is_done = False
        self._settle()

    def take_requests(self, now_ms: int) -> list:
        """Return the (StunServer, datagram) to send now; each server's next one is due at next_timer_ms()."""
        if self.done(now_ms):
            return []
        requests = []
        for endpoint in self._asked:
            asked = self._asked[endpoint]
            if asked.is_settled() or asked.tries == TRIES or asked.next_ms > self._now_ms:
                continue
            txid = self._random_bytes(stun.TXID_BYTES)
            self._sent[txid] = (endpoint, self._now_ms)
            if asked.tries < len(_SPACING_MS):
                asked.next_ms = self._now_ms + _SPACING_MS[asked.tries]
            asked.tries += 1
            requests.append((asked.server, stun.encode_binding_request(txid)))
        return requests

    def answer_received(self, datagram: bytes, source: tuple, now_ms: int) -> bool:
        """Take a STUN datagram; tell whether it was the answer to a request of this round.

        It counts only from the very server that was asked, with the txid it was sent, and once.
        """
        if self.done(now_ms):
            return False
        try:
            txid, ip, port = stun.decode_binding_response(datagram)
        except BadWire:
            return False
        endpoint, sent_ms = self._sent.get(txid, ((), 0))
        if endpoint != source:
            return False
        asked = self._asked[endpoint]
        asked.latency_ms = max(1, self._now_ms - sent_ms)
        asked.unreachable = False
        if is_believable((ip, port), len(endpoint[0])):
            asked.seen_at = (ip, port)
        # Its other txids go too: a second answer of the same server says nothing new.
        for other in [t for t in self._sent if self._sent[t][0] == endpoint]:
            del self._sent[other]
        self._settle()
        return True

    def send_failed(self, server: StunServer, now_ms: int) -> None:
        """Note that the machine could not send to a server (no route, no address of that family)."""
        if self.done(now_ms):
            return
        asked = self._asked.get((server.ip, server.port))
        if asked is not None and not asked.latency_ms:
            asked.unreachable = True
            self._settle()

    def done(self, now_ms: int) -> bool:
        self._now_ms = max(now_ms, self._now_ms)
        if self._now_ms >= self._end_ms:
            self._is_done = True
        return self._is_done

    def next_timer_ms(self) -> int | None:
        """Return when take_requests() or done() will say something new, None once the round is over."""
        if self._is_done:
            return None
        at_ms = self._end_ms
        for asked in self._asked.values():
            if not asked.is_settled() and asked.tries < TRIES:
                at_ms = min(at_ms, asked.next_ms)
        return at_ms

    def report(self, now_ms: int) -> Netcheck:
        """Return what is known by now; final once done()."""
        self.done(now_ms)
        netcheck = Netcheck()
        all_asked = list(self._asked.values())
        (netcheck.asked4, netcheck.unreachable4, netcheck.answered4, netcheck.mapped4) = _family(all_asked, 4)
        (netcheck.asked6, netcheck.unreachable6, netcheck.answered6, netcheck.mapped6) = _family(all_asked, 16)
        netcheck.addresses4 = len({one.server.ip for one in all_asked if len(one.server.ip) == 4})
        netcheck.rewritten4 = len([one for one in all_asked if _is_rewritten(one)])
        netcheck.mapping_varies = _varies(all_asked)
        for asked in all_asked:
            if asked.latency_ms:
                key = (asked.server.region_id, 4 if len(asked.server.ip) == 4 else 6)
                if asked.latency_ms < netcheck.latencies_ms.get(key, asked.latency_ms + 1):
                    netcheck.latencies_ms[key] = asked.latency_ms
        best = netcheck.region_latencies_ms()
        for region_id in sorted(best):
            if not netcheck.preferred or best[region_id] < best[netcheck.preferred]:
                netcheck.preferred = region_id
        return netcheck

    def _settle(self) -> None:
        """End the round where all have answered; bring its end nearer where enough have."""
        open_servers = [asked for asked in self._asked.values() if not asked.is_settled()]
        if not open_servers:
            self._is_done = True
            return
        for size in (4, 16):
            answered = [a for a in self._asked.values() if a.latency_ms and len(a.server.ip) == size]
            waiting = [a for a in open_servers if len(a.server.ip) == size]
            if waiting and len(answered) < ENOUGH_ANSWERS:
                return
        slowest_ms = max([asked.latency_ms for asked in self._asked.values()])
        self._end_ms = min(self._end_ms, self._now_ms + max(_GRACE_MIN_MS, slowest_ms))


def is_believable(endpoint: tuple, size: int) -> bool:
    """Tell whether a server can have seen us at an endpoint; size: bytes of an address of the family it was asked by.

    A private address is believed: server and board may share an inner network. One at which no host can be is not, as
    peers would be sent there; nor is one of the mesh, which would lead into the tunnel.
    """
    ip, port = endpoint
    return len(ip) == size and port > 0 and not prefixes.is_no_host(ip) and not prefixes.is_mesh6(ip)


def _family(all_asked: list, size: int) -> tuple:
    """Return (asked, unreachable, answered, mapped) of one family."""
    asked = [one for one in all_asked if len(one.server.ip) == size]
    answered = sorted([one for one in asked if one.latency_ms], key=lambda one: one.latency_ms)
    times_seen: dict = {}
    order = []
    for one in answered:
        if one.seen_at is not None:
            if one.seen_at not in times_seen:
                order.append(one.seen_at)
            times_seen[one.seen_at] = times_seen.get(one.seen_at, 0) + 1
    # MicroPython's sort is not stable: the place in the order of answers is part of the key.
    ranked = sorted([(-times_seen[order[i]], i) for i in range(len(order))])
    mapped = [(order[i], -negative) for negative, i in ranked]
    return len(asked), len([one for one in asked if one.unreachable]), len(answered), mapped


def _varies(all_asked: list) -> bool | None:
    """Tell whether servers at two IPv4 addresses saw us at two endpoints; None where only one address answered.

    Two ports of one address can show a NAT that maps by port; where they agree, it may still map by address.
    """
    seen, askers = set(), set()
    for asked in all_asked:
        if asked.seen_at is not None and len(asked.server.ip) == 4:
            seen.add(asked.seen_at)
            askers.add(asked.server.ip)
    if len(seen) > 1:
        return True
    return False if len(askers) > 1 else None


def _is_rewritten(asked: _Asked) -> bool:
    """Tell whether a public server saw us at a private address, so that the datagram's source was changed near it."""
    return (
        asked.seen_at is not None
        and len(asked.server.ip) == 4
        and prefixes.is_private((asked.seen_at[0], 32))
        and not prefixes.is_private((asked.server.ip, 32))
        and not prefixes.is_shared_space(asked.server.ip)
    )


def _chosen(servers: list) -> list:
    """Return at most MAX_SERVERS, each endpoint once: every region's first of each family, then its second, ..."""
    groups: dict = {}
    endpoints = set()
    for server in servers:
        if (server.ip, server.port) not in endpoints:
            endpoints.add((server.ip, server.port))
            groups.setdefault((server.region_id, len(server.ip)), []).append(server)
    chosen: list = []
    for turn in range(MAX_SERVERS):
        for key in sorted(groups):
            if turn < len(groups[key]) and len(chosen) < MAX_SERVERS:
                chosen.append(groups[key][turn])
    return chosen


def _stun_nodes(derp_map) -> list:
    """Return (region id, node) of all servers that answer STUN and may be measured, in order of the region ids."""
    nodes = []
    for region_id in sorted(derp_map.regions):
        region = derp_map.regions[region_id]
        if not region.no_measure_no_home:
            nodes.extend([(region_id, node) for node in region.nodes if node.stun_port != _NO_STUN])
    return nodes


def _literal(host_name: str) -> bytes:
    """Return the address that a host name spells, b"" if it is a name."""
    try:
        return address.ip_from_text(host_name)
    except BadWire:
        return b""


def _is_no_unicast(ip: bytes) -> bool:
    """Tell whether no server can be at an address. Loopback can: a lab may run all in one machine."""
    if len(ip) == 4:
        return ip[0] == 0 or ip[0] >= 224
    return ip == bytes(16) or ip[0] == 0xFF


class Nat:
    """What stands between us and the outside on IPv4."""

    UNKNOWN = 0  # nobody was asked
    NO_NETWORK = 1  # nothing could be sent
    BLOCKED = 2  # sent, and nothing came back
    NONE = 3  # the outside sees one of our own addresses
    EASY = 4  # one outside address for all destinations
    HARD = 5  # another one for each destination
    UNTOLD = 6  # translated, but whether by destination cannot be told


def nat_kind(netcheck: Netcheck, local_ips: list | None = None) -> int:
    """Return the Nat on IPv4; local_ips: this machine's own addresses (4 or 16 bytes), None = not known."""
    if not netcheck.asked4:
        return Nat.UNKNOWN
    if not netcheck.udp4:
        return Nat.NO_NETWORK if _is_absent(4, netcheck.asked4, netcheck.unreachable4, local_ips) else Nat.BLOCKED
    if netcheck.mapping_varies:
        return Nat.HARD
    if netcheck.mapped4 and netcheck.mapped4[0][0][0] in (local_ips or ()):
        return Nat.NONE
    return Nat.EASY if netcheck.mapping_varies is False else Nat.UNTOLD


def describe(netcheck: Netcheck, local_ips: list | None = None) -> list:
    """Return sentences for people: what this network lets through, and what follows from it."""
    if not netcheck.asked4 and not netcheck.asked6:
        return ["The relay map names no STUN server, so nobody can say how this network looks from outside."]
    if not netcheck.udp4 and not netcheck.udp6:
        if _is_absent(4, netcheck.asked4, netcheck.unreachable4, local_ips) and _is_absent(
            16, netcheck.asked6, netcheck.unreachable6, local_ips
        ):
            return ["There is no network: nothing could be sent to any STUN server."]
        return [
            "UDP is blocked: no answer from any of %d STUN servers. The relay carries everything."
            % (netcheck.asked4 + netcheck.asked6),
            "If devices in other networks say the same, it is blocked at the server: UDP 3478, unless set otherwise, "
            "must be open there.",
        ]
    return _ipv4_words(netcheck, local_ips) + _ipv6_words(netcheck, local_ips)


def _is_absent(size: int, asked: int, unreachable: int, local_ips: list | None) -> bool:
    """Tell whether silence is no wonder: nothing could be sent, or this machine has no address of that family at all.

    A cable that was pulled lets datagrams go nowhere without an error.
    """
    if unreachable == asked:
        return True
    return local_ips is not None and not [ip for ip in local_ips if len(ip) == size]


def _ipv4_words(netcheck: Netcheck, local_ips: list | None) -> list:
    kind = nat_kind(netcheck, local_ips)
    if kind == Nat.UNKNOWN:
        return ["IPv4: nobody to ask, the relay map names no STUN server with an IPv4 address."]
    if kind == Nat.NO_NETWORK:
        return ["IPv4: not there, nothing could be sent."]
    if kind == Nat.BLOCKED:
        return ["IPv4: UDP is blocked, no answer from any of %d STUN servers." % netcheck.asked4]
    if not netcheck.mapped4:
        return ["IPv4: UDP gets through, but no STUN server told a usable outside address."]
    ip = netcheck.mapped4[0][0][0]
    outside = address.endpoint_text(netcheck.mapped4[0][0])
    if kind == Nat.NONE:
        words = ["IPv4: no NAT. The outside sees this device's own address, %s." % outside]
    elif kind == Nat.EASY:
        words = [
            "IPv4: behind an easy NAT. All destinations see this device as %s, so direct paths work with most others."
            % outside
        ]
    elif kind == Nat.HARD:
        words = [
            "IPv4: behind a hard NAT. Each destination sees this device at another port (%s was one), so direct paths "
            "work only with devices whose router lets in what comes from any port; the relay carries the rest."
            % outside
        ]
    else:
        words = ["IPv4: behind a NAT. The outside sees this device as %s." % outside]
    if kind == Nat.UNTOLD:
        words.append(_why_untold(netcheck))
    return words + _second_nat_words(ip, kind, netcheck.rewritten4, local_ips or [])


def _why_untold(netcheck: Netcheck) -> str:
    if netcheck.addresses4 == 1:
        return "Easy or hard NAT cannot be told: the relay map has one STUN address only, and it takes two to compare."
    return (
        "Easy or hard NAT cannot be told: it takes the answers of STUN servers at two addresses, and %d of %d servers "
        "answered." % (netcheck.answered4, netcheck.asked4)
    )


def _second_nat_words(outside: bytes, kind: int, rewritten: int, local_ips: list) -> list:
    """Hint at a carrier's NAT or a second router, as far as addresses give it away."""
    if prefixes.is_shared_space(outside):
        return [
            "That address belongs to the internet provider's inside (100.64.0.0/10): the STUN server is in there too, "
            "and further away the provider's own NAT comes on top."
        ]
    if prefixes.is_private((outside, 32)):
        if kind == Nat.NONE:
            return [
                "It is a private address: the STUN server is in the same network. From further away it looks different."
            ]
        if rewritten:
            return [
                "It is a private address, though the STUN server's is public: something in front of the server hides "
                "where packets come from, as Docker's port proxy does. Direct paths from elsewhere will not be found."
            ]
        return [
            "It is a private address: the STUN server is in an inner network too, and behind this NAT there is another "
            "one (double NAT)."
        ]
    if kind != Nat.NONE and [ip for ip in local_ips if prefixes.is_shared_space(ip)]:
        return ["The internet provider shares that address among customers (carrier NAT): no port can be opened on it."]
    return []


def _ipv6_words(netcheck: Netcheck, local_ips: list | None) -> list:
    if not netcheck.asked6:
        return ["IPv6: nobody to ask, the relay map names no STUN server with an IPv6 address."]
    if not netcheck.udp6:
        if _is_absent(16, netcheck.asked6, netcheck.unreachable6, local_ips):
            return ["IPv6: not there, nothing could be sent."]
        return ["IPv6: UDP is blocked, no answer from any of %d STUN servers." % netcheck.asked6]
    if not netcheck.mapped6:
        return ["IPv6: UDP gets through, but no STUN server told a usable outside address."]
    outside = netcheck.mapped6[0][0]
    if outside[0] in (local_ips or ()):
        return ["IPv6: works, no NAT. The outside sees this device's own address, %s." % address.endpoint_text(outside)]
    return ["IPv6: works, but it is translated: the outside sees this device as %s." % address.endpoint_text(outside)]
