"""Which URL `wayhome serve` goes by when nobody names one: the last one, or on a first start this machine's address.

Clients remember the URL for good, so a server keeps the one it once started with, even where its address has changed.
"""

import fcntl
import ipaddress
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
_LOOPBACK = "127.0.0.1"
# linux/sockios.h: the IPv4 address of the interface that a struct ifreq (40 bytes) names, in its sockaddr_in
_SIOCGIFADDR = 0x8915
_IFREQ = "16s24x"
_IFREQ_ADDRESS = slice(20, 24)


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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect(_ELSEWHERE)
        except OSError:
            # a network with no way out has no route to elsewhere, and neighbours all the same
            return next(_addresses_of_interfaces(asker), _LOOPBACK)
        return str(asker.getsockname()[0])


def _addresses_of_interfaces(asker: socket.socket) -> Iterator[str]:
    """Yield the first IPv4 address of each interface that has one which neighbours can use."""
    for _, name in socket.if_nameindex():
        try:
            answer = fcntl.ioctl(asker, _SIOCGIFADDR, struct.pack(_IFREQ, name.encode()))
        except OSError:
            continue  # an interface without an IPv4 address
        address = ipaddress.IPv4Address(answer[_IFREQ_ADDRESS])
        if not (address.is_loopback or address.is_link_local):
            yield str(address)
