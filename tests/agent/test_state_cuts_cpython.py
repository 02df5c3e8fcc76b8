"""The state directory when its process is killed or the power goes, at any moment: at each call that changes it."""

import json
import re
import subprocess

import pytest

from wayhome.lab.daemon_command import RUNTIMES, wayhomed_words
from wayhomed.agent.state import State

# what changes files, or forces them to disk
CALLS = "openat,open,write,fsync,rename,renameat,unlink,unlinkat,mkdir,mkdirat,fchmod,chmod,ftruncate"
SCRIPT = """
import sys
from wayhomed.agent.state import State
from wayhomed.core import prefs
state = State(sys.argv[1])
state.open()
for number in range(3):
    state.said = state.prefs = prefs.changed(state.prefs, {"Hostname": "board%d" % number})
    state.save()
"""


@pytest.fixture(params=RUNTIMES)
def words(request, tmp_path):
    """Return what changes the state in the folder `state` three times."""
    script = tmp_path / "change.py"
    script.write_text(SCRIPT)
    return [*wayhomed_words(request.param)[:-1], str(script), str(tmp_path / "state")]


def opened(path):
    state = State(str(path))
    state.open()
    state.close()
    return state


def test_whenever_it_is_killed_keys_and_settings_are_the_old_or_the_new_ones(words, tmp_path):
    folder = tmp_path / "state"
    subprocess.run(words, check=True, timeout=60)
    before = opened(folder)
    assert before.prefs.hostname == "board2"
    names = [b"board2"]
    trace = tmp_path / "trace"
    base = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={CALLS}", "-P", str(folder)]
    base += [word for name in ("state.json", "state.json.new", "lock") for word in ("-P", str(folder / name))]
    subprocess.run([*base, *words], check=True, timeout=60)
    made = re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)
    assert len(made) >= 12, trace.read_text()
    # strace counts the calls of each name by themselves
    for call, when in [(call, made[:at].count(call) + 1) for at, call in enumerate(made)]:
        inject = ["-e", f"inject={call}:signal=KILL:when={when}"]
        done = subprocess.run([*base, *inject, *words], check=False, timeout=60, capture_output=True)
        assert done.returncode != 0, (call, when)
        after = opened(folder)
        assert after.machine_private == before.machine_private
        assert after.node_private == before.node_private
        names.append(after.prefs.hostname.encode())
        json.loads((folder / "state.json").read_bytes())
    assert set(names) == {b"board0", b"board1", b"board2"}


def test_a_first_start_that_is_killed_can_be_made_again(words, tmp_path):
    trace = tmp_path / "trace"
    for call in ("mkdir", "openat", "fchmod", "write", "fsync", "rename"):
        for when in (1, 2):
            folder = tmp_path / f"state-{call}-{when}"
            base = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={CALLS}", "-P", str(folder)]
            base += [word for name in ("state.json", "state.json.new", "lock") for word in ("-P", str(folder / name))]
            inject = ["-e", f"inject={call}:signal=KILL:when={when}"]
            subprocess.run([*base, *inject, *words[:-1], str(folder)], check=False, timeout=60, capture_output=True)
            assert len(opened(folder).machine_private) == 32


def test_what_is_renamed_is_on_disk_before_and_the_folder_afterwards(words, tmp_path):
    subprocess.run(words, check=True, timeout=60)
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=write,fsync,rename,renameat,renameat2", *words],
        check=True,
        timeout=60,
    )
    steps = []
    for line in trace.read_text().splitlines():
        found = re.search(r"(write|fsync|rename)\w*\(.*?(state\.json\.new|state)\b[>\"]", line)
        if found:
            steps.append((found[1], found[2]))
    new = "state.json.new"
    once = [("write", new), ("fsync", new), ("rename", new), ("fsync", "state")]
    assert [step for step in steps if step[0] != "write" or step[1] == new] == once * 3, steps
