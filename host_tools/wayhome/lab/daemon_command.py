"""The words that start wayhomed, wayhomectl and the helper from this checkout, under either Python.

On a board it is MicroPython; so it is in labs, wherever MicroPython can be had.
"""

import functools
import os
import sys
from pathlib import Path
from typing import Literal

from ..errors import HostError
from ..images import bytecode, micropython
from ..images.apt_root import FetchFailed, NoDebianMirror

Runtime = Literal["micropython", "cpython"]

RUNTIMES: tuple[Runtime, ...] = ("micropython", "cpython")
# For whoever wants to see a lab under the other one.
VARIABLE = "WAYHOME_LAB_RUNTIME"

_ROOT = Path(__file__).parents[3]
_FIRMWARE = _ROOT / "firmware"


def preferred_runtime() -> Runtime:
    """Return MicroPython if it is there or can be fetched, else CPython. Raises HostError for a strange VARIABLE."""
    named = os.environ.get(VARIABLE)
    if named:
        if named not in RUNTIMES:
            raise HostError(f"{VARIABLE} is {named!r}; it may be {' or '.join(RUNTIMES)}")
        return named
    try:
        _micropython()
    except (NoDebianMirror, FetchFailed):
        return "cpython"
    return "micropython"


def wayhomed_words(runtime: Runtime | None = None) -> list[str]:
    """Return the words that start wayhomed; its options may follow. runtime None: the preferred one.

    Raises NoDebianMirror or FetchFailed if MicroPython is asked for and can't be had.
    """
    return _words("wayhomed", runtime or preferred_runtime())


def wayhomectl_words(runtime: Runtime | None = None) -> list[str]:
    """Return the words that start wayhomectl; command and options may follow."""
    return _words("wayhomectl", runtime or preferred_runtime())


def helper_words(runtime: Runtime | None = None) -> list[str]:
    """Return the words that start wayhomed-helper; its options may follow."""
    return _words("wayhomed-helper", runtime or preferred_runtime())


def _words(name: str, runtime: Runtime) -> list[str]:
    script = str(_FIRMWARE / "package" / f"start_{name}.py")
    if runtime == "cpython":
        return ["env", f"PYTHONPATH={_FIRMWARE}", sys.executable, "-s", script]
    return ["env", f"MICROPYPATH={_bytecode()}:.frozen", *_micropython(), script]


@functools.cache
def _micropython() -> tuple[str, ...]:
    return tuple(micropython.command(micropython.fetch(_ROOT / "build")))


@functools.cache
def _bytecode() -> Path:
    """Return the package as boards have it: compiled, so that it starts faster."""
    return bytecode.compile_package(_ROOT / "build")
