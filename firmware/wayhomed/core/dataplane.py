"""What the kernel is to do, decided from three things: the netmap, the owner's preferences, the facts of this machine.

    coordinator's netmap  AND  what the owner wants and allows (Preferences)  AND  what the machine needs itself (Facts)

The second and third limit what a stolen coordinator can take. What is refused is reported, never half done.
Source: wireguard.md sections 1, 4, 5 and 6.
"""

from wayhomed.port import const
from wayhomed.wire import address

from . import ranges
from .ceiling import ANY, Ceiling
from .filter import TCP, Opening, Rule, read_filter
from .prefixes import is_mesh6, is_mesh_address, is_private, no_subnet_reason
from .prefs import MIN_MTU_BYTES
from .published import read_published

# Chosen by us
MAX_PEERS = const(4096)
MAX_PREFIXES_OF_PEER = const(1024)
MAX_PREFIXES = const(16_384)
_MAX_OWN_ADDRESSES = const(8)
_MAX_PROBLEMS = const(100)
_MAX_REFUSED = const(500)
# Of all public addresses, as many as others may take by routes that the owner has not named: a /8, or a /28 of IPv6.
# Beyond that a coordinator would draw the Internet into the tunnel piece by piece, without any default route.
_MAX_PUBLIC4 = const(1 << 24)
_MAX_PUBLIC6 = 1 << 100
# Addresses of public servers: whoever may reach one of them may reach the Internet.
_IN_THE_INTERNET = ranges.Ranges(
    [
        ranges.single(address.ip_from_text(text))
        for text in ("1.1.1.1", "9.9.9.9", "2606:4700:4700::1111", "2620:fe::fe")
    ]
)


class Preferences:
    """What the owner of this machine allows.

    advertise_routes: prefixes that others may reach through us; accept_routes: whether we use others' subnets;
    snat: hide mesh addresses from LAN devices behind ours, but for those in snat_except; lan_to_mesh: LAN devices may
    open connections to peers; mtu_bytes: of the tunnel; ceiling: a ceiling.Ceiling, what is allowed at most;
    peer_api_port: the TCP port of ours that users of this exit node reach, 0 for none.
    """

    def __init__(
        self,
        advertise_routes=(),
        accept_routes=False,
        snat=True,
        ceiling=None,
        snat_except=(),
        lan_to_mesh=False,
        mtu_bytes=MIN_MTU_BYTES,
    ):
        self.advertise_routes = list(advertise_routes)
        self.accept_routes = accept_routes
        self.snat = snat
        self.snat_except = list(snat_except)
        self.lan_to_mesh = lan_to_mesh
        self.mtu_bytes = mtu_bytes
        self.ceiling = ceiling or Ceiling()
        self.peer_api_port = 0


class Facts:
    """What this machine has and needs, the tunnel's own interface left out.

    own: addresses of its interfaces; connected: prefixes that its interfaces lie in; ways: (prefix, interface's name)
    of each route of the main table; uplinks: its ways out, sorted: the interface, the gateway (b"" for none) and the
    interface's addresses of that family for each default route; gateways, resolvers: addresses of routers and DNS or
    DHCP servers; remotes: addresses of coordinator and relays; forwards4, forwards6: it forwarded packets before we
    came; now_s: seconds since 1970, 0 while the clock is not to be trusted.
    """

    def __init__(self):
        self.own = []
        self.connected = []
        self.ways = []
        self.uplinks = []
        self.gateways = []
        self.resolvers = []
        self.remotes = []
        self.forwards4 = False
        self.forwards6 = False
        self.now_s = 0


class Firewall:
    """What the packet filter is made of; addresses are Ranges.

    own: our mesh addresses; peers: single mesh addresses of peers; routed: accepted prefixes of other routers; allowed:
    sources that may come out of the tunnel, both of these; named: addresses of ours outside the mesh that a rule names
    one by one; jailed: peers that may only answer; rules: filter.Rule, destinations cut to what is served here;
    published: published.Published; snat, and snat_except: towards these mesh sources are kept; callers: [(interface's
    name, Ranges)] of LAN devices that may open connections to what is `allowed`; contain4, contain6: nothing but the
    tunnel's traffic may be forwarded, for this machine did not forward before we made it.
    """

    def __init__(self):
        self.own = ranges.Ranges()
        self.peers = ranges.Ranges()
        self.routed = ranges.Ranges()
        self.allowed = ranges.Ranges()
        self.named = ranges.Ranges()
        self.jailed = ranges.Ranges()
        self.rules = []
        self.published = []
        self.snat = True
        self.snat_except = ranges.Ranges()
        self.callers = []
        self.contain4 = False
        self.contain6 = False


class Plan:
    """What DataPlane.apply makes true.

    addresses: ips of the interface; mtu_bytes: its MTU; peers: {public key: set of prefixes}; routes: set of prefixes;
    forwarding: whether the machine must forward packets; firewall; refused: [(prefix, node's name, reason)]; problems:
    sentences; denied: sentences about what the coordinator wants and the owner's ceiling does not leave; exit_users:
    sources that the policy lets reach the Internet by an exit node.
    """

    def __init__(self):
        self.addresses = []
        self.mtu_bytes = MIN_MTU_BYTES
        self.peers = {}
        self.routes = set()
        self.forwarding = False
        self.firewall = Firewall()
        self.refused = []
        self.problems = []
        self.denied = []
        self.exit_users = ranges.Ranges()


def plan(netmap, preferences: Preferences, facts: Facts) -> Plan:
    """Return the Plan for this netmap (core.netmap.Netmap). Without a self node everything is closed."""
    result = Plan()
    result.mtu_bytes = preferences.mtu_bytes
    result.firewall.snat = preferences.snat
    result.firewall.snat_except = ranges.Ranges([ranges.of_prefix(prefix) for prefix in preferences.snat_except])
    if netmap.node is None:
        return result
    _plan_own_addresses(result, netmap.node, facts)
    advertised = _plan_advertised(result, preferences)
    _plan_published(result, netmap.node, preferences, facts, advertised)
    _plan_peers(result, netmap, preferences, facts, advertised)
    _plan_rules(result, netmap, preferences.ceiling, facts, advertised)
    _plan_peer_api(result, preferences.peer_api_port)
    if preferences.lan_to_mesh:
        result.firewall.callers = _callers(advertised, preferences.ceiling, facts)
    if isinstance(netmap.dns.get("Resolvers"), list) and netmap.dns["Resolvers"]:
        result.denied.append("the coordinator names DNS servers for all names; this machine's DNS stays as it is")
    result.forwarding = bool(advertised or result.firewall.published)
    result.firewall.contain4 = result.forwarding and not facts.forwards4
    result.firewall.contain6 = result.forwarding and not facts.forwards6
    if len(result.refused) > _MAX_REFUSED:
        result.problems.append("and %d more addresses and routes are refused" % (len(result.refused) - _MAX_REFUSED))
        result.refused[_MAX_REFUSED:] = []
    if len(result.problems) > _MAX_PROBLEMS:
        result.problems[_MAX_PROBLEMS:] = ["and %d more problems" % (len(result.problems) - _MAX_PROBLEMS)]
    return result


def _plan_own_addresses(result: Plan, node, facts: Facts) -> None:
    for prefix in node.addresses[:_MAX_OWN_ADDRESSES]:
        ip = prefix[0]
        if not is_mesh_address(prefix):
            result.refused.append((prefix, "this node", "not an address of the mesh"))
        elif ip in facts.own or ip in facts.gateways or ip in facts.resolvers or ip in facts.remotes:
            result.refused.append((prefix, "this node", "this machine's own network uses the address"))
        else:
            result.addresses.append(ip)
    result.firewall.own = ranges.Ranges([ranges.single(ip) for ip in result.addresses])


def _plan_advertised(result: Plan, preferences: Preferences) -> list:
    """Return the prefixes that we serve."""
    served = []
    for prefix in preferences.advertise_routes:
        reason = no_subnet_reason(prefix) or preferences.ceiling.lan_reason(prefix)
        if reason:
            result.refused.append((prefix, "this node", reason))
            continue
        served.append(prefix)
        if preferences.ceiling.is_cut(prefix):
            result.denied.append("of %s only what allow-lans leaves is served" % address.prefix_text(prefix))
    return served


def _callers(advertised: list, ceiling: Ceiling, facts: Facts) -> list:
    """Return [(interface's name, Ranges)]: by which interface devices of which served addresses come in.

    Only so much of the LAN as is served: peers have no way back to more. A prefix that no route leads to but the
    default route lies behind the router there.
    """
    by_name: dict = {}
    for prefix in advertised:
        if not prefix[1]:
            continue  # all of the Internet is nobody's LAN
        served = ceiling.lan_ranges(prefix)
        ways = [way for way in facts.ways if way[0][1] and address.overlaps(way[0], prefix)]
        if not ways:
            ways = [way for way in facts.ways if not way[0][1] and len(way[0][0]) == len(prefix[0])]
        for way, name in ways:
            common = ranges.Ranges(served).intersection(ranges.Ranges([ranges.of_prefix(way)]))
            by_name.setdefault(name, []).extend(common.items())
    return [(name, ranges.Ranges(by_name[name])) for name in sorted(by_name) if by_name[name]]


def _plan_published(result: Plan, node, preferences: Preferences, facts: Facts, advertised: list) -> None:
    within = preferences.ceiling.publish
    if within == ANY:
        within = [prefix for prefix in facts.connected if is_private(prefix)] + advertised
    devices, problems = read_published(node.cap_map)
    result.problems.extend(problems)
    for device in devices:
        reason = _published_reason(device, within, preferences.ceiling, result.addresses, facts)
        if reason:
            result.problems.append("published device %s is refused: %s" % (device.name, reason))
        else:
            result.firewall.published.append(device)


def _published_reason(device, within: list, ceiling: Ceiling, own: list, facts: Facts) -> str:
    """Say why a device may not be published from here, or ""."""
    for mesh_ip, target in device.pairs:
        if not is_mesh_address((mesh_ip, 8 * len(mesh_ip))):
            return address.ip_text(mesh_ip) + " is not an address of the mesh"
        if mesh_ip in own or mesh_ip in facts.own:
            return address.ip_text(mesh_ip) + " is this machine's own address"
        if target in facts.own:
            return address.ip_text(target) + " is this machine itself; its services are opened by policy alone"
        reason = ceiling.target_reason(target)
        if reason:
            return address.ip_text(target) + ": " + reason
        for prefix in within:
            if address.contains(prefix, target):
                break
        else:
            return address.ip_text(target) + " is in no network that this machine may publish from"
    return ""


def _plan_peers(result: Plan, netmap, preferences: Preferences, facts: Facts, advertised: list) -> None:
    if len(netmap.peers) > MAX_PEERS:
        result.problems.append("%d peers are more than this machine takes; none is let in" % len(netmap.peers))
        return
    peers = []
    for node_id in sorted(netmap.peers):
        peer = netmap.peers[node_id]
        if peer.is_expired(facts.now_s) or peer.key == netmap.node.key or peer.key in result.peers:
            continue
        if peer.is_wireguard_only:
            result.problems.append("%s is plain WireGuard, which we don't speak to yet" % peer.display_name())
        elif len(peer.allowed_ips) > MAX_PREFIXES_OF_PEER:
            result.problems.append("%s has %d prefixes; it is left out" % (peer.display_name(), len(peer.allowed_ips)))
        else:
            peers.append(peer)
            result.peers[peer.key] = set()
    reserved = set(result.addresses)
    for device in result.firewall.published:
        reserved.update([mesh_ip for mesh_ip, _target in device.pairs])
    owners: dict = {}
    public = _PublicSpace()
    # Single addresses of all peers come first, so that no subnet can take what is somebody's own.
    for peer in peers:
        for prefix in peer.allowed_ips:
            if is_mesh_address(prefix):
                reason = "it is ours" if prefix[0] in reserved else _needed_here(prefix, facts)
                _give(result, owners, peer, prefix, reason)
    singles = list(owners)
    for peer in peers:
        for prefix in peer.allowed_ips:
            if not is_mesh_address(prefix) and not _is_other_default(prefix):
                if preferences.accept_routes:
                    reason = _subnet_reason(prefix, facts, advertised) or preferences.ceiling.peers_route_reason(prefix)
                    if not reason and preferences.ceiling.peers_routes == ANY and prefix not in owners:
                        reason = public.take(prefix)
                    _give(result, owners, peer, prefix, reason)
    result.routes = set(owners)
    result.firewall.peers = ranges.Ranges([ranges.single(prefix[0]) for prefix in singles])
    result.firewall.routed = ranges.Ranges(
        [ranges.of_prefix(prefix) for prefix in owners if not is_mesh_address(prefix)]
    )
    result.firewall.allowed = ranges.Ranges([ranges.of_prefix(prefix) for prefix in owners])
    result.firewall.jailed = ranges.Ranges(
        [ranges.of_prefix(prefix) for peer in peers if peer.is_jailed for prefix in result.peers[peer.key]]
    )


class _PublicSpace:
    """How much of the Internet the routes of others take together."""

    def __init__(self):
        self._left = {4: _MAX_PUBLIC4, 16: _MAX_PUBLIC6}

    def take(self, prefix: tuple) -> str:
        """Count a prefix if it is public; say why it may not be had, or ""."""
        ip, length = prefix
        if is_private(prefix) or is_mesh6(ip):
            return ""
        size = 1 << 8 * len(ip) - length
        if size > self._left[len(ip)]:
            return "it takes too much of the Internet; name it in allow-peers-routes if it may have it"
        self._left[len(ip)] -= size
        return ""


def _is_other_default(prefix: tuple) -> bool:
    """An exit node offers both default routes to everybody; not to choose it is nothing to report."""
    return prefix[1] == 0


def _give(result: Plan, owners: dict, peer, prefix: tuple, reason: str) -> None:
    """Let a peer have a prefix, unless there is a reason not to."""
    if not reason and prefix in owners:
        if owners[prefix] == peer.key:
            return
        reason = "another node has it already"
    if not reason and len(owners) >= MAX_PREFIXES:
        reason = "more than %d prefixes" % MAX_PREFIXES
    if reason:
        result.refused.append((prefix, peer.display_name(), reason))
        return
    owners[prefix] = peer.key
    result.peers[peer.key].add(prefix)


def _needed_here(prefix: tuple, facts: Facts) -> str:
    """Say which need of this machine the route would swallow, or ""."""
    for ips, what in (
        (facts.own, "an address of this machine"),
        (facts.gateways, "this machine's gateway"),
        (facts.resolvers, "a DNS or DHCP server that this machine uses"),
        (facts.remotes, "the coordinator or a relay"),
    ):
        for ip in ips:
            if address.contains(prefix, ip):
                return "it would swallow %s, %s" % (address.ip_text(ip), what)
    return ""


def _subnet_reason(prefix: tuple, facts: Facts, advertised: list) -> str:
    reason = no_subnet_reason(prefix)
    if reason:
        return reason
    for own in advertised:
        if address.overlaps(own, prefix):
            return "it overlaps %s, which this node serves" % address.prefix_text(own)
    # The own LAN always wins.
    for own in facts.connected:
        if address.overlaps(own, prefix):
            return "it overlaps %s, a network that this machine is connected to" % address.prefix_text(own)
    return _needed_here(prefix, facts)


def _exit_users(rules: list) -> ranges.Ranges:
    """Return the sources that the policy lets reach the Internet by an exit node."""
    found: list = []
    for rule in rules:
        if rule.destinations().intersection(_IN_THE_INTERNET):
            found.extend(rule.sources.items())
    return ranges.Ranges(found)


def _plan_peer_api(result: Plan, port: int) -> None:
    """Open our PeerAPI, which checks by itself whom it serves, to those that it may serve."""
    users = result.exit_users.intersection(result.firewall.peers)
    if port and users and result.firewall.own:
        result.firewall.rules.append(Rule(users, [Opening(port, port, result.firewall.own.items())], (TCP,)))


def _plan_rules(result: Plan, netmap, ceiling: Ceiling, facts: Facts, advertised: list) -> None:
    def holders(capability: str) -> list:
        return [
            prefix[0]
            for peer in netmap.peers.values()
            if capability in peer.cap_map and peer.key in result.peers
            for prefix in result.peers[peer.key]
            if is_mesh_address(prefix)
        ]

    read = read_filter(netmap.filter_rules(), holders)
    result.problems.extend(read.problems)
    firewall = result.firewall
    result.exit_users = _exit_users(read.rules)
    # Our addresses outside the mesh (LAN, WAN) are opened only by a rule that names them alone: whoever opens a LAN to
    # others means its devices, not the services of the router in it.
    outside = [ip for ip in facts.own if ip not in result.addresses]
    routed = [one for prefix in advertised for one in ceiling.lan_ranges(prefix)] + firewall.own.items()
    for device in firewall.published:
        routed.extend([ranges.single(mesh_ip) for mesh_ip, _target in device.pairs])
    served = ranges.Ranges(routed)
    for ip in outside:
        served = served.without(ip)
    here = ranges.Ranges(firewall.own.items() + [ranges.single(ip) for ip in outside])
    named = set()
    was_cut = False
    for rule in read.rules:
        openings = []
        for opening in rule.openings:
            cut = opening.destinations.intersection(served).items()
            for ip in outside:
                if ip in opening.singles:
                    named.add(ip)
                    cut.append(ranges.single(ip))
            if cut:
                opening.destinations = ranges.Ranges(cut)
                openings.append(opening)
        if openings:
            rule.openings = openings
            rules, cut_more = ceiling.cut_services(rule, here)
            firewall.rules.extend(rules)
            was_cut = was_cut or cut_more
    firewall.named = ranges.Ranges([ranges.single(ip) for ip in named])
    if was_cut:
        result.denied.append(
            "the policy opens more of this machine's own services than allow-services leaves, which is: "
            + ceiling.services_text()
        )
