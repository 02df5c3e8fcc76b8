"""The default policy: who sees whom, what may be reached, and by which router. Pure functions of a World.

 * A person's own devices reach each other.
 * What a person's router leads to (approved routes, published devices) that person's devices reach.
 * What a tagged router leads to everybody's devices reach; nobody owns it.
 * A router's own services are closed; so is everything else.

Two nodes see each other if either may reach something at the other, since answers need the other's key too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .addresses import exact_cover
from .model import Node, Prefix, Published
from .routes import primary
from .world import World

_ALL_PORTS = {"First": 0, "Last": 65535}
# Fixed by the Internet: protocol numbers.
_PROTOCOL = {"tcp": 6, "udp": 17}


def peers_of(world: World, node_id: int) -> set[int]:
    """The nodes that see this one and are seen by it."""
    node = world.nodes[node_id]
    if node.user_id is not None:
        return (world.by_user[node.user_id] | world.tagged_routers) - {node_id}
    return set(world.owned) if node_id in world.tagged_routers else set()


def sees(world: World, viewer: Node, other: Node) -> bool:
    """Whether two nodes see each other; `other in peers_of(viewer)` without making the set."""
    if viewer.id == other.id:
        return False
    if viewer.user_id is not None and other.user_id is not None:
        return viewer.user_id == other.user_id
    if viewer.user_id is None and other.user_id is None:
        return False
    return (viewer.id if viewer.user_id is None else other.id) in world.tagged_routers


def may_use(viewer: Node, router: Node) -> bool:
    """Whether what `router` leads to is for `viewer`."""
    return viewer.user_id is not None and router.user_id in (viewer.user_id, None)


def routes_for(world: World, viewer: Node, router: Node) -> tuple[Prefix, ...]:
    """The prefixes that this viewer is to send to this router: each goes to exactly one router per viewer.

    A viewer that leads into a prefix itself gets it from nobody: its own LAN would be drawn away from it.
    """
    if viewer.id == router.id or not may_use(viewer, router):
        return ()
    return tuple(prefix for prefix in router.served if _elected(world, viewer, prefix) == router.id)


def primary_routes(world: World, node: Node) -> tuple[Prefix, ...]:
    """The prefixes for which this node is the one in use among the routers of its own owner (or of nobody's)."""
    return tuple(
        prefix
        for prefix in node.served
        if node.id
        == primary(
            (router for router in world.routers_of[prefix] if world.nodes[router].user_id == node.user_id),
            world.online,
            world.expired,
        )
    )


def published_for(world: World, viewer: Node, router: Node) -> Sequence[Published]:
    """The published devices of a router that this viewer may reach."""
    if router.id not in world.published_by or not may_use(viewer, router):
        return ()
    return world.published_of(router.id)


def published_names(world: World, viewer: Node) -> list[Published]:
    """All published devices whose names this viewer is told, in the order they were published."""
    if viewer.user_id is None:
        return []
    devices = (
        device
        for router_id, published in world.published_by.items()
        if may_use(viewer, world.nodes[router_id])
        for device in published.values()
    )
    return sorted(devices, key=lambda device: device.id)


def filter_rules(world: World, node: Node) -> list[dict[str, Any]]:
    """What may come in at this node, as FilterRules (control.md 8.3). Empty: nothing.

    The list of sources is one object for all nodes of an owner.
    """
    sources = _sources(world, node.user_id)
    if not sources:
        return []
    open_wholly: list[str] = []
    if node.user_id is not None and not world.is_router(node):
        open_wholly += [str(node.ipv4), str(node.ipv6)]
    open_wholly += [str(prefix) for prefix in node.served]
    by_port: dict[int, list[dict[str, Any]]] = {}
    for device in world.published_of(node.id):
        addresses = [str(device.ipv4)] + ([str(device.ipv6)] if device.target6 is not None else [])
        if not device.ports:
            open_wholly += addresses
        for ports in device.ports:
            by_port.setdefault(_PROTOCOL[ports.protocol], []).extend(
                {"IP": address, "Ports": {"First": ports.first, "Last": ports.last}} for address in addresses
            )
    rules: list[dict[str, Any]] = []
    if open_wholly:
        rules.append({"SrcIPs": sources, "DstPorts": [{"IP": text, "Ports": _ALL_PORTS} for text in open_wholly]})
    for protocol in sorted(by_port):
        rules.append({"SrcIPs": sources, "DstPorts": by_port[protocol], "IPProto": [protocol]})
    return rules


def _elected(world: World, viewer: Node, prefix: Prefix) -> int | None:
    routers = world.routers_of.get(prefix, set())
    if viewer.id in routers:
        return None
    return primary((router for router in routers if may_use(viewer, world.nodes[router])), world.online, world.expired)


def _sources(world: World, user_id: int | None) -> list[str]:
    """The addresses of a user's devices (None: of everybody's) whose keys are valid: who may open connections.

    As prefixes: with every address in every filter, a join would cost as many bytes as there are devices, squared.
    """
    key = ("sources", user_id)
    sources: list[str] | None = world.reach_memo.get(key)
    if sources is None:
        owned = world.owned if user_id is None else world.by_user[user_id]
        sources = exact_cover(world.nodes[node_id].ipv4 for node_id in owned - world.expired)
        world.reach_memo[key] = sources
    return sources
