"""Where the code under test of a test marked `both_pythons` runs: in this very process, or in one of MicroPython's.

Such a test is written once. It takes the board's modules from its place (`place.module(daemon).Board(...)`) and uses
what it makes of them as ever; shared.far has the objects of the other process look like our own.
"""

import asyncio
import atexit
import functools
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.far import Link, OtherEndIsGone
from wayhome.images import micropython

ROOT = Path(__file__).parents[2]
# No answer of the board's takes that long; it only ends a test that hangs.
_ANSWER_S = 60
_CONST = re.compile(r"^(\w+ = )const\(", re.MULTILINE)


class Here:
    """This process."""

    runtime = "cpython"
    clean = True

    def __init__(self) -> None:
        self.process_id = os.getpid()

    def module(self, module: ModuleType) -> Any:
        return module

    def fields(self, record: Any) -> dict[str, Any]:
        return dict(vars(record))

    def start(self) -> None:
        pass

    attach = detach = close = start


class There:
    """A process of MicroPython's, begun when it is first used.

    Its objects may be used at any time, and call ours back while it is attached to the running loop. clean: nothing of
    a test is left in it.
    """

    runtime = "micropython"
    clean = True

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None

    def start(self) -> Link:
        """Begin it in the present network namespace, if it has not been."""
        if self._link is not None:
            return self._link
        words = micropython.command(micropython.fetch(ROOT / "build"))
        script = ROOT / "tests" / "shared" / "far_micropython.py"
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/far")
            listener.listen()
            listener.settimeout(_ANSWER_S)
            self._process = subprocess.Popen(
                [*words, str(script), str(changeable_firmware()), str(ROOT / "tests"), f"{folder}/far"], cwd=ROOT
            )
            self._stream, _ = listener.accept()
        self._stream.settimeout(_ANSWER_S)
        self._link = Link(self._stream, at_once=True)
        return self._link

    @property
    def process_id(self) -> int:
        self.start()
        return self._process.pid

    def module(self, module: ModuleType) -> Any:
        """Return the other process's module of the same name."""
        return self.start().ask("module", module.__name__)

    def fields(self, far: Any) -> dict[str, Any]:
        """Return copies of what an object there has for attributes."""
        return self.start().ask("fields", far)

    def attach(self) -> None:
        self.start()
        self.clean = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._stream, self._serve)

    def detach(self) -> None:
        """To be called when all that was begun there has ended."""
        self._stop_serving()
        self.clean = True

    def forget(self) -> None:
        """Let both ends go of each other's objects; none of them may be used again."""
        if self._link is not None:
            self._link.forget()
            self._link.ask("forget")

    def _stop_serving(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._stream)
            self._loop = None

    def _serve(self) -> None:
        try:
            self.start().serve_waiting()
        except OtherEndIsGone:
            self._stop_serving()
            raise

    def close(self) -> None:
        if self._link is None:
            return
        self._stop_serving()
        self._stream.close()
        try:
            self._process.wait(1 if self.clean else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


Place = Here | There

HERE = Here()
_current: Place = HERE


def current() -> Place:
    """Return where the code under test of the present test runs."""
    return _current


def use(place: Place) -> None:
    global _current
    _current = place


@functools.cache
def changeable_firmware() -> Path:
    """Return a copy of the board's package whose constants a test may change, as MicroPython folds const()."""
    folder = Path(tempfile.mkdtemp(prefix="wayhome-changeable-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    package = ROOT / "firmware" / "wayhomed"
    for source in package.rglob("*.py"):
        target = folder / "wayhomed" / source.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_CONST.sub(r"\1(", source.read_text()))
    return folder
