"""Runs every shared test twice: pytest itself is the CPython run, `MicroPythonFile` is the other.

Shared are all tests below the folders of the board's package, except files that end in `_cpython.py` (those use
hypothesis, scapy or the host's own parts).
"""

import ast
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from shared.leftovers import nothing_of_a_lab_is_left_behind  # noqa: F401
from wayhome.images import micropython
from wayhome.images.apt_root import NoDebianMirror

TESTS = Path(__file__).parent
ROOT = TESTS.parent
BUILD = ROOT / "build"
SHARED_FOLDERS = ("wire", "core", "port", "linux", "agent", "helper")
_RUN_SECONDS = 300

# No test is timed: on a busy machine an example may take any time.
settings.register_profile("wayhome", deadline=None)
settings.load_profile("wayhome")


def is_shared(path: Path) -> bool:
    """Tell whether both Pythons run this test file."""
    if not path.is_relative_to(TESTS) or not path.name.startswith("test_"):
        return False
    return path.relative_to(TESTS).parts[0] in SHARED_FOLDERS and not path.stem.endswith("_cpython")


def shared_test_names(path: Path) -> list[str]:
    """Return the names of a shared file's tests, as both Pythons see them."""
    tree = ast.parse(path.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".py" and is_shared(file_path):
        return MicroPythonFile.from_parent(parent, path=file_path)
    return None


class MicroPythonFile(pytest.File):
    """A shared test file as MicroPython runs it: one process for the file, one item a test."""

    def collect(self):
        self._results: dict[str, str] | None = None
        for name in shared_test_names(self.path):
            yield MicroPythonTest.from_parent(self, name=f"{name}[micropython]")

    def result(self, name: str) -> str:
        """Return "pass" or the failure's text for one test of this file."""
        if self._results is None:
            self._results = self._run()
        return self._results.get(name, self._results.get("", "MicroPython did not run it"))

    def _run(self) -> dict[str, str]:
        try:
            tree = micropython.fetch(BUILD)
        except NoDebianMirror as error:
            pytest.skip(str(error))
        runner = TESTS / "shared" / "run_micropython.py"
        words = [*micropython.command(tree), str(runner), str(ROOT / "firmware"), str(TESTS), str(self.path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False)
        results: dict[str, str] = {}
        current = ""
        for line in done.stdout.splitlines():
            word, _, name = line.partition(" ")
            if word == "pass":
                results[name] = "pass"
            elif word == "fail":
                current = name
                results[name] = ""
            elif current and word != "ran":
                results[current] += line + "\n"
        if not done.stdout.rstrip().endswith(f"ran {len(shared_test_names(self.path))}"):
            results[""] = f"the file did not run through:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return results


class MicroPythonTest(pytest.Item):
    def runtest(self):
        result = self.parent.result(self.name.removesuffix("[micropython]"))
        if result != "pass":
            raise MicroPythonFailure(result)

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, MicroPythonFailure):
            return f"under MicroPython:\n{excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, f"micropython: {self.name}"


class MicroPythonFailure(Exception):
    """The traceback that MicroPython printed."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    under_micropython = under_cpython = 0
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if "[micropython]" in report.nodeid:
                under_micropython += 1
            elif is_shared(ROOT / report.nodeid.split("::")[0]) and report.when == "call":
                under_cpython += 1
    if under_micropython or under_cpython:
        verdict = "equal" if under_micropython == under_cpython else "NOT EQUAL"
        terminalreporter.write_line(
            f"shared tests run: {under_cpython} under CPython, {under_micropython} under MicroPython ({verdict})"
        )
