"""Debian trixie's MicroPython, unpacked beside the system and started through its own loader.

Its binary needs newer libraries than Debian 12 has, so those come along (docs/decisions/0002-two-pythons.md). Those of
boards' processors run here through qemu-user.
"""

import fcntl
import os
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Architecture:
    """Where Debian keeps a processor's libraries, its dynamic loader, what `uname -m` says, and qemu-user's words."""

    libraries: str
    loader: str
    machine: str
    emulator: tuple[str, ...]
    packages: tuple[str, ...] = ()  # beside those that all have


# The cores of small boards; QEMU's own choice for arm64 signs every return address, which makes it ten times slower.
_ARCHITECTURES = {
    "amd64": _Architecture("usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2", "x86_64", ("qemu-x86_64",)),
    "arm64": _Architecture(
        "usr/lib/aarch64-linux-gnu", "ld-linux-aarch64.so.1", "aarch64", ("qemu-aarch64", "-cpu", "cortex-a53")
    ),
    "armhf": _Architecture(
        "usr/lib/arm-linux-gnueabihf",
        "ld-linux-armhf.so.3",
        "armv7l",
        ("qemu-arm", "-cpu", "cortex-a7"),
        ("libgcc-s1",),
    ),
}


def fetch(build: Path, architecture: str = "amd64") -> Path:
    """Return the folder that holds the unpacked MicroPython, fetching it on first use; `build` keeps it.

    architecture: Debian's name. Raises NoDebianMirror or FetchFailed (apt_root).
    """
    place = build / ("micropython" if architecture == "amd64" else f"micropython-{architecture}")
    tree = place / "tree"
    packages = [*_PACKAGES, *_ARCHITECTURES[architecture].packages]
    wanted = "\n".join(packages)
    listing = place / "packages"
    (place / "apt").mkdir(parents=True, exist_ok=True)
    # On a new checkout all workers of the tests want it at once: one fetches, the others wait.
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tree.is_dir() and listing.is_file() and listing.read_text() == wanted):
            root = AptRoot(place / "apt", _SUITE, architecture)
            root.unpack(root.fetch(packages), tree)
            listing.write_text(wanted)
    return tree


def libraries(tree: Path, architecture: str = "amd64") -> tuple[Path, Path]:
    """Return the folder of the tree's libraries, and the dynamic loader among them."""
    folder = tree / _ARCHITECTURES[architecture].libraries
    return folder, folder / _ARCHITECTURES[architecture].loader


def command(tree: Path, *, heap: str = "8M", architecture: str = "amd64") -> list[str]:
    """Return the words that start this MicroPython; a script and its arguments may follow.

    That of another processor than this machine's is started by qemu-user, which must be installed.
    """
    one = _ARCHITECTURES[architecture]
    folder, loader = libraries(tree, architecture)
    words = [str(loader), "--library-path", str(folder), str(tree / "usr/bin/micropython")]
    if os.uname().machine != one.machine:
        words[:0] = one.emulator
    return [*words, "-X", f"heapsize={heap}"]
