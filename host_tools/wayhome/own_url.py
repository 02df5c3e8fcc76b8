"""Which URL `wayhome serve` goes by when nobody names one: the last one, or on a first start this machine's address.

Clients remember the URL for good, so a server keeps the one it once started with, even where its address has changed.
"""

import fcntl
import ipaddress
import itertools
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from .errors import HostError
from .key_file import write_private

_FILE = "url"
_MOST_CHARACTERS = 1000
_PORT = 8080
# RFC 5737: nobody's address. Connecting a UDP socket to it sends nothing, it only asks for the route.
_ELSEWHERE = ("192.0.2.1", 9)
# RFC 6666: where packets are thrown away.
_ELSEWHERE_V6 = ("100::1", 9)
_LOOPBACK = "127.0.0.1"
# linux/sockios.h: the IPv4 address of the interface that a struct ifreq (40 bytes) names, in its sockaddr_in
_SIOCGIFADDR = 0x8915
_IFREQ = "16s24x"
_IFREQ_ADDRESS = slice(20, 24)
# linux/in6.h
_IPV6_ADDR_PREFERENCES = 72
_IPV6_PREFER_SRC_PUBLIC = 0x0002
# A line an address: its digits, interface, prefix length, scope (0 = global), flags, name. proc_net(5), linux/if_addr.h
_IF_INET6 = Path("/proc/net/if_inet6")
_PASSING = 0x01 | 0x20 | 0x40  # temporary, deprecated, tentative


def remembered(state: Path) -> str | None:
    """Return the URL that the server in this state directory goes by, None before its first start. Raises HostError."""
    path = state / _FILE
    try:
        with path.open() as file:
            return file.read(_MOST_CHARACTERS).strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        # whose directory this is gets a better sentence where the rest of it is opened
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"cannot read {path}: {error}; name the URL with --url") from None


def remember(state: Path, url: str) -> None:
    """Keep the URL for starts that name none. Raises HostError."""
    if remembered(state) != url:
        write_private(state / _FILE, url + "\n")


def guessed() -> str:
    """Return a plain HTTP URL with the address by which others in this machine's network reach it.

    A machine without any network gets its loopback address, which serves nobody else.
    """
    return f"http://{_own_address()}:{_PORT}"


def serves_this_machine_alone(url: str) -> bool:
    """Tell whether a guessed URL names the loopback address, because there was no network to guess from."""
    return url.startswith(f"http://{_LOOPBACK}:")


def _own_address() -> str:
    """Return the address by which this machine is known best: one with a way out before one without, IPv4 first."""
    found = next(filter(None, (_way_out_ipv4(), _way_out_ipv6())), "") or next(
        itertools.chain(_interfaces_ipv4(), _interfaces_ipv6()), _LOOPBACK
    )
    return f"[{found}]" if ":" in found else found


def _way_out_ipv4() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect(_ELSEWHERE)
        except OSError:
            return ""
        return str(asker.getsockname()[0])


def _way_out_ipv6() -> str:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
            # a privacy address is gone within a day
            asker.setsockopt(socket.IPPROTO_IPV6, _IPV6_ADDR_PREFERENCES, _IPV6_PREFER_SRC_PUBLIC)
            asker.connect(_ELSEWHERE_V6)
            address = ipaddress.IPv6Address(asker.getsockname()[0])
    except OSError:
        return ""
    return "" if address.is_link_local or address.is_loopback else str(address)


def _interfaces_ipv4() -> Iterator[str]:
    """Yield the first IPv4 address of each interface that has one which neighbours can use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asker, _SIOCGIFADDR, struct.pack(_IFREQ, name.encode()))
            except OSError:
                continue  # an interface without an IPv4 address
            address = ipaddress.IPv4Address(answer[_IFREQ_ADDRESS])
            if not (address.is_loopback or address.is_link_local):
                yield str(address)


def _interfaces_ipv6() -> Iterator[str]:
    """Yield the lasting IPv6 addresses of the interfaces, without the link-local ones."""
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:
        return  # a machine without IPv6
    for line in lines:
        digits, _, _, scope, flags, _ = line.split()
        if int(scope, 16) == 0 and not int(flags, 16) & _PASSING:
            yield str(ipaddress.IPv6Address(bytes.fromhex(digits)))
