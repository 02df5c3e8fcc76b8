"""The real daemon, under either Python, against a coordinator that attacks it: it stays small, and its tunnel stays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wayhome.images.apt_root import FetchFailed, NoDebianMirror
from wayhome.lab.daemon_command import RUNTIMES, Runtime, wayhomed_words

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
# A hundred thousand peers are 10 MB of JSON, the others as much and more: who held one of them would show.
MORE_KIB = 8 * 1024


@pytest.mark.parametrize("runtime", RUNTIMES, ids=["on MicroPython", "on CPython"])
def test_a_hostile_coordinator_neither_fills_the_daemons_memory_nor_ends_its_tunnel(tmp_path: Path, runtime: Runtime):
    try:
        wayhomed_words(runtime)
    except (NoDebianMirror, FetchFailed) as error:
        pytest.skip(str(error))
    paths = ":".join(str(ROOT / folder) for folder in ("firmware", "host_tools", "tests"))
    done = subprocess.run(
        ["unshare", "--net", "env", f"PYTHONPATH={paths}", sys.executable]
        + [str(ROOT / "tests" / "shared" / "hostile_daemon.py"), runtime, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    print(f"{seen['runtime']}: {seen['before_kib']} KiB before, {seen['peak_kib']} KiB at most")
    assert seen["runtime"].lower().startswith(runtime)
    assert seen["peak_kib"] - seen["before_kib"] < MORE_KIB
    assert seen["same_interface"]
    assert seen["peers"] == ["laptop", "phone"], "what was there stayed, and an honest word is believed again"
    log = "\n".join(seen["log"])
    for part in (
        "Peers[4096]: more than 4096 peers",
        "a map frame of 4294967295 bytes",
        "a value of more than",
        "more than 4096 rules",
        "nested too deep",
        "digits",
    ):
        assert part in log, part
    assert "Traceback" not in (tmp_path / "log").read_text()
