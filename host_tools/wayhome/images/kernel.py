"""Debian trixie's kernel, unpacked: its image, and its modules with all that each needs."""

import fcntl
import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .apt_root import AptRoot, FetchFailed

_SUITE = "trixie"
# arm64's is the one for virtual machines, a quarter of the size. amd64's lacks 9p, by which a guest sees this machine.
_METAPACKAGES = {"amd64": "linux-image-amd64", "arm64": "linux-image-cloud-arm64"}
# One text of a module's .modinfo section. Source: Linux, include/linux/module.h, MODULE_INFO.
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package. release: what `uname -r` says. modules: the folder kernel/ of its modules."""

    release: str
    image: Path
    modules: Path

    def modules_for(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """Return (name, content) of these modules and all they need, in the order in which they can be loaded.

        What is built into the kernel is left out. Raises FetchFailed if the kernel has no such module.
        """
        files = {_plain(path.name): path for path in self.modules.rglob("*.ko.xz")}
        builtin = {_plain(Path(line).name) for line in (self.modules.parent / "modules.builtin").read_text().split()}
        loaded: dict[str, bytes] = {}

        def load(name: str) -> None:
            if name in loaded or name in builtin:
                return
            if name not in files:
                raise FetchFailed(f"Debian's kernel {self.release} has no module {name}")
            content = lzma.decompress(files[name].read_bytes())
            needed = _DEPENDS.search(content)
            for other in needed[1].decode().split(",") if needed and needed[1] else []:
                load(_plain(other))
            loaded[name] = content

        for name in names:
            load(_plain(name))
        return list(loaded.items())


def fetch(build: Path, architecture: str = "amd64") -> Kernel:
    """Return the unpacked kernel, fetching it on first use; `build` keeps it.

    architecture: Debian's name. Raises NoDebianMirror or FetchFailed (apt_root).
    """
    place = build / f"kernel-{architecture}"
    tree = place / "tree"
    (place / "apt").mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            root = AptRoot(place / "apt", _SUITE, architecture)
            packages = root.dependencies(_METAPACKAGES[architecture], "linux-image-")
            root.unpack(root.fetch(packages), tree)
    image = next((tree / "boot").glob("vmlinuz-*"))
    release = image.name.removeprefix("vmlinuz-")
    return Kernel(release, image, tree / "usr/lib/modules" / release / "kernel")


def _plain(name: str) -> str:
    """Return a module's name as the kernel has it: a file may have hyphens."""
    return name.split(".ko")[0].replace("-", "_")
