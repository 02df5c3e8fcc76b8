"""Runs tests of this checkout inside a guest and shows each as an item of its own."""

import ast
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhome.images.apt_root import NoDebianMirror
from wayhome.lab.guest import Guest, GuestProcess

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
BUILD = ROOT / "build"
_LIST = "RUN_IN_GUEST"
_SECONDS = 1800  # for all tests of a file; a guest's time is some ten times the machine's
_MEMORY_MB = 1536


def files_to_run_in_guest(path: Path) -> list[Path]:
    """Return the files that a test file names in its RUN_IN_GUEST, none if it has no such list."""
    text = path.read_text()
    if _LIST not in text:
        return []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == _LIST:
            return [found for pattern in ast.literal_eval(node.value) for found in sorted(TESTS.glob(pattern))]
    return []


class GuestFile(pytest.File):
    """A test file's list of others: one guest for all of them, one item a test."""

    def collect(self) -> Iterator[pytest.Item]:
        self._run: GuestRun | None = None
        for path in files_to_run_in_guest(self.path):
            for item in _items_of(pytest.Module.from_parent(self, path=path)):
                name = f"{path.name.removesuffix('.py')}::{item.name}"
                yield GuestTest.from_parent(self, name=name, inner=f"{path.relative_to(ROOT)}::{item.name}")

    def result(self, inner: str) -> dict[str, str]:
        if self._run is None:
            wanted = [item.inner for item in self.session.items if isinstance(item, GuestTest) and item.parent is self]
            self._run = GuestRun(wanted)
        return self._run.result(inner)

    def teardown(self) -> None:
        if self._run is not None:
            self._run.stop()


def _items_of(collector: pytest.Collector) -> Iterator[pytest.Item]:
    for each in collector.collect():
        if isinstance(each, pytest.Item):
            yield each
        elif isinstance(each, pytest.Collector):
            yield from _items_of(each)


class GuestRun:
    """One guest and the pytest in it."""

    def __init__(self, wanted: list[str]) -> None:
        self._results: dict[str, dict[str, str]] = {}
        self._guest = Guest(BUILD, memory_mb=_MEMORY_MB)
        self._guest.start()
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        words += ["-p", "shared.tell_results", "--tb=short", *wanted]
        environment = {"PYTHONPATH": str(TESTS), "TMPDIR": "/run/tmp", "WAYHOME_IN_GUEST": "1"}
        # the same user's caches and settings, as far as tests read any
        environment["HOME"] = os.environ.get("HOME", "/root")
        self._pytest: GuestProcess = self._guest.popen(words, env=environment, folder=ROOT)
        self._pytest.close_input()
        self._lines = self._pytest.lines(_SECONDS)
        self._said: list[str] = []

    def result(self, inner: str) -> dict[str, str]:
        """Return what became of one test, once it has run: outcome and text."""
        while inner not in self._results:
            line = next(self._lines, None)
            if line is None:
                return {"outcome": "failed", "text": f"pytest in the guest did not run it:\n{self._last_words()}"}
            if line.startswith("{"):
                told = json.loads(line)
                self._results[told["id"]] = told
            else:
                self._said.append(line)
        return self._results[inner]

    def _last_words(self) -> str:
        return "\n".join([*self._said[-60:], self._pytest.stderr[-3000:]])

    def stop(self) -> None:
        self._guest.stop()


class GuestTest(pytest.Item):
    """One test in the guest. inner: what pytest calls it there."""

    def __init__(self, *, inner: str, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.inner = inner
        self.add_marker("boards")

    def runtest(self) -> None:
        try:
            told = self.parent.result(self.inner)  # type: ignore[union-attr]
        except NoDebianMirror as error:
            pytest.skip(str(error))
        if told["outcome"] == "skipped":
            pytest.skip(f"in the guest: {told['text']}")
        if told["outcome"] != "passed":
            raise GuestFailure(told["text"])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        if isinstance(excinfo.value, GuestFailure):
            return f"in the guest:\n{excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"in the guest: {self.inner}"


class GuestFailure(Exception):
    """What pytest in the guest said of a failing test."""
