"""From a plan to the texts that build it: batches for ip, rules for nft, files for /etc (pure).

All Ethernet segments live in one namespace of their own, the *switch*: a bridge for each LAN, and a port for each
link. A host's end of a link carries the name that the plan gives it, and is made inside the host's namespace at once,
so no interface ever shows elsewhere and equal names do not meet.

A link with a shape is cut in two in the switch, and a shaper process carries the frames across the gap:

    host eth0 ==veth== p7   shaper   q7 ==veth== b7 --- bridge
    host eth0 ==veth== p8 --------------------------- bridge      (a link without a shape)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from . import nat
from .plan import Host, Lan, Link, Plan

# Reverse path filtering as systemd sets it on most distributions: loose.
_HOST_SYSCTLS = {
    "net/ipv4/conf/all/rp_filter": "2",
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    # Duplicate address detection would hold every IPv6 address back for a second; nobody else is on these wires.
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_dad": "0",
}
# A switch has no addresses: without this its ports would announce link-local ones into every LAN.
SWITCH_SYSCTLS = {"net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1"}


@dataclass(frozen=True)
class Port:
    """One link's place in the switch."""

    host: str
    link: Link
    host_side: str  # the interface in the switch whose other end is the host's
    bridge_side: str  # the bridge's port; another one than host_side if the link is shaped
    shaper_side: str | None  # the other end of bridge_side, None if the link has no shape

    @property
    def shaped(self) -> bool:
        return self.shaper_side is not None


def ports(plan: Plan) -> list[Port]:
    """Return every link of the plan with the names of its ends in the switch."""
    found = []
    links = ((host.name, link) for host in plan.hosts.values() for link in host.links)
    for number, (host, link) in enumerate(links, 1):
        if link.up is None and link.down is None:
            found.append(Port(host, link, f"p{number}", f"p{number}", None))
        else:
            found.append(Port(host, link, f"p{number}", f"b{number}", f"q{number}"))
    return found


def switch_script(plan: Plan, namespace_of: Callable[[str], str]) -> str:
    """Return the shell text that makes all bridges and links; to be run inside the switch's network namespace.

    namespace_of(host name) is the path by which `ip` finds a host's network namespace.
    """
    lines = []
    for lan in plan.lans.values():
        lines.append(f"link add name {bridge(lan.name)} type bridge forward_delay 0 mcast_snooping 0")
        lines.append(f"link set dev {bridge(lan.name)} up")
    for port in ports(plan):
        lines.append(
            f"link add name {port.host_side} type veth peer name {port.link.interface} netns {namespace_of(port.host)}"
        )
        if port.shaped:
            lines.append(f"link add name {port.bridge_side} type veth peer name {port.shaper_side}")
            lines.append(f"link set dev {port.shaper_side} up")
            lines.append(f"link set dev {port.host_side} up")
        lines.append(f"link set dev {port.bridge_side} master {bridge(port.link.lan)} up")
    return _batch(lines)


def host_script(plan: Plan, host: Host) -> str:
    """Return the shell text that sets up one host; to be run inside its namespaces once the links are there."""
    lines = ["link set dev lo up"]
    for link in host.links:
        lan = plan.lans[link.lan]
        for address in link.addresses:
            lines.append(f"address add {address}/{prefix_length(lan, address)} dev {link.interface}{_nodad(address)}")
        lines.append(f"link set dev {link.interface} up")
    lines += [f"route add {route}" for route in routes(plan, host)]
    text = _batch(lines)
    text += "".join(wait_for_link_text(link.interface) for link in host.links)
    if host.nat is not None or host.forwards:
        uplink = plan.uplink(host)
        assert uplink is not None or host.nat is None, "checked when the plan was read"
        if uplink is not None:
            text += f"nft -f - <<'END'\n{router_rules(host, uplink)}END\n"
        # These exist only once connection tracking is loaded, which the rules above have seen to.
        settings = {"nf_conntrack_acct": 1}
        if host.nat is not None:
            settings["nf_conntrack_udp_timeout_stream"] = host.nat.udp_timeout_s
            settings["nf_conntrack_udp_timeout"] = min(30, host.nat.udp_timeout_s)
        if uplink is not None:
            for name, value in settings.items():
                text += f"echo {value} > /proc/sys/net/netfilter/{name}\n"
    return text


def wait_for_link_text(interface: str) -> str:
    """Return the shell text that waits until an interface has a carrier and sends.

    The kernel notices the other end's coming up a moment later, in a work queue; until then it drops what is sent.
    """
    return f"until ip link show dev {interface} | grep -q 'qdisc noqueue .*state UP'; do sleep 0.005; done\n"


def idle_ports(links: list[dict[str, Any]]) -> list[str]:
    """Return which of the switch's interfaces do not carry frames yet, from `ip -json -details link`."""
    idle = []
    for link in links:
        info = link.get("linkinfo", {})
        # A bridge itself may take a second to be told so; its ports do not wait for it.
        if link["ifname"] == "lo" or info.get("info_kind") == "bridge":
            continue
        is_blocked = info.get("info_slave_kind") == "bridge" and info["info_slave_data"]["state"] != "forwarding"
        if link["operstate"] != "UP" or link["qdisc"] == "noop" or is_blocked:
            idle.append(link["ifname"])
    return idle


def move_script(before: Plan, after: Plan, host_name: str, interface: str) -> str:
    """Return the shell text that replaces an interface's addresses by those that `after` has, and keeps its routes.

    Addresses of a family that stays as it was are left alone.
    """
    host = after.host(host_name)
    old, new = before.host(host_name).link(interface), host.link(interface)
    lan = after.lans[new.lan]
    lines = []
    for gone, come in ((old.ipv4, new.ipv4), (old.ipv6, new.ipv6)):
        if gone == come:
            continue
        # All go and come again: the kernel drops a subnet's later addresses with its first one.
        lines += [f"address del {address}/{prefix_length(lan, address)} dev {interface}" for address in gone]
        lines += [
            f"address add {address}/{prefix_length(lan, address)} dev {interface}{_nodad(address)}" for address in come
        ]
    lines += [f"route replace {route}" for route in routes(after, host)]
    return _batch(lines)


def reroute_script(before: Plan, after: Plan, host_name: str) -> str:
    """Return the shell text that leads a host's routes to where a router next to it is now, "" if none has moved."""
    old = routes(before, before.host(host_name))
    lines = [f"route replace {route}" for route in routes(after, after.host(host_name)) if route not in old]
    return _batch(lines) if lines else ""


def router_rules(host: Host, uplink: Link) -> str:
    """Return a router's nftables text."""
    if host.nat is None:
        return nat.ruleset(None, uplink=uplink.interface)
    return nat.ruleset(
        host.nat.kind,
        uplink=uplink.interface,
        udp_blocked=host.nat.udp_blocked,
        hairpin=host.nat.hairpin,
        udp_timeout_s=host.nat.udp_timeout_s,
    )


def sysctls(host: Host) -> dict[str, str]:
    """Return what to write below /proc/sys before a host has interfaces."""
    wanted = dict(_HOST_SYSCTLS)
    if host.forwards:
        wanted["net/ipv4/ip_forward"] = "1"
        wanted["net/ipv6/conf/all/forwarding"] = "1"
    return wanted


def hosts_file(plan: Plan, host: Host) -> str:
    """Return /etc/hosts: the host itself, and every public name of the plan."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"127.0.1.1 {host.name}"]
    for other in plan.hosts.values():
        if not other.names:
            continue
        for addresses in (other.links[0].ipv4, other.links[0].ipv6):
            # the first of a family only: a second address of the same host is for services that ask for it by number
            if addresses:
                lines.append(f"{addresses[0]} {' '.join(other.names)}")
    return "\n".join(lines) + "\n"


def routes(plan: Plan, host: Host) -> list[str]:
    """Return a host's routes in ip's words: its default gateways, and what lies behind the routers next to it.

    IPv4 prefixes behind a NAT are nobody's business outside of it; IPv6 is routed everywhere.
    """
    lines = []
    uplink = plan.uplink(host)
    if uplink is not None:
        for address in gateway_addresses(plan, host):
            lines.append(f"default via {address} dev {uplink.interface}")
    for link in host.links:
        lan = plan.lans[link.lan]
        if lan.gateway not in (None, host.name):
            continue  # the gateway of that LAN knows the rest
        for router in _routers_on(plan, lan, besides=host):
            for family in (4, 6):
                via = _first(_link_on(router, lan), family)
                if via is not None and _first(link, family) is not None:
                    lines += [f"{prefix} via {via} dev {link.interface}" for prefix in _behind(plan, router, family)]
    return lines


def gateway_addresses(plan: Plan, host: Host) -> list[IPv4Address | IPv6Address]:
    """Return the addresses (one of each family that both sides have) of a host's default gateway."""
    uplink = plan.uplink(host)
    lan = plan.lans[uplink.lan] if uplink is not None else None
    if uplink is None or lan is None or lan.gateway is None:
        return []
    gateway_link = _link_on(plan.hosts[lan.gateway], lan)
    found = []
    for family in (4, 6):
        address = _first(gateway_link, family)
        if address is not None and _first(uplink, family) is not None:
            found.append(address)
    return found


def _behind(plan: Plan, router: Host, family: int) -> Iterator[IPv4Network | IPv6Network]:
    """Yield the prefixes that are reached through a router by others of its uplink's LAN."""
    if family == 4 and router.nat is not None:
        return
    for link in router.links:
        lan = plan.lans[link.lan]
        if lan.gateway != router.name:
            continue
        prefix = lan.ipv4 if family == 4 else lan.ipv6
        if prefix is not None:
            yield prefix
        for inner in _routers_on(plan, lan, besides=router):
            yield from _behind(plan, inner, family)


def _routers_on(plan: Plan, lan: Lan, besides: Host) -> Iterator[Host]:
    """Yield the other routers whose uplink is on this LAN."""
    for host in plan.hosts.values():
        uplink = plan.uplink(host)
        if host.forwards and host is not besides and uplink is not None and uplink.lan == lan.name:
            yield host


def _link_on(host: Host, lan: Lan) -> Link:
    return next(link for link in host.links if link.lan == lan.name)


def _first(link: Link, family: int) -> IPv4Address | IPv6Address | None:
    addresses: tuple[IPv4Address | IPv6Address, ...] = link.ipv4 if family == 4 else link.ipv6
    return addresses[0] if addresses else None


def prefix_length(lan: Lan, address: IPv4Address | IPv6Address) -> int:
    network = lan.ipv4 if address.version == 4 else lan.ipv6
    assert network is not None, "checked when the plan was read"
    return network.prefixlen


def _nodad(address: IPv4Address | IPv6Address) -> str:
    return " nodad" if address.version == 6 else ""


def bridge(lan: str) -> str:
    """Return a LAN's bridge. Its name is the LAN's: ports are p, q, b and digits, which a LAN could be called too."""
    return lan if not (lan[0] in "pqb" and lan[1:].isdigit()) else f"lan-{lan}"[:15]


def _batch(lines: list[str]) -> str:
    return "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"
