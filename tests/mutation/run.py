"""Take away each limit and check of firmware/wayhomed/wire in turn, and show that some test of tests/wire then fails.

    python tests/mutation/run.py [MODULE ...] [--jobs N] [--kinds removed,operand,...]

Prints the mutants that no test notices and exits 1 if there are any. Each mutant is tried in a forked process, with
only those shared tests that run its line, so that all of wire/ takes seconds. On CPython alone: the tests are tried,
not the code.
"""

import argparse
import gc
import importlib
import os
import resource
import select
import signal
import sys
import time
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "firmware"), str(ROOT / "tests")]

from mutation.mutants import KINDS, Mutant, mutants_of  # noqa: E402

WIRE = ROOT / "firmware/wayhomed/wire"
TESTS = ROOT / "tests/wire"
PACKAGE = "wayhomed.wire"
# A mutant that runs into an endless loop, or takes memory without end, is one that the tests notice.
TRIAL_SECONDS = 10
TRIAL_MEMORY_BYTES = 1 << 30
SURVIVED = 0
NOTICED = 1

# Changes that change nothing anyone could see, and why: (module, kind, line of source).
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "json_cutter",
        "removed",
        "if len(known) != len(name):  # spares most of them lower()",
    ): "names of different lengths are not the same in lower case either: a plan's are ASCII",
}


class Suite:
    """The shared tests of a folder, and which lines of which module each of them runs."""

    def __init__(self, folder: Path, package: str, source: Path):
        self.package = package
        self.source = source
        self.codes = {
            path: compile(path.read_text(), str(path), "exec")
            for path in sorted(folder.glob("test_*.py"))
            if not path.stem.endswith("_cpython")
        }
        self.lines: dict[tuple[Path, str], set[tuple[str, int]]] = {}
        self.seconds: dict[tuple[Path, str], float] = {}

    def measure(self) -> None:
        """Run every test once, as it is; an error here is the tests', not a mutant's."""
        folder = str(self.source) + os.sep
        for path, code in self.codes.items():
            module = load(code, path)
            for name in sorted(name for name in module if name.startswith("test_")):
                seen: set[tuple[str, int]] = set()

                def trace(frame, event, argument, seen=seen):
                    if not frame.f_code.co_filename.startswith(folder):
                        return None
                    seen.add((frame.f_code.co_filename, frame.f_lineno))
                    return trace_lines

                def trace_lines(frame, event, argument, seen=seen):
                    seen.add((frame.f_code.co_filename, frame.f_lineno))
                    return trace_lines

                start = time.perf_counter()
                sys.settrace(trace)
                try:
                    module[name]()
                finally:
                    sys.settrace(None)
                self.lines[path, name] = seen
                self.seconds[path, name] = time.perf_counter() - start

    def tests_of(self, file: Path, mutant: Mutant) -> list[tuple[Path, str]]:
        """Return the tests that could notice the mutant, quickest first."""
        if not mutant.lines:
            wanted = {(str(file), line) for line in range(len(file.read_text().splitlines()) + 1)}
        else:
            wanted = {(str(file), line) for line in mutant.lines}
        return sorted((test for test, seen in self.lines.items() if seen & wanted), key=self.seconds.__getitem__)


def load(code: types.CodeType, path: Path) -> dict:
    """Run a test file; return its names."""
    module = {"__name__": "test_under_mutation", "__file__": str(path)}
    exec(code, module)  # noqa: S102 - a test runner runs test files
    return module


def start_trial(suite: Suite, file: Path, mutant: Mutant, tests: list[tuple[Path, str]]) -> int:
    """Fork a process that runs the tests with this mutant in the module's place; return its number.

    It ends with SURVIVED if all pass, in any other way if one fails.
    """
    child = os.fork()
    if child == 0:
        verdict = NOTICED
        try:
            verdict = _try_in_child(suite, file, mutant, tests)
        finally:
            os._exit(verdict)
    return child


def _try_in_child(suite: Suite, file: Path, mutant: Mutant, tests: list[tuple[Path, str]]) -> int:
    gc.disable()
    signal.alarm(TRIAL_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (TRIAL_MEMORY_BYTES, TRIAL_MEMORY_BYTES))
    _install(suite.package, file, mutant)
    modules: dict[Path, dict] = {}
    for path, name in tests:
        if path not in modules:
            modules[path] = load(suite.codes[path], path)
        modules[path][name]()
    return SURVIVED


def _install(package: str, file: Path, mutant: Mutant) -> None:
    """Forget the package's modules and put the mutant where the original was; the others come anew and meet it."""
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
    parent = importlib.import_module(package)
    name = f"{package}.{file.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(file)
    module.__package__ = package
    sys.modules[name] = module
    setattr(parent, file.stem, module)
    exec(compile(mutant.mutated(), str(file), "exec"), module.__dict__)  # noqa: S102 - the mutant


def survivors(suite: Suite, files: list[Path], kinds: set[str], jobs: int) -> tuple[int, list[str]]:
    """Return how many mutants were tried, and one line for each that no test noticed."""
    todo = [(file, mutant) for file in files for mutant in mutants_of(file.read_text()) if mutant.kind in kinds]
    todo = [(file, mutant) for file, mutant in todo if (file.stem, mutant.kind, mutant.text) not in EQUIVALENT]
    left = []
    running: dict[int, int] = {}  # process -> index in todo
    for index, (file, mutant) in enumerate(todo):
        tests = suite.tests_of(file, mutant)
        if not tests:
            left.append(index)
            continue
        running[start_trial(suite, file, mutant, tests)] = index
        if len(running) == jobs:
            left += _wait_for_one(running)
    while running:
        left += _wait_for_one(running)
    return len(todo), [f"{todo[index][0].stem}.py {todo[index][1]}" for index in sorted(left)]


def _wait_for_one(running: dict[int, int]) -> list[int]:
    """Return the index of the trial that ended, if no test noticed its mutant."""
    # Not os.wait(): this process may have children that are none of ours.
    handles = {os.pidfd_open(child): child for child in running}
    try:
        child = handles[select.select(handles, [], [])[0][0]]
    finally:
        for handle in handles:
            os.close(handle)
    _, status = os.waitpid(child, 0)
    index = running.pop(child)
    return [index] if status == SURVIVED else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: run.py noise derp --jobs 2")
    parser.add_argument("modules", nargs="*", help="names of modules in wire/; without any, all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which changes")
    words = parser.parse_args()
    files = [WIRE / f"{name}.py" for name in words.modules] or sorted(WIRE.glob("[a-z]*.py"))
    start = time.perf_counter()
    suite = Suite(TESTS, PACKAGE, WIRE)
    suite.measure()
    tried, left = survivors(suite, files, set(words.kinds.split(",")), words.jobs)
    for line in left:
        print("no test notices:", line)
    print(f"{tried} mutants of {len(files)} modules, {len(left)} unnoticed, {time.perf_counter() - start:.1f} s")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
