"""The packet filter as nftables commands: core.dataplane.Firewall -> one batch for our own table.

    prerouting  raw      sources: out of the tunnel only what a peer may use, from elsewhere never a mesh address
    prerouting  mangle   answers to the daemon get its bypass mark, so that strict rp_filter finds their route
    prerouting  dstnat   published devices: mesh address -> LAN address
    input                out of the tunnel to this machine: own mesh addresses, where the policy opens them
    forward              out of the tunnel to the LAN: where the policy opens it; into the tunnel: answers, and what
                         LAN devices begin where the owner lets them; with a peer's source from no other side
    forward     mangle   MSS of SYN and SYN-ACK down to what the route takes, both ways, never up
    forward     300      what all have let pass, and was answered, takes the fast path from its next packet on
    postrouting srcnat   what came out of the tunnel leaves with this machine's own address, unless told otherwise
    input       200      WireGuard's packets from addresses that must not become a peer's way go to the daemon instead

`opened` looks at the tuple that opened a connection (`ct original`), for every packet and both directions. So it knows
published devices by their mesh addresses, before translation; and a connection ends with the rule that let it in, with
nothing to delete from conntrack. Source: wireguard.md sections 3.1, 4 and 6.
"""

from wayhomed.core import filter as packet_filter
from wayhomed.core import ranges
from wayhomed.wire.address import ip_text

from .routes import BYPASS_MARK, MARK_MASK

TABLE = "inet wayhome"
FROM_TUNNEL_MARK = 0x40000
_FAMILIES = (("4", "ip", "ipv4_addr", "ipv4"), ("6", "ip6", "ipv6_addr", "ipv6"))
_PORT_PROTOCOLS = (packet_filter.TCP, packet_filter.UDP, packet_filter.SCTP, 33, 136)  # 33 DCCP, 136 UDP-Lite

# What each counter counts; they live as long as the table.
COUNTERS = {
    "bad_source": "came out of the tunnel with a source address that no peer may use",
    "forged": "came from outside the tunnel with, or for, an address of the mesh",
    "closed": "came out of the tunnel for something that the policy does not open",
    "unsolicited": "came from the LAN for the mesh, where nobody had asked for it",
    "contained": "would have passed between other networks of this machine, which did not forward before",
}

_SETS = ("own", "peers", "routed", "allowed", "here", "callers")
_CHAINS = (
    ("opened", ""),
    ("from_tunnel_here", ""),
    ("from_tunnel", ""),
    ("to_tunnel", ""),
    ("routed_source", ""),
    ("sources", "type filter hook prerouting priority -300"),
    ("restore_mark", "type filter hook prerouting priority -150"),
    ("save_mark", "type filter hook output priority -150"),
    ("publish", "type nat hook prerouting priority -105"),
    ("input", "type filter hook input priority -5"),
    ("forward", "type filter hook forward priority -5"),
    ("fast", "type filter hook forward priority 300"),
    ("mss", "type filter hook forward priority -150"),
    ("hide_source", "type nat hook postrouting priority 95"),
    ("hold", "type filter hook input priority 200"),
)


def is_interface_name(name: str) -> bool:
    """Tell whether a name may stand in a rule and be a Linux interface's (15 bytes at most)."""
    if not 0 < len(name) <= 15:
        return False
    for character in name:
        if not (character.isalpha() or character.isdigit() or character in "-_.") or ord(character) > 126:
            return False
    return True


def delete_table() -> str:
    """Return the batch that deletes our table, whether there is one or not."""
    return "add table %s\ndelete table %s\n" % (TABLE, TABLE)


def ruleset(interface: str, firewall, ports: tuple = ()) -> str:
    """Return the batch that makes our table say this and nothing else; counters go on counting.

    An empty Firewall lets nothing out of the tunnel. ports: (WireGuard's, linux.held's) once these are known. Which
    endpoints are held is not in it but in held_elements() and held_changes(): the batch leaves them as they are.
    """
    if not is_interface_name(interface):
        raise ValueError("no interface name: " + interface)
    lines = ["add table " + TABLE]
    for name in COUNTERS:
        lines.append("add counter %s %s" % (TABLE, name))
    for digit, _family, kind, _proto in _FAMILIES:
        for name in _SETS:
            lines.append("add set %s %s%s { type %s; flags interval; }" % (TABLE, name, digit, kind))
            lines.append("flush set %s %s%s" % (TABLE, name, digit))
        lines.append("add map %s published%s { type %s : %s; }" % (TABLE, digit, kind, kind))
        lines.append("flush map %s published%s" % (TABLE, digit))
        lines.append("add set %s held%s { type %s . inet_service; }" % (TABLE, digit, kind))
    for name, hook in _CHAINS:
        lines.append("add chain %s %s%s" % (TABLE, name, " { " + hook + "; policy accept; }" if hook else ""))
        lines.append("flush chain %s %s" % (TABLE, name))
    _add_elements(lines, firewall)
    tunnel = '"' + interface + '"'
    elsewhere = '{ "lo", ' + tunnel + " }"
    _add_policy(lines, firewall)
    _add_sources(lines, tunnel, elsewhere)
    _add_marks(lines)
    _add_filters(lines, tunnel, elsewhere, firewall, ports)
    _add_translation(lines, tunnel, firewall)
    if ports:
        _add_hold(lines, elsewhere, ports[0], ports[1])
    return "\n".join(lines) + "\n"


def _rule(lines: list, chain: str, text: str) -> None:
    lines.append("add rule %s %s %s" % (TABLE, chain, text))


def _add_elements(lines: list, firewall) -> None:
    here = ranges.Ranges(firewall.own.items() + firewall.named.items())
    callers = ranges.Ranges([item for _name, sources in firewall.callers for item in sources.items()])
    for name, content in (
        ("own", firewall.own),
        ("peers", firewall.peers),
        ("routed", firewall.routed),
        ("allowed", firewall.allowed),
        ("here", here),
        ("callers", callers),
    ):
        for digit, items in (("4", content.v4), ("6", content.v6)):
            if items:
                lines.append("add element %s %s%s %s" % (TABLE, name, digit, _set_text(items)))
    for digit, length in (("4", 4), ("6", 16)):
        pairs = [pair for device in firewall.published for pair in device.pairs if len(pair[0]) == length]
        if pairs:
            text = ", ".join([ip_text(mesh_ip) + " : " + ip_text(target) for mesh_ip, target in pairs])
            lines.append("add element %s published%s { %s }" % (TABLE, digit, text))


def _set_text(items: list) -> str:
    return (
        "{ "
        + ", ".join([ip_text(low) if low == high else ip_text(low) + "-" + ip_text(high) for low, high in items])
        + " }"
    )


def _add_policy(lines: list, firewall) -> None:
    for digit, family, _kind, _proto in _FAMILIES:
        jailed = _of_family(firewall.jailed, digit)
        if jailed:
            _rule(lines, "opened", "ct original %s saddr %s return" % (family, _set_text(jailed)))
    for device in firewall.published:
        if device.ports is not None:
            for mesh_ip, _target in device.pairs:
                _add_port_limits(lines, mesh_ip, device.ports)
    for rule in firewall.rules:
        for digit, family, _kind, proto in _FAMILIES:
            _add_rule(lines, rule, digit, family, proto)


def _of_family(content, digit: str) -> list:
    return content.v4 if digit == "4" else content.v6


def _add_port_limits(lines: list, mesh_ip: bytes, ports: list) -> None:
    """Leave a published device no more than its ports; echo requests always may be answered."""
    family = "ip" if len(mesh_ip) == 4 else "ip6"
    device = "ct original %s daddr %s " % (family, ip_text(mesh_ip))
    for protocol in (packet_filter.TCP, packet_filter.UDP):
        for first, last in _closed_stretches(ports, protocol):
            _rule(lines, "opened", device + _to_ports(protocol, first, last) + "return")
    known = (packet_filter.TCP, packet_filter.UDP, packet_filter.ICMP, packet_filter.ICMPV6)
    _rule(lines, "opened", device + "meta l4proto != " + _numbers(known) + "return")


def _closed_stretches(ports: list, protocol: int) -> list:
    """Return [(first, last)] of the ports that are not among the open ones."""
    closed = []
    free = 0
    for first, last in sorted([(first, last) for number, first, last in ports if number == protocol]):
        if first > free:
            closed.append((free, first - 1))
        free = max(free, last + 1)
    if free <= packet_filter.LAST_PORT:
        closed.append((free, packet_filter.LAST_PORT))
    return closed


def _to_ports(protocol: int, first: int, last: int) -> str:
    """Return the match on the port that a connection was opened to.

    One protocol at a time and no set of ports: nft 1.0.6 (Debian 12) knows the type of `proto-dst` only then, and
    crashes when it lists what it does not know.
    """
    match = "meta l4proto %d " % protocol
    if (first, last) == (0, packet_filter.LAST_PORT):
        return match
    return match + "ct original proto-dst %d%s " % (first, "" if first == last else "-%d" % last)


def _add_rule(lines: list, rule, digit: str, family: str, proto: str) -> None:
    """Write one rule for one family; it opens nothing where it has no source or no destination of that family."""
    sources = _of_family(rule.sources, digit)
    if not sources:
        return
    match = "meta nfproto %s " % proto
    if sources[0] not in ranges.EVERYTHING:
        match += "ct original %s saddr %s " % (family, _set_text(sources))
    with_ports = [number for number in rule.protocols if number in _PORT_PROTOCOLS]
    others = [
        number
        for number in rule.protocols
        if number not in _PORT_PROTOCOLS and number not in (packet_filter.ICMP, packet_filter.ICMPV6)
    ]
    reached = _of_family(rule.destinations(), digit)
    if reached:
        # Any rule between the two lets them ping, whatever its ports and protocols (wireguard.md section 6, step 3).
        echo = "icmp type { echo-request, echo-reply }" if digit == "4" else "icmpv6 type { echo-request, echo-reply }"
        _rule(lines, "opened", "%sct original %s daddr %s %s accept" % (match, family, _set_text(reached), echo))
    for opening in rule.openings:
        reached = _of_family(opening.destinations, digit)
        if not reached:
            continue
        to = match + "ct original %s daddr %s " % (family, _set_text(reached))
        for number in with_ports:
            _rule(lines, "opened", to + _to_ports(number, opening.first, opening.last) + "accept")
        if others and opening.is_all_ports():
            _rule(lines, "opened", to + "meta l4proto " + _numbers(others) + "accept")


def _numbers(numbers) -> str:
    return "{ " + ", ".join([str(number) for number in numbers]) + " } "


def _add_sources(lines: list, tunnel: str, elsewhere: str) -> None:
    """Write the chain that each packet passes first, WireGuard's own too: it asks for the interface once."""
    for digit, family, _kind, _proto in _FAMILIES:
        _rule(
            lines,
            "sources",
            "iifname %s %s saddr != @allowed%s counter name bad_source drop" % (tunnel, family, digit),
        )
    _rule(
        lines,
        "sources",
        "iifname %s meta mark set meta mark and 0x%x or 0x%x" % (tunnel, 0xFFFFFFFF ^ MARK_MASK, FROM_TUNNEL_MARK),
    )
    _rule(lines, "sources", "iifname %s accept" % elsewhere)
    for digit, family, _kind, _proto in _FAMILIES:
        for name in ("peers", "own"):
            _rule(lines, "sources", "%s saddr @%s%s counter name forged drop" % (family, name, digit))


def _add_marks(lines: list) -> None:
    keep = 0xFFFFFFFF ^ MARK_MASK
    _rule(
        lines,
        "restore_mark",
        "ct state established,related ct mark and 0x%x == 0x%x meta mark set meta mark and 0x%x or 0x%x"
        % (MARK_MASK, BYPASS_MARK, keep, BYPASS_MARK),
    )
    _rule(
        lines,
        "save_mark",
        "ct state new meta mark and 0x%x == 0x%x ct mark set ct mark and 0x%x or 0x%x"
        % (MARK_MASK, BYPASS_MARK, keep, BYPASS_MARK),
    )


def _add_filters(lines: list, tunnel: str, elsewhere: str, firewall, ports: tuple) -> None:
    related = "meta l4proto { icmp, icmpv6 } ct state related accept"
    closed = "counter name closed drop"
    _rule(lines, "input", "iifname %s jump from_tunnel_here" % tunnel)
    # Asked for once, as in sources: all that follows in this chain is about what came from elsewhere.
    _rule(lines, "input", "iifname %s accept" % elsewhere)
    for digit, family, _kind, _proto in _FAMILIES:
        _rule(lines, "input", "%s daddr @own%s counter name forged drop" % (family, digit))
    _add_routed_sources(lines, elsewhere, ports)
    _rule(lines, "from_tunnel_here", "ct direction reply ct state established accept")
    _rule(lines, "from_tunnel_here", related)
    for digit, family, _kind, _proto in _FAMILIES:
        _rule(lines, "from_tunnel_here", "%s daddr != @here%s %s" % (family, digit, closed))
    _rule(lines, "from_tunnel_here", "meta l4proto %d accept" % packet_filter.TSMP)
    _rule(lines, "from_tunnel_here", "ct direction original jump opened")
    _rule(lines, "from_tunnel_here", closed)

    _rule(lines, "forward", "iifname %s oifname %s %s" % (tunnel, tunnel, closed))
    _rule(lines, "forward", "iifname %s jump from_tunnel" % tunnel)
    _rule(lines, "forward", "oifname %s jump to_tunnel" % tunnel)
    for contained, proto in ((firewall.contain4, "ipv4"), (firewall.contain6, "ipv6")):
        if contained:
            _rule(lines, "forward", "meta nfproto %s counter name contained drop" % proto)
    _rule(lines, "from_tunnel", related)
    _rule(lines, "from_tunnel", "ct direction original jump opened")
    if firewall.callers:
        for digit, family, _kind, _proto in _FAMILIES:
            _rule(
                lines,
                "from_tunnel",
                "ct direction reply ct original %s saddr @callers%s ct original %s daddr @allowed%s accept"
                % (family, digit, family, digit),
            )
    _rule(lines, "from_tunnel", closed)
    _rule(lines, "to_tunnel", related)
    _rule(lines, "to_tunnel", "ct direction reply jump opened")
    for name, sources in firewall.callers:
        if is_interface_name(name):
            for digit, family, _kind, _proto in _FAMILIES:
                items = _of_family(sources, digit)
                if items:
                    _rule(
                        lines,
                        "to_tunnel",
                        'ct direction original iifname "%s" %s saddr %s %s daddr @allowed%s accept'
                        % (name, family, _set_text(items), family, digit),
                    )
    _rule(lines, "to_tunnel", "counter name unsolicited drop")


def _add_routed_sources(lines: list, elsewhere: str, ports: tuple) -> None:
    """Let nobody but the tunnel bring a source of another router's network: its answers would go into the tunnel.

    A peer's own UDP address may lie in such a network: what answers the daemon, or is for WireGuard, is no forgery.
    """
    _rule(lines, "routed_source", "ct state established,related return")
    if ports:
        _rule(lines, "routed_source", "udp dport %d return" % ports[0])
    _rule(lines, "routed_source", "counter name forged drop")
    for digit, family, _kind, _proto in _FAMILIES:
        _rule(lines, "input", "%s saddr @routed%s jump routed_source" % (family, digit))
        match = "iifname != %s %s saddr @routed%s " % (elsewhere, family, digit)
        # An error may come from any router on the way, also from a carrier's, whose addresses may be anything.
        _rule(lines, "forward", match + "meta l4proto != { icmp, icmpv6 } counter name forged drop")
        _rule(lines, "forward", match + "ct state != related counter name forged drop")


def _add_translation(lines: list, tunnel: str, firewall) -> None:
    for digit, family, _kind, _proto in _FAMILIES:
        _rule(lines, "publish", "iifname %s dnat %s to %s daddr map @published%s" % (tunnel, family, family, digit))
    for way in ("iifname", "oifname"):
        _rule(lines, "mss", "%s %s tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu" % (way, tunnel))
    if firewall.snat:
        for digit, family, _kind, _proto in _FAMILIES:
            kept = _of_family(firewall.snat_except, digit)
            if kept:
                _rule(lines, "hide_source", "%s daddr %s return" % (family, _set_text(kept)))
        _rule(
            lines,
            "hide_source",
            "oifname != %s meta mark and 0x%x == 0x%x masquerade" % (tunnel, MARK_MASK, FROM_TUNNEL_MARK),
        )


def _add_hold(lines: list, elsewhere: str, wireguard_port: int, held_port: int) -> None:
    """Turn WireGuard's four kinds of packet away from it where they come from a held endpoint.

    In input and after all filters, not in prerouting: what is only forwarded is never touched, translations are
    undone already, and a firewall that lets in what belongs to a known connection does so. Which
    socket gets a packet is looked up after. Nobody sends to the held port itself: no firewall was asked about it.
    Each packet of WireGuard's comes by here: what nearly all fail, to come from a held endpoint, is asked for early.
    Port and checksum are named by their places: `udp dport set` of libnftables 1.1 has the kernel mend the checksum as
    for an address, which breaks it once connection tracking has looked at it. None (0) will do: WireGuard has its own.
    """
    _rule(lines, "hold", "udp dport %d drop" % held_port)
    for digit, family, _kind, proto in _FAMILIES:
        _rule(
            lines,
            "hold",
            "meta nfproto %s udp dport %d %s saddr . udp sport @held%s iifname != %s "
            "@th,64,32 { 0x01000000, 0x02000000, 0x03000000, 0x04000000 } @th,16,16 set %d @th,48,16 set 0"
            % (proto, wireguard_port, family, digit, elsewhere, held_port),
        )


def fast_path(interface: str, devices: list) -> str:
    """Return the batch that lets known connections of the tunnel pass without asking any chain, until no_fast_path().

    devices: names of the interfaces that packets come in by, the tunnel's not among them. A flowtable knows a
    connection by its interface, addresses and ports, so what it lets pass is what the chains have let pass. Its entries
    don't see the rules again: whoever changes these takes it away first.
    Source: Linux, Documentation/networking/nf_flowtable.rst.
    """
    names = ", ".join(['"%s"' % name for name in [interface] + devices])
    lines = ["add flowtable %s fast { hook ingress priority 0; devices = { %s }; }" % (TABLE, names)]
    for way in ("iifname", "oifname"):
        _rule(lines, "fast", '%s "%s" ct state established meta l4proto { 6, 17 } flow add @fast' % (way, interface))
    return "\n".join(lines) + "\n"


def no_fast_path() -> str:
    """Return the batch that takes the fast path away, so that all meet the rules again. Refused where there is none."""
    return "flush chain %s fast\ndelete flowtable %s fast\n" % (TABLE, TABLE)


def held_changes(added, removed) -> str:
    """Return the batch that adds and removes endpoints, (ip, port) each, of the sets of held ones."""
    lines: list = []
    for verb, endpoints in (("delete", removed), ("add", added)):
        for digit, size in (("4", 4), ("6", 16)):
            texts = ["%s . %d" % (ip_text(ip), port) for ip, port in endpoints if len(ip) == size]
            if texts:
                lines.append("%s element %s held%s { %s }" % (verb, TABLE, digit, ", ".join(texts)))
    return "".join([line + "\n" for line in lines])


def held_elements(endpoints) -> str:
    """Return the batch that makes these the held ones, whatever was before."""
    return "flush set %s held4\nflush set %s held6\n" % (TABLE, TABLE) + held_changes(endpoints, ())
