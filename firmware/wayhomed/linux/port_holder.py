"""Which program has a port, as far as one may see that."""

import os

from wayhomed.port.ffi import libc

# Whose name alone makes it likely, where the kernel does not show us whose socket it is
_DNS_SERVERS = (
    "dnsmasq",
    "unbound",
    "named",
    "pihole-FTL",
    "AdGuardHome",
    "systemd-resolve",
    "coredns",
    "kresd",
    "knot",
)
_MOST_BYTES = 1_048_576
_LINK_BYTES = 64  # longer ones are no socket's


def holder(port: int) -> str:
    """Return "dnsmasq (process 123)" of the program that has this UDP or TCP port, "" if that can't be told."""
    inodes = set()
    for table in ("udp", "udp6", "tcp", "tcp6"):
        inodes.update(inodes_of_port(_read("/proc/net/" + table), port))
    processes = [name for name in _list("/proc") if name.isdigit()]
    for process in processes:
        for descriptor in _list("/proc/" + process + "/fd"):
            if _link("/proc/" + process + "/fd/" + descriptor) in inodes:
                return "%s (process %s)" % (_name(process), process)
    for process in processes:
        if _name(process) in _DNS_SERVERS:
            return "%s (process %s), as it seems" % (_name(process), process)
    return ""


def inodes_of_port(text: str, port: int) -> list:
    """Return what /proc/PID/fd/N links to for the sockets of /proc/net/udp and the like that have this local port.

    Of TCP only those that listen count.
    """
    found = []
    for line in text.split("\n")[1:]:
        words = line.split()
        if len(words) > 9 and words[1].endswith(":%04X" % port) and words[3] in ("07", "0A"):
            found.append("socket:[" + words[9] + "]")
    return found


def _name(process: str) -> str:
    return _read("/proc/" + process + "/comm").strip()


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return ""


def _list(path: str) -> list:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _link(path: str) -> str:
    target = bytearray(_LINK_BYTES)
    size = libc().func("i", "readlink", "spL")(path, target, _LINK_BYTES)
    return str(bytes(target[: max(size, 0)]), "utf-8")
