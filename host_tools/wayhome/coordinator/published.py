"""Published devices: how ports are written, and what the router is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import RegistryError
from .model import Ports, Published

CAPABILITY = "wayhome:published"
PUBLISHED_PER_NODE_MAX = 256
PORTS_MAX = 32
_PORTS = re.compile(r"(tcp|udp):([0-9]{1,5})(?:-([0-9]{1,5}))?")


def ports_from(texts: Sequence[str]) -> tuple[Ports, ...]:
    """Read "tcp:80", "udp:5000-5010". Raises RegistryError."""
    if len(texts) > PORTS_MAX:
        raise RegistryError(f"at most {PORTS_MAX} port ranges fit one device; leave them out to publish all its ports")
    ports = []
    for text in texts:
        match = _PORTS.fullmatch(text.strip().lower())
        first, last = (int(match[2]), int(match[3] or match[2])) if match else (0, 0)
        if match is None or not 1 <= first <= last <= 0xFFFF:
            raise RegistryError(f'"{text[:40]}" names no ports; write tcp:80 or udp:5000-5010')
        ports.append(Ports(match[1], first, last))
    return tuple(dict.fromkeys(ports))


def capability(devices: Iterable[Published]) -> list[dict[str, Any]]:
    """The router's mapping, as its own node's capability map carries it (control.md, appendix)."""
    entries = []
    for device in devices:
        entry: dict[str, Any] = {
            "Name": device.name,
            "Address4": str(device.ipv4),
            "Target4": str(device.target4),
        }
        if device.target6 is not None:
            entry["Address6"] = str(device.ipv6)
            entry["Target6"] = str(device.target6)
        if device.ports:
            entry["Ports"] = [str(ports) for ports in device.ports]
        entries.append(entry)
    return entries
