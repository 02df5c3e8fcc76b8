"""What this machine has and needs (core.dataplane.Facts), read from the kernel and the system's files."""

import os

from wayhomed.core.dataplane import Facts
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from . import link, routes

_RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
# (folder, what stands before the server's address in a lease, what ends it): systemd-networkd, dhclient
_LEASES = (
    ("/run/systemd/netif/leases", "SERVER_ADDRESS=", "\n"),
    ("/var/lib/dhcp", "dhcp-server-identifier ", ";"),
)
_MOST_BYTES = 65_536


def gather(kernel, interface: str, remotes: list) -> Facts:
    """Return the Facts but for forwarding and time; `interface` is the tunnel's own, which is left out."""
    facts = Facts()
    tunnel = 0
    loopback = 0
    without_link = []
    names = {}
    for found in link.links(kernel):
        names[found.index] = found.name
        if not found.is_running:
            without_link.append(found.index)
        if found.name == interface:
            tunnel = found.index
        elif found.name == "lo":
            loopback = found.index
    by_interface: dict = {}
    for found in link.addresses(kernel):
        if found.index == tunnel or found.is_link_local:
            continue
        facts.own.append(found.ip)
        by_interface.setdefault((found.index, len(found.ip)), []).append(found.ip)
        if found.length < 8 * len(found.ip) and found.index != loopback:
            facts.connected.append(_network(found.ip, found.length))
    for found in routes.routes(kernel):
        if found.table == routes.MAIN and found.index != tunnel:
            if found.index in names:
                facts.ways.append((found.prefix, names[found.index]))
            if found.gateway and found.gateway not in facts.gateways:
                facts.gateways.append(found.gateway)
            # The kernel keeps the routes of an interface whose cable is out; nothing leads out by them.
            if not found.prefix[1] and found.index not in without_link:
                ips = by_interface.get((found.index, len(found.prefix[0])), [])
                facts.uplinks.append((found.index, found.gateway or b"", sorted(ips)))
    facts.uplinks.sort()
    facts.resolvers = resolvers_from_text("\n".join([_read(path) for path in _RESOLV_CONF])) + _dhcp_servers()
    facts.remotes = list(remotes)
    return facts


def resolvers_from_text(text: str) -> list:
    """Return the addresses that a resolv.conf names."""
    found = []
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            ip = _ip(words[1])
            if ip and ip not in found:
                found.append(ip)
    return found


def servers_from_lease(text: str, before: str, end: str) -> list:
    """Return the DHCP servers' addresses that a lease file names."""
    found = []
    for part in text.split(before)[1:]:
        ip = _ip(part.split(end)[0].strip())
        if ip:
            found.append(ip)
    return found


def _dhcp_servers() -> list:
    found = []
    for folder, before, end in _LEASES:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            found.extend(servers_from_lease(_read(folder + "/" + name), before, end))
    return found


def _ip(text: str):
    try:
        return address.ip_from_text(text.split("%")[0])
    except BadWire:
        return None


def _read(path: str) -> str:
    """Return the beginning of a file that may be missing or not for us to read."""
    try:
        with open(path) as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError):  # ValueError: not UTF-8
        return ""


def _network(ip: bytes, length: int) -> tuple:
    free = 8 * len(ip) - length
    return (int.from_bytes(ip, "big") >> free << free).to_bytes(len(ip), "big"), length
