"""Runs every shared test twice and more: pytest itself is the CPython run, `MicroPythonFile` is the others.

Shared are all tests below the folders of the board's package, except files that end in `_cpython.py` (those use
hypothesis, scapy or the host's own parts). Of the latter, tests that are marked `both_pythons` run under CPython twice:
once with the code under test beside them, once with it in a MicroPython process (shared.places). Those of the folders
that ask little of the kernel run on the processors of other boards as well, which qemu-user emulates: arm64, and armhf
with its 32 bits.
"""

import ast
import platform
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from shared import places
from shared.leftovers import nothing_of_a_lab_is_left_behind  # noqa: F401
from wayhome.images import micropython
from wayhome.images.apt_root import NoDebianMirror
from wayhome.lab.daemon_command import RUNTIMES

TESTS = Path(__file__).parent
ROOT = TESTS.parent
BUILD = ROOT / "build"
PLACE = "place"  # a property of tests that are marked `both_pythons`: which Python it was
SHARED_FOLDERS = ("wire", "core", "port", "linux", "agent", "helper")
_RUN_SECONDS = 900
# qemu-user knows neither generic netlink nor netfilter's, nor raw sockets' filters: linux and agent are left out.
EMULATED_FOLDERS = ("wire", "core", "port")
EMULATED = tuple(name for name in ("arm64", "armhf") if (platform.machine(), name) != ("aarch64", "arm64"))
# qemu-user makes a fork of a vfork, so the child's failure to start never reaches its parent.
_NOT_EMULATED = ("test_a_program_that_is_missing_is_an_oserror",)

# A shell starts what it runs in the background with Ctrl-C ignored, and what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
    """A shared test file as MicroPython runs it: one process for the file and processor, one item a test."""

    def collect(self):
        self._results: dict[str, dict[str, str]] = {}
        names = shared_test_names(self.path)
        for name in names:
            yield MicroPythonTest.from_parent(self, name=f"{name}[micropython]", test=name, architecture="amd64")
        if self.path.relative_to(TESTS).parts[0] not in EMULATED_FOLDERS:
            return
        for architecture in EMULATED:
            for name in names:
                if name not in _NOT_EMULATED:
                    item = f"{name}[micropython-{architecture}]"
                    yield MicroPythonTest.from_parent(self, name=item, test=name, architecture=architecture)

    def result(self, name: str, architecture: str) -> str:
        """Return "pass" or the failure's text for one test of this file on one processor."""
        if architecture not in self._results:
            self._results[architecture] = self._run(architecture)
        results = self._results[architecture]
        return results.get(name, results.get("", "MicroPython did not run it"))

    def _run(self, architecture: str) -> dict[str, str]:
        try:
            tree = micropython.fetch(BUILD, architecture)
        except NoDebianMirror as error:
            pytest.skip(str(error))
        runner = TESTS / "shared" / "run_micropython.py"
        words = micropython.command(tree, architecture=architecture)
        words += [str(runner), str(ROOT / "firmware"), str(TESTS), str(self.path)]
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
    def __init__(self, *, test: str, architecture: str, **fields):
        super().__init__(**fields)
        self._test = test
        self._architecture = architecture
        if architecture != "amd64":
            self.add_marker(pytest.mark.emulated)

    def runtest(self):
        result = self.parent.result(self._test, self._architecture)
        if result != "pass":
            raise MicroPythonFailure(result)

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, MicroPythonFailure):
            return f"under MicroPython ({self._architecture}):\n{excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, f"micropython: {self.name}"


class MicroPythonFailure(Exception):
    """The traceback that MicroPython printed."""


class BothPythons:
    """Runs what is marked `both_pythons` twice, with the code under test in either Python.

    A plugin of its own: pytest would ask a conftest.py about a folder's tests only once it has collected that folder,
    and those of other folders that run in a guest (boards.in_guest) are collected before.
    """

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        if metafunc.definition.get_closest_marker("both_pythons"):
            metafunc.parametrize("place", RUNTIMES, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(BothPythons())


@pytest.fixture(scope="module")
def micropythons() -> Iterator[list[places.There]]:
    """Give the MicroPython of this file's tests: none, or one that is used again as long as no test spoils it."""
    made: list[places.There] = []
    yield made
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest) -> Iterator[places.Place]:
    """Give where the code under test runs; of tests that run in both places, the summary counts it."""
    runtime = getattr(request, "param", None)
    if runtime is not None:
        request.node.user_properties.append((PLACE, runtime))
    if runtime != "micropython":
        yield places.HERE
        return
    micropythons = request.getfixturevalue("micropythons")
    if not micropythons:
        try:
            micropython.fetch(BUILD)
        except NoDebianMirror as error:
            pytest.skip(str(error))
        micropythons.append(places.There())
    places.use(micropythons[0])
    yield micropythons[0]
    places.use(places.HERE)
    if micropythons[0].clean:
        micropythons[0].forget()
    else:
        micropythons.pop().close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many shared tests each Python and processor ran, and whether these are the same numbers."""
    under_cpython = under_micropython = comparable = 0
    emulated = dict.fromkeys(EMULATED, 0)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            path = ROOT / report.nodeid.split("::")[0]
            properties = dict(report.user_properties)
            if PLACE in properties:
                under_cpython += report.when == "call" and properties[PLACE] == "cpython"
                under_micropython += report.when == "call" and properties[PLACE] == "micropython"
            elif not is_shared(path):
                pass  # perhaps a test of the host's with a Python for its parameter
            elif "[micropython]" in report.nodeid:
                under_micropython += 1
                name = report.nodeid.split("::")[-1].removesuffix("[micropython]")
                folder = path.relative_to(TESTS).parts[0]
                comparable += folder in EMULATED_FOLDERS and name not in _NOT_EMULATED
            elif "[micropython-" in report.nodeid:
                emulated[report.nodeid.rpartition("[micropython-")[2].removesuffix("]")] += 1
            elif report.when == "call":
                under_cpython += 1
    if under_micropython or under_cpython:
        verdict = "equal" if under_micropython == under_cpython else "NOT EQUAL"
        terminalreporter.write_line(
            f"shared tests run: {under_cpython} under CPython, {under_micropython} under MicroPython ({verdict})"
        )
    if any(emulated.values()):
        verdict = "equal" if set(emulated.values()) == {comparable} else "NOT EQUAL"
        counts = ", ".join(f"{count} on {architecture}" for architecture, count in emulated.items())
        folders = ", ".join(EMULATED_FOLDERS)
        terminalreporter.write_line(f"of these in {folders}: {comparable} here, {counts} under qemu-user ({verdict})")
