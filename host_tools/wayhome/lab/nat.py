"""NATs by name, and each as an nftables ruleset (pure: text in, text out).

The names of mapping and filtering are RFC 4787's, section 4.1 and section 5:

    mapping    which outside port a flow gets. endpoint-independent: one per inside address and port, whoever is
               talked to. address-and-port-dependent: another one for every destination.
    filtering  who may answer through it. endpoint-independent: anybody. address-dependent: any port of an
               address that was talked to. address-and-port-dependent: only the very endpoint.

How Linux does it, as measured by nat_probe.py (kernel 6.18, nftables 1.0.6):
`masquerade` alone keeps the inside port where it is free and uses one mapping for all destinations; its filtering is
address-and-port-dependent, because an answer must match a conntrack entry. The two wider filterings add a map that the
packets themselves fill: behind source NAT every outgoing datagram writes "outside port -> inside endpoint", and a new
datagram from outside is sent by that map. `masquerade fully-random` draws a new port for every conntrack entry.
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

    PRESERVED = "preserved"
    HASHED = "hashed"  # fixed for an inside address and port, but another number
    RANDOM = "random"


@dataclass(frozen=True)
class NatKind:
    name: str
    mapping: Behaviour
    filtering: Behaviour
    ports: Ports
    title: str


_INDEPENDENT = Behaviour.ENDPOINT_INDEPENDENT
_BY_ADDRESS = Behaviour.ADDRESS_DEPENDENT
_BY_ENDPOINT = Behaviour.ADDRESS_AND_PORT_DEPENDENT

KINDS = {
    kind.name: kind
    for kind in (
        NatKind("full-cone", _INDEPENDENT, _INDEPENDENT, Ports.PRESERVED, "anybody may answer (full cone)"),
        NatKind("address-restricted", _INDEPENDENT, _BY_ADDRESS, Ports.PRESERVED, "known addresses may answer"),
        NatKind("port-restricted", _INDEPENDENT, _BY_ENDPOINT, Ports.PRESERVED, "a Linux home router"),
        NatKind("symmetric", _BY_ENDPOINT, _BY_ENDPOINT, Ports.RANDOM, "a new random port for every destination"),
        # RFC 6888 asks a carrier for endpoint-independent mapping, and customers' ports cannot all be kept.
        NatKind("carrier", _INDEPENDENT, _BY_ENDPOINT, Ports.HASHED, "a carrier's NAT (CGNAT): own port numbers"),
        NatKind("carrier-open", _INDEPENDENT, _INDEPENDENT, Ports.HASHED, "a carrier's NAT that lets anybody answer"),
    )
}

# Where hashed ports begin, and how many there are. Below them lie the ports that people give to services.
_HASHED_FIRST = 20_000
_HASHED_COUNT = 40_000
# Inside endpoints a NAT remembers at once; far more than a lab's hosts open.
_TABLE_SIZE = 65_535


def ruleset(
    kind: NatKind | None, *, uplink: str, udp_blocked: bool = False, hairpin: bool = False, udp_timeout_s: int = 120
) -> str:
    """Return the nftables text of a router: its NAT (none if kind is None), and its firewall.

    uplink is the interface that leads out. As at homes, whatever comes from there uninvited is dropped, for the hosts
    behind and for the router itself. (It must be: an uninvited datagram that the router answered would leave a
    conntrack entry, and the inside host's own first datagram to that endpoint would then get another outside port.)
    """
    parts = ["table inet lab {", _COUNTERS, _switches(udp_blocked)]
    if kind is not None:
        parts.append(_nat_chains(kind, uplink, hairpin, udp_timeout_s))
    parts.append(_FIREWALL.format(uplink=uplink))
    parts.append("}")
    return "\n".join(parts) + "\n"


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
    iifname "{uplink}" meta l4proto ipv6-icmp icmpv6 type {{ echo-request }} counter name forwarded_in accept
    iifname "{uplink}" counter name refused_in drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{uplink}" ct state established,related accept
    iifname "{uplink}" meta l4proto {{ icmp, ipv6-icmp }} accept
    iifname "{uplink}" counter name refused_in drop
  }}"""


def _switches(udp_blocked: bool) -> str:
    """Return the chain that block_udp and unblock_udp of a running lab rewrite."""
    return "  chain switches {\n" + "".join(f"    {rule}\n" for rule in switch_rules(udp_blocked)) + "  }"


def switch_rules(udp_blocked: bool) -> list[str]:
    """Return the rules of the chain `switches`: what is forwarded at the moment."""
    return ["meta l4proto udp counter name blocked_udp drop"] if udp_blocked else []


def switch_text(udp_blocked: bool) -> str:
    """Return the nftables batch that brings a running router's switches to this state."""
    rules = "".join(f"add rule inet lab switches {rule}\n" for rule in switch_rules(udp_blocked))
    return "flush chain inet lab switches\n" + rules


def _nat_chains(kind: NatKind, uplink: str, hairpin: bool, udp_timeout_s: int) -> str:
    open_to_more = kind.filtering is not Behaviour.ADDRESS_AND_PORT_DEPENDENT
    lines = []
    if open_to_more or hairpin:
        lines += [
            "  map mappings {",
            "    type inet_service : ipv4_addr . inet_service",
            f"    flags dynamic,timeout; timeout {udp_timeout_s}s; size {_TABLE_SIZE};",
            "  }",
        ]
    if kind.filtering is Behaviour.ADDRESS_DEPENDENT:
        lines += [
            "  set talked_to {",
            "    type inet_service . ipv4_addr",
            f"    flags dynamic,timeout; timeout {udp_timeout_s}s; size {_TABLE_SIZE};",
            "  }",
        ]
    lines += ["  chain prerouting {", "    type nat hook prerouting priority dstnat;"]
    if open_to_more:
        known = "udp dport . ip saddr @talked_to " if kind.filtering is Behaviour.ADDRESS_DEPENDENT else ""
        lines.append(f'    iifname "{uplink}" meta nfproto ipv4 {known}dnat ip to udp dport map @mappings')
    if hairpin:
        lines.append(
            f'    iifname != "{uplink}" meta nfproto ipv4 fib daddr type local dnat ip to udp dport map @mappings'
        )
    lines += ["  }", "  chain postrouting {", "    type nat hook postrouting priority srcnat;"]
    # The hash takes the place of a table: the same inside endpoint always gets the same outside port.
    hashed = f"to :jhash ip saddr . th sport mod {_HASHED_COUNT} offset {_HASHED_FIRST}"
    wanted = {Ports.PRESERVED: "", Ports.HASHED: hashed, Ports.RANDOM: "fully-random"}[kind.ports]
    lines.append(f'    oifname "{uplink}" meta nfproto ipv4 meta l4proto {{ tcp, udp }} masquerade {wanted}'.rstrip())
    lines.append(f'    oifname "{uplink}" meta nfproto ipv4 masquerade')
    lines += ["  }"]
    if open_to_more or hairpin:
        # Priority 200 is behind source NAT (100): conntrack knows the outside port by now.
        lines += [
            "  chain learn {",
            "    type filter hook postrouting priority 200;",
            f'    oifname != "{uplink}" return',
            "    meta nfproto != ipv4 return",
            "    meta l4proto != udp return",
            "    ct direction original update @mappings"
            " { ct reply proto-dst : ct original ip saddr . ct original proto-src }",
        ]
        if kind.filtering is Behaviour.ADDRESS_DEPENDENT:
            lines.append("    ct direction original update @talked_to { ct reply proto-dst . ip daddr }")
        lines.append("  }")
    return "\n".join(lines)
