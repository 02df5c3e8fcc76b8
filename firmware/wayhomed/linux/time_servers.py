"""Which time servers this network offers by itself: those that DHCP named, and the routers."""

import os

from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from . import netlink, routes
from .errors import DataPlaneError

# (folder, what stands before the servers' addresses in a lease, what ends them): systemd-networkd, dhclient
_LEASES = (
    ("/run/systemd/netif/leases", "\nNTP=", "\n"),
    ("/var/lib/dhcp", "option ntp-servers ", ";"),
)
_MOST_BYTES = 65_536
_LINK_LOCAL = b"\xfe\x80"


def offered() -> list:
    """Return their addresses (4 or 16 bytes), those that DHCP named first. Never fails: there may be none."""
    found = []
    for folder, before, end in _LEASES:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            found += servers_from_lease(_read(folder + "/" + name), before, end)
    for ip in _gateways():
        if ip not in found:
            found.append(ip)
    return found


def servers_from_lease(text: str, before: str, end: str) -> list:
    """Return the addresses that a lease file names, separated by spaces or commas; names of hosts are passed over."""
    found = []
    for part in ("\n" + text).split(before)[1:]:
        for word in part.split(end)[0].replace(",", " ").split():
            try:
                ip = address.ip_from_text(word)
            except BadWire:
                continue
            if ip not in found:
                found.append(ip)
    return found


def _gateways() -> list:
    """Return the routers of the default routes. One that has a link-local address alone can't be asked so simply."""
    try:
        kernel = netlink.Netlink()
    except OSError:
        return []
    try:
        return [
            found.gateway
            for found in routes.routes(kernel)
            if found.table == routes.MAIN and not found.prefix[1] and found.gateway and found.gateway[:2] != _LINK_LOCAL
        ]
    except (OSError, DataPlaneError):
        return []
    finally:
        kernel.close()


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError):  # ValueError: not UTF-8
        return ""
