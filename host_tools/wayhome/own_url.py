"""Which URL `wayhome serve` goes by when nobody names one: the last one, or on a first start this machine's address.

Clients remember the URL for good, so a server keeps the one it once started with, even where its address has changed.
"""

import socket
from pathlib import Path

from .errors import HostError
from .key_file import write_private

_FILE = "url"
_MOST_CHARACTERS = 1000
_PORT = 8080
# RFC 5737: nobody's address. Connecting a UDP socket to it sends nothing, it only asks for the route.
_ELSEWHERE = ("192.0.2.1", 9)


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
    """Return a plain HTTP URL with the address by which this machine reaches others: enough for one's own network."""
    return f"http://{_own_address()}:{_PORT}"


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"  # no way to anybody else: only this machine can be served
        return str(asker.getsockname()[0])
