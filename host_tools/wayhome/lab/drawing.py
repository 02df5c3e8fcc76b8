"""A plan as a picture for the terminal: the public side at the top, what lies behind each router below it."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from .plan import Host, Lan, Plan, Shape


def picture(plan: Plan) -> RenderableType:
    """Return a tree with a branch for each LAN and host; a router's branch holds the LANs behind it."""
    parts: list[RenderableType] = [Text.assemble((plan.name, "bold"), f"  {plan.title}")]
    for lan in plan.lans.values():
        # A LAN stands below its gateway, which stands where its uplink is; one that leads nowhere begins a tree.
        if lan.gateway is None or plan.uplink(plan.host(lan.gateway)) is None:
            parts.append(_lan_tree(plan, lan))
    return Group(*parts)


def _lan_tree(plan: Plan, lan: Lan) -> Tree:
    ranges = "  ".join(str(network) for network in (lan.ipv4, lan.ipv6) if network is not None)
    tree = Tree(Text.assemble((lan.name, "bold cyan"), "  ", (ranges, "cyan")))
    for host in plan.hosts.values():
        for link in host.links:
            uplink = plan.uplink(host)
            if link.lan != lan.name or (lan.gateway == host.name and uplink is not None):
                continue
            branch = tree.add(_host_text(plan, host, link.interface))
            for inner in plan.lans.values():
                if inner.gateway == host.name and link == uplink:
                    branch.add(_lan_tree(plan, inner))
    return tree


def _host_text(plan: Plan, host: Host, interface: str) -> Text:
    link = host.link(interface)
    text = Text.assemble((host.name, "bold"), "  ", " ".join(str(address) for address in link.addresses))
    if host.names:
        text.append(f"  {' '.join(host.names)}", "green")
    if host.web is not None:
        text.append(f"  web :{host.web}", "green")
    if host.nat is not None:
        text.append(f"  NAT {host.nat.kind.name}: {host.nat.kind.title}", "yellow")
        if host.nat.hairpin:
            text.append(", hairpin", "yellow")
        if host.nat.udp_blocked:
            text.append(", UDP blocked", "red")
    elif host.forwards:
        text.append("  router", "yellow")
    for arrow, shape in (("up", link.up), ("down", link.down)):
        if shape is not None:
            text.append(f"  {arrow} {_shape_words(shape)}", "magenta")
    return text


def _shape_words(shape: Shape) -> str:
    words = []
    if shape.rate_mbit is not None:
        words.append(f"{shape.rate_mbit:g} Mbit/s")
    if shape.delay_ms or shape.jitter_ms:
        words.append(f"{shape.delay_ms:g}{f'-{shape.delay_ms + shape.jitter_ms:g}' if shape.jitter_ms else ''} ms")
    if shape.loss:
        words.append(f"{shape.loss:.2%} lost")
    return " ".join(words) or "unshaped"


def as_data(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON-ready data."""
    return {
        "name": plan.name,
        "title": plan.title,
        "lans": [
            {
                "name": lan.name,
                "ipv4": str(lan.ipv4) if lan.ipv4 else None,
                "ipv6": str(lan.ipv6) if lan.ipv6 else None,
                "gateway": lan.gateway,
            }
            for lan in plan.lans.values()
        ],
        "hosts": [_host_data(host) for host in plan.hosts.values()],
    }


def _host_data(host: Host) -> dict[str, Any]:
    nat = None
    if host.nat is not None:
        nat = {
            "kind": host.nat.kind.name,
            "mapping": host.nat.kind.mapping.value,
            "filtering": host.nat.kind.filtering.value,
            "ports": host.nat.kind.ports.value,
            "hairpin": host.nat.hairpin,
            "udp_blocked": host.nat.udp_blocked,
        }
    return {
        "name": host.name,
        "names": list(host.names),
        "forwards": host.forwards,
        "web": host.web,
        "nat": nat,
        "links": [
            {
                "interface": link.interface,
                "lan": link.lan,
                "addresses": [str(address) for address in link.addresses],
                "up": _shape_data(link.up),
                "down": _shape_data(link.down),
            }
            for link in host.links
        ],
    }


def _shape_data(shape: Shape | None) -> dict[str, float | None] | None:
    if shape is None:
        return None
    return {
        "rate_mbit": shape.rate_mbit,
        "delay_ms": shape.delay_ms,
        "jitter_ms": shape.jitter_ms,
        "loss": shape.loss,
        "queue_ms": shape.queue_ms,
    }
