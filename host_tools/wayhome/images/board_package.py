"""The board's daemon as one archive for boards with MicroPython: compiled, with its installer beside it.

    wayhomed-0.1.0/
      package/     the installer, the launcher, service files: as in firmware/package
      wayhomed/    the package as bytecode (bytecode.py), a third of its sources' size
      LICENSE

The folders stand to each other as in firmware/, so that the installer takes what lies beside it, here as there.
"""

import gzip
import io
import os
import runpy
import tarfile
from pathlib import Path

from .bytecode import FIRMWARE, compile_package, size_bytes


def pack(build: Path, firmware: Path = FIRMWARE) -> Path:
    """Write build/wayhomed-VERSION-micropython.tar.gz and return its path; the same sources give the same bytes.

    Raises NotCompiled.
    """
    version = runpy.run_path(str(firmware / "wayhomed/agent/version.py"))
    name, built_s = f"wayhomed-{version['VERSION']}", version["BUILD_S"]
    folders = {"package": firmware / "package", "wayhomed": compile_package(build, firmware) / "wayhomed"}
    files = {f"{folder}/{path.relative_to(top)}": path for folder, top in folders.items() for path in _files(top)}
    files["LICENSE"] = FIRMWARE.parent / "LICENSE"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for inside, path in sorted(files.items()):
            _add(archive, f"{name}/{inside}", path, built_s)
    place = build / f"{name}-micropython.tar.gz"
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    partial.write_bytes(gzip.compress(plain.getvalue(), mtime=built_s))
    partial.rename(place)
    return place


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _add(archive: tarfile.TarFile, name: str, path: Path, built_s: int) -> None:
    """Add a file as root's, of the build date: who built it, and when, makes no difference."""
    entry = tarfile.TarInfo(name)
    content = path.read_bytes()
    entry.size = len(content)
    entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    entry.mtime = built_s
    entry.uname = entry.gname = "root"
    archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    made = pack(FIRMWARE.parent / "build")
    flash_kb = size_bytes(compile_package(FIRMWARE.parent / "build")) / 1024
    print(f"{made}: {made.stat().st_size / 1024:.0f} KB; the daemon takes {flash_kb:.0f} KB of flash once installed")
