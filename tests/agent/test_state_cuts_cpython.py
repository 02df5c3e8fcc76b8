"""The state directory when its process is killed or the power goes, at any moment: at each call that changes it."""

import json
import re
import subprocess

import pytest

from shared.cuts import CALLS, each_cut, written_paths
from wayhome.lab.daemon_command import RUNTIMES, wayhomed_words
from wayhomed.agent.state import State

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
# two netmaps, the second of several pieces; then a time, and a key
PEERS = {"small.": 1, "large.": 250}
NETMAP_SCRIPT = f"""
import json, sys
from wayhomed.agent.state import State
from wayhomed.core.map_response import read_response
from wayhomed.core.netmap import Netmap
state = State(sys.argv[1])
state.open()
for name, peers in {list(PEERS.items())}:
    node = {{"ID": 1, "Name": name, "Key": "nodekey:" + "11" * 32, "Addresses": ["100.64.0.1/32"]}}
    fields = {{"Node": node, "Peers": []}}
    for number in range(peers):
        key = "nodekey:" + "%064x" % (number + 2)
        fields["Peers"].append(
            {{"ID": number + 2, "Name": "peer%d." % number, "Key": key, "Addresses": ["100.64.1.%d/32" % number]}}
        )
    netmap = Netmap()
    netmap.apply(read_response(json.dumps(fields).encode(), {{}}), 0)
    file = state.begin_netmap()
    for piece in netmap.json_pieces():
        file.write(piece)
    file.keep()
state.save_time({{"TimeMs": 1}})
state.save_disco(b"a" * 32)
"""


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


@pytest.fixture
def words(runtime, tmp_path):
    """Return what changes the state in the folder `state` three times."""
    return script_words(runtime, tmp_path, SCRIPT)


def script_words(runtime, tmp_path, text):
    script = tmp_path / "change.py"
    script.write_text(text)
    return [*wayhomed_words(runtime)[:-1], str(script), str(tmp_path / "state")]


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
    names = ["board2"]
    for _call in each_cut(words, [*written_paths(folder, "state.json"), folder / "lock"], tmp_path / "trace"):
        after = opened(folder)
        assert after.machine_private == before.machine_private
        assert after.node_private == before.node_private
        names.append(after.prefs.hostname)
        json.loads((folder / "state.json").read_bytes())
    assert len(names) > 12 and set(names) == {"board0", "board1", "board2"}


def test_whenever_it_is_killed_the_netmap_is_whole_and_so_are_the_time_and_the_tunnels_key(runtime, tmp_path):
    folder = tmp_path / "state"
    words = script_words(runtime, tmp_path, NETMAP_SCRIPT)
    subprocess.run(words, check=True, timeout=60)
    seen = set()
    paths = written_paths(folder, "netmap.json", "time.json", "tunnel.json")
    for _call in each_cut(words, paths, tmp_path / "trace"):
        state = opened(folder)
        netmap = state.load_netmap()
        assert len(netmap.peers) == PEERS[netmap.node.name], netmap.node.name
        assert state.load_time() == {"TimeMs": 1} and state.load_disco() == b"a" * 32
        seen.add(netmap.node.name)
    assert seen == set(PEERS)


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
