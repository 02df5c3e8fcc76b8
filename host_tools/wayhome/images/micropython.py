"""Debian trixie's MicroPython, unpacked beside the system and started through its own loader.

Its binary needs newer libraries than Debian 12 has, so those come along (docs/decisions/0002-two-pythons.md).
"""

import fcntl
from pathlib import Path

from .apt_root import AptRoot

_SUITE = "trixie"
_PACKAGES = [
    "micropython",
    "libc6",
    "libffi8",
    "libmbedtls21",
    "libmbedx509-7",
    "libmbedcrypto16",
    "libsodium23",
    # what the board's nftables back end asks for
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libjansson4",
    "libgmp10",
    "libxtables12",
    "libedit2",
    "libtinfo6",
    "libbsd0",
    "libmd0",
]
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def fetch(build: Path) -> Path:
    """Return the folder that holds the unpacked MicroPython, fetching it on first use; `build` keeps it.

    Raises NoDebianMirror or FetchFailed (apt_root).
    """
    place = build / "micropython"
    tree = place / "tree"
    wanted = "\n".join(_PACKAGES)
    listing = place / "packages"
    (place / "apt").mkdir(parents=True, exist_ok=True)
    # On a new checkout all workers of the tests want it at once: one fetches, the others wait.
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tree.is_dir() and listing.is_file() and listing.read_text() == wanted):
            root = AptRoot(place / "apt", _SUITE)
            root.unpack(root.fetch(_PACKAGES), tree)
            listing.write_text(wanted)
    return tree


def command(tree: Path, *, heap: str = "8M") -> list[str]:
    """Return the words that start this MicroPython; a script and its arguments may follow."""
    libraries = tree / _LIBRARIES
    loader = libraries / "ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", str(libraries), str(tree / "usr/bin/micropython"), "-X", f"heapsize={heap}"]
