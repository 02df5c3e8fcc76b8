"""The tests of wire/ notice when a check is gone; and the tool that says so tells the truth."""

import json
import os
import subprocess
import sys
from pathlib import Path

from mutation.mutants import BOUNDARY, LIFTED, OPERAND, REMOVED, UNTRANSLATED, mutants_of

RUN = Path(__file__).parent / "run.py"

CHECKED = """
MOST_BYTES = 4

def read(data):
    if not data or len(data) > MOST_BYTES:
        raise ValueError("limit")
    try:
        text = data.decode()
    except UnicodeError:
        raise ValueError("text")
    if len(text) == 3:
        return None
    return text
"""
WEAK_TESTS = """
from shared.expect import raises
from checked import reader

def test_short_text_is_read():
    assert reader.read(b"ab") == "ab"

def test_long_text_is_refused():
    raises(ValueError, reader.read, b"abcdef")
    raises(ValueError, reader.read, b"x" * 60)
"""
MORE_TESTS = """
from shared.expect import raises
from checked import reader

def test_the_longest_text_is_read():
    assert reader.read(b"abcd") == "abcd"

def test_no_text_is_refused():
    raises(ValueError, reader.read, b"")
    error = raises(ValueError, reader.read, bytes([255]))
    assert not isinstance(error, UnicodeError)

def test_three_characters_are_nothing():
    assert reader.read(b"abc") is None
"""


def test_each_check_gives_its_mutants():
    found = [(mutant.kind, mutant.line) for mutant in mutants_of(CHECKED)]
    assert found == [
        (LIFTED, 2), (BOUNDARY, 5), (OPERAND, 5), (OPERAND, 5), (REMOVED, 6), (UNTRANSLATED, 10), (REMOVED, 11)
    ]  # fmt: skip


# In a process of its own: the tool forks, and this one may have threads.
TRIAL = """
import json, sys
from pathlib import Path
from mutation.mutants import KINDS
from mutation.run import Suite, survivors

folder = Path(sys.argv[1])
suite = Suite(folder, "checked", folder / "checked")
suite.measure()
print(json.dumps(survivors(suite, [folder / "checked" / "reader.py"], set(KINDS), jobs=1)))
"""


def unnoticed(folder, tests):
    """Return what no test notices in the module above, with these test files."""
    package = folder / "checked"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "reader.py").write_text(CHECKED)
    for name, text in tests.items():
        (folder / name).write_text(text)
    path = os.pathsep.join([str(folder), str(RUN.parents[1])])
    words = [sys.executable, "-c", TRIAL, str(folder)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tried, left = json.loads(done.stdout)
    assert tried == 7
    return left


def test_a_check_that_no_test_tries_is_reported(tmp_path):
    left = unnoticed(tmp_path, {"test_weak.py": WEAK_TESTS})
    assert [int(line.split(":")[0].split()[-1]) for line in left] == [5, 5, 10, 11]


def test_a_check_that_a_test_tries_is_not_reported(tmp_path):
    assert unnoticed(tmp_path, {"test_weak.py": WEAK_TESTS, "test_more.py": MORE_TESTS}) == []


def test_every_check_of_wire_is_missed_by_a_test_when_it_is_taken_away():
    done = subprocess.run([sys.executable, str(RUN)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
