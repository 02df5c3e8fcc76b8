"""mypy over the board's code, as each Python sees it: MicroPython's own type stubs, then CPython's ordinary ones.

    python tests/checks/board_types.py      # both; exits 1 if either finds something

The module that chooses a runtime asks port.MICROPYTHON; mypy is told which it is, so that it leaves the other half out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
BOARD = ROOT / "firmware/wayhomed"
# What MicroPython has in common with CPython's library; the modules that its unix port has beside or instead.
STUB_PACKAGES = ("micropython-stdlib-stubs", "micropython-unix-stubs")
# A folder of its own in the package, but the library imports it, so it has to stand there.
_SHED = "_mpy_shed"


def lay_out_stubs(build: Path) -> Path:
    """Return a folder that mypy takes for its typeshed, made from the installed stub packages; `build` keeps it.

    The unix port's own modules are in its folder `port`, for mypy_path. The folder's name carries the packages'
    versions, so other versions make another folder. Raises PackageNotFoundError.
    """
    packages = [distribution(name) for name in STUB_PACKAGES]
    laid_out = build / "typings" / "-".join([package.version for package in packages])
    if laid_out.is_dir():
        return laid_out
    laid_out.parent.mkdir(parents=True, exist_ok=True)
    # In a neighbour first: who finds the folder finds all of it.
    with tempfile.TemporaryDirectory(dir=laid_out.parent, prefix=".") as unfinished:
        for package in packages:
            for file in package.files or []:
                if file.suffix != ".pyi" and file.name != "VERSIONS":
                    continue
                if file.parts[0] == _SHED:
                    place = Path("stdlib", *file.parts)
                elif file.parts[0] in ("stdlib", "stubs"):
                    place = Path(*file.parts)
                else:
                    place = Path("port", *file.parts)
                to = Path(unfinished, "all", place)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), to)
        try:
            os.rename(Path(unfinished, "all"), laid_out)
        except OSError:
            if not laid_out.is_dir():  # else somebody else was quicker
                raise
    return laid_out


def is_cpython_half(path: Path) -> bool:
    return path.stem == "cpython" or path.stem.endswith("_cpython")


def is_micropython_half(path: Path) -> bool:
    return path.stem == "micropython" or path.stem.endswith("_micropython")


def check_as_micropython(files: list[Path] | None = None) -> subprocess.CompletedProcess[str]:
    """Run mypy on all but the CPython half, with MicroPython's stubs: what is absent there is an error."""
    stubs = lay_out_stubs(BUILD)
    if files is None:
        files = [path for path in BOARD.rglob("*.py") if not is_cpython_half(path)]
    return _mypy("micropython", files, ["--always-true", "MICROPYTHON", "--custom-typeshed-dir", str(stubs)], stubs)


def check_as_cpython() -> subprocess.CompletedProcess[str]:
    """Run mypy on all but the MicroPython half, with CPython's own stubs."""
    files = [path for path in BOARD.rglob("*.py") if not is_micropython_half(path)]
    return _mypy("cpython", files, ["--always-false", "MICROPYTHON"], None)


def _mypy(name: str, files: list[Path], words: list[str], stubs: Path | None) -> subprocess.CompletedProcess[str]:
    search = [str(ROOT / "firmware"), *([str(stubs / "port")] if stubs else [])]
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "firmware/mypy.ini")]
    command += ["--cache-dir", str(BUILD / "mypy" / name), *words, *[str(path) for path in sorted(files)]]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join(search)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    results = [check_as_micropython(), check_as_cpython()]
    for result in results:
        print(result.stdout + result.stderr, end="")
    sys.exit(any(result.returncode for result in results))
