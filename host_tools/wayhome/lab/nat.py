"""NATs by name, and each as an nftables ruleset (pure: settings in, text out).

The names of mapping and filtering are RFC 4787's, sections 4.1 and 5:

    mapping    which outside port a flow gets. endpoint-independent: one for an inside address and port, whoever is
               talked to. address-and-port-dependent: another one for every destination.
    filtering  who may answer through it. endpoint-independent: anybody. address-dependent: any port of an
               address that was talked to. address-and-port-dependent: only the very endpoint.

How it is done (each kind is measured by nat_probe.py before a test trusts it):

- Linux's plain `masquerade` keeps the inside port where it can, and uses it for all destinations until two inside hosts
  use the same port; its filtering is address-and-port-dependent, because an answer has to match a conntrack entry.
  That is the kind `linux`, and what most home routers do.
- The endpoint-independent kinds keep a table that the packets themselves fill. Behind source NAT every outgoing
  datagram writes (or keeps alive) "inside endpoint -> outside port" and "outside port -> inside endpoint"; a new flow
  looks its port up there, and an uninvited datagram its inside endpoint, if the filtering lets it.
- `masquerade fully-random` draws a new port for every conntrack entry.
"""

from dataclasses import dataclass
from enum import Enum


class Behaviour(Enum):
    """What a mapping or a filtering looks at on the other side (RFC 4787 sections 4.1 and 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Ports(Enum):
    """How the outside port follows from the inside one (RFC 4787 section 4.2)."""

    PRESERVED = "preserved"  # the same number, unless another inside host has it already
    ASSIGNED = "assigned"  # another number, the same as long as the mapping lives
    RANDOM = "random"


@dataclass(frozen=True)
class NatKind:
    name: str
    mapping: Behaviour
    filtering: Behaviour
    ports: Ports
    title: str
    remembers: bool = True  # keeps the tables described above; without them conntrack alone decides
    filters_ipv6: bool = True  # whether uninvited IPv6 stops here: at homes it does, at carriers it passes


_INDEPENDENT = Behaviour.ENDPOINT_INDEPENDENT
_BY_ADDRESS = Behaviour.ADDRESS_DEPENDENT
_BY_ENDPOINT = Behaviour.ADDRESS_AND_PORT_DEPENDENT

KINDS = {
    kind.name: kind
    for kind in (
        NatKind("linux", _INDEPENDENT, _BY_ENDPOINT, Ports.PRESERVED, "a Linux home router", remembers=False),
        NatKind("full-cone", _INDEPENDENT, _INDEPENDENT, Ports.PRESERVED, "anybody may answer"),
        NatKind("address-restricted", _INDEPENDENT, _BY_ADDRESS, Ports.PRESERVED, "known addresses may answer"),
        NatKind("port-restricted", _INDEPENDENT, _BY_ENDPOINT, Ports.PRESERVED, "known endpoints may answer"),
        NatKind("symmetric", _BY_ENDPOINT, _BY_ENDPOINT, Ports.RANDOM, "a new port a destination", remembers=False),
        # RFC 6888 REQ-1 asks a carrier for endpoint-independent mapping; with many customers no port can be kept.
        NatKind("carrier", _INDEPENDENT, _BY_ENDPOINT, Ports.ASSIGNED, "a carrier's NAT", filters_ipv6=False),
        NatKind(
            "carrier-open",
            _INDEPENDENT,
            _INDEPENDENT,
            Ports.ASSIGNED,
            "a carrier's NAT, anybody may answer",
            filters_ipv6=False,
        ),
    )
}

# Where assigned ports begin, and how many there are. Below them lie the ports that people give to services.
_ASSIGNED_FIRST = 20_000
_ASSIGNED_COUNT = 8192
# Inside endpoints that a NAT remembers at once; far more than a lab's hosts open.
_TABLE_SIZE = 65_535


def ruleset(
    kind: NatKind | None, *, uplink: str, udp_blocked: bool = False, hairpin: bool = False, udp_timeout_s: int = 120
) -> str:
    """Return the nftables text of a router: its NAT (none if kind is None), and its firewall.

    uplink is the interface that leads out. As at homes, whatever comes from there uninvited is dropped, for the hosts
    behind and for the router itself. (It must be: an uninvited datagram that the router answered would leave a
    conntrack entry, and the inside host's own first datagram to that endpoint would then get another outside port.)
    """
    parts = ["table inet lab {", _COUNTERS]
    parts.append("  chain switches {\n" + "".join(f"    {rule}\n" for rule in _switch_rules(udp_blocked)) + "  }")
    if kind is not None:
        parts.append(_nat_chains(kind, uplink, hairpin, udp_timeout_s))
    ipv6_verdict = "accept" if kind is not None and not kind.filters_ipv6 else "continue"
    parts.append(_FIREWALL.format(uplink=uplink, ipv6_verdict=ipv6_verdict))
    parts.append("}")
    return "\n".join(parts) + "\n"


def switch_text(udp_blocked: bool, to: str | None = None) -> str:
    """Return the nftables batch that blocks forwarded UDP on a running router (only to or from one address if given),
    or lets it pass again.
    """
    rules = "".join(f"add rule inet lab switches {rule}\n" for rule in _switch_rules(udp_blocked, to))
    return "flush chain inet lab switches\n" + rules


def forget_text(kind: NatKind | None) -> str:
    """Return the nftables batch that makes a running NAT forget its tables, as switching it off and on would."""
    names = [f"map inet lab {name}" for name in ("outside_port", "inside_of")] + ["set inet lab taken"]
    if kind is None or not kind.remembers:
        names = []
    elif kind.filtering is Behaviour.ADDRESS_DEPENDENT:
        names.append("set inet lab talked_to")
    return "".join(f"flush {name}\n" for name in names)


_COUNTERS = """\
  counter forwarded_out { }
  counter forwarded_in { }
  counter refused_in { }
  counter blocked_udp { }"""

_FIREWALL = """\
  chain forward {{
    type filter hook forward priority filter; policy accept;
    jump switches
    oifname "{uplink}" counter name forwarded_out accept
    iifname "{uplink}" ct state established,related counter name forwarded_in accept
    iifname "{uplink}" ct status dnat counter name forwarded_in accept
    # RFC 4890 section 4.3.1 and 4.3.2: errors are related already; homes may be pinged
    iifname "{uplink}" icmpv6 type echo-request counter name forwarded_in accept
    iifname "{uplink}" meta nfproto ipv6 {ipv6_verdict}
    iifname "{uplink}" counter name refused_in drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{uplink}" ct state established,related accept
    iifname "{uplink}" meta l4proto {{ 1, 58 }} accept
    iifname "{uplink}" counter name refused_in drop
  }}"""


def _switch_rules(udp_blocked: bool, to: str | None = None) -> list[str]:
    if not udp_blocked:
        return []
    verdict = "counter name blocked_udp drop"
    if to is None:
        return [f"meta l4proto udp {verdict}"]
    family = "ip6" if ":" in to else "ip"
    return [f"meta l4proto udp {family} {side} {to} {verdict}" for side in ("saddr", "daddr")]


# Spelled out in every rule: nft wants to see it beside each use of a port.
_UDP = "meta nfproto ipv4 meta l4proto udp"
# A new inside endpoint gets the next port, so that no two ever share one; `outside_port` then remembers it. The map
# turns the number, a mere integer, into a port: nft 1.1 wants the type, 1.0 takes either.
_ASSIGNED = (
    f"numgen inc mod {_ASSIGNED_COUNT} map "
    f"{{ {', '.join(f'{number} : {_ASSIGNED_FIRST + number}' for number in range(_ASSIGNED_COUNT))} }}"
)
# Ours, but not the address by which the LAN knows us: that one is for our own services.
_NOT_ITS_GATEWAY = "fib daddr type local fib daddr . iif type != local"


def _nat_chains(kind: NatKind, uplink: str, hairpin: bool, udp_timeout_s: int) -> str:
    dynamic = f"flags dynamic,timeout; timeout {udp_timeout_s}s; size {_TABLE_SIZE};"
    tables: list[str] = []
    inward: list[str] = []
    outward = [
        f'oifname "{uplink}" {_UDP} jump udp_out',
        f'oifname "{uplink}" meta nfproto ipv4 masquerade',
    ]
    learn: list[str] = []
    outgoing = f'oifname "{uplink}" {_UDP} ct direction original'
    if kind.remembers:
        tables += [
            f"map outside_port {{ type ipv4_addr . inet_service : inet_service; {dynamic} }}",
            f"map inside_of {{ type inet_service : ipv4_addr . inet_service; {dynamic} }}",
            f"set taken {{ type inet_service; {dynamic} }}",
        ]
        udp_out = [f"{_UDP} masquerade to :ip saddr . udp sport map @outside_port"]
        if kind.ports is Ports.PRESERVED:
            udp_out.append(f"{_UDP} udp sport != @taken masquerade to :udp sport")
        udp_out.append(f"{_UDP} masquerade to :{_ASSIGNED}")
        learn += [
            f"{outgoing} update @inside_of {{ ct reply proto-dst : ct original ip saddr . ct original proto-src }}",
            f"{outgoing} update @outside_port {{ ct original ip saddr . ct original proto-src : ct reply proto-dst }}",
            f"{outgoing} update @taken {{ ct reply proto-dst }}",
        ]
    elif kind.ports is Ports.RANDOM:
        udp_out = ["masquerade fully-random"]
    else:
        udp_out = ["masquerade"]
    if hairpin:
        # Addressed to our outside address, but from inside: there and back through both translations.
        inward.append(f'iifname != "{uplink}" {_UDP} {_NOT_ITS_GATEWAY} dnat ip to udp dport map @inside_of')
        outward.append(
            f'oifname != "{uplink}" {_UDP} ct status dnat'
            " snat ip to ct original ip daddr : ip saddr . udp sport map @outside_port"
        )
    from_outside = f'iifname "{uplink}" {_UDP}'
    if kind.filtering is Behaviour.ENDPOINT_INDEPENDENT:
        inward.append(f"{from_outside} dnat ip to udp dport map @inside_of")
    elif kind.filtering is Behaviour.ADDRESS_DEPENDENT:
        tables.append(f"set talked_to {{ type inet_service . ipv4_addr; {dynamic} }}")
        inward.append(f"{from_outside} udp dport . ip saddr @talked_to dnat ip to udp dport map @inside_of")
        learn.append(f"{outgoing} update @talked_to {{ ct reply proto-dst . ip daddr }}")
    chains = {
        "prerouting": ["type nat hook prerouting priority dstnat;", *inward],
        "udp_out": udp_out,
        "postrouting": ["type nat hook postrouting priority srcnat;", *outward],
    }
    if learn:
        # Priority 200 is behind source NAT (100): conntrack knows the outside port by now.
        chains["learn"] = ["type filter hook postrouting priority 200;", *learn]
    lines = [f"  {table}" for table in tables]
    for name, rules in chains.items():
        lines += [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]
    return "\n".join(lines)
