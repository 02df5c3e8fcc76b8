"""What a client reports of itself, checked and taken into its node. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from . import hostinfo, names
from .errors import BadUpdate
from .model import ZERO_KEY, Device, Node


def check_keys(device: Device) -> None:
    """Raises BadUpdate."""
    for key in (device.machine_key, device.node_key):
        if len(key) != 32 or key == ZERO_KEY:
            raise BadUpdate("a device registers with a machine key and a node key of 32 bytes that are not all zero")


def with_hostinfo(node: Node, reported: Mapping[str, Any], taken: Set[str]) -> Node:
    """The node with a newly reported Hostinfo and all that follows from it; `taken` are the names in use."""
    kept = hostinfo.checked(reported, node.hostinfo)
    facts = hostinfo.facts(kept)
    node = replace(
        node,
        hostinfo=kept,
        advertised=facts.advertised,
        # 0 says that it found no relay just now; where it was last is still the best guess.
        home_derp=facts.home_derp or node.home_derp,
    )
    if node.name and (not facts.hostname or facts.hostname == node.hostname):
        return node
    wanted = names.label_from(facts.hostname)
    # A host name that asks for the same label as before keeps the one it got, "-1" or not: names are to be stable.
    if not node.name or (not node.name_pinned and wanted != names.label_from(node.hostname)):
        node = replace(node, name=names.unique_label(wanted, taken - {node.name}))
    return replace(node, hostname=facts.hostname)


def with_endpoints(node: Node, endpoints: Sequence[str], types: Sequence[int], mesh: Set[IPv4Address]) -> Node:
    """The node with newly reported endpoints; `mesh` are the mesh's addresses in use, which are nobody's outside."""
    kept, kept_types = hostinfo.checked_endpoints(endpoints, types, mesh)
    return replace(node, endpoints=kept, endpoint_types=kept_types)
