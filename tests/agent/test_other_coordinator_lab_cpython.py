"""The real daemon, under either Python, joins a coordinator that is not ours; the kernel does what that one says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wayhome.images.apt_root import FetchFailed, NoDebianMirror
from wayhome.lab.daemon_command import RUNTIMES, Runtime, wayhomed_words

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("runtime", RUNTIMES, ids=["on MicroPython", "on CPython"])
def test_it_joins_sees_peers_and_has_their_routes_and_the_filter_in_the_kernel(tmp_path: Path, runtime: Runtime):
    try:
        wayhomed_words(runtime)
    except (NoDebianMirror, FetchFailed) as error:
        pytest.skip(str(error))
    paths = ":".join(str(ROOT / folder) for folder in ("firmware", "host_tools", "tests"))
    done = subprocess.run(
        ["unshare", "--net", "env", f"PYTHONPATH={paths}", sys.executable]
        + [str(ROOT / "tests" / "shared" / "odd_daemon.py"), runtime, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    log = (tmp_path / "log").read_text()
    assert done.returncode == 0, done.stderr[-3000:] + log[-3000:]
    seen = json.loads(done.stdout)
    assert seen["link"] == "https://odd.example/a/1"
    status = seen["status"]
    assert status["runtime"].lower().startswith(runtime)
    assert sorted(peer["name"] for peer in status["peers"]) == ["odd-2", "odd-3"]
    assert "10.20.0.0/16" in seen["routes"] and "100.64.0.2" in seen["routes"]
    assert "ip saddr 100.64.0.2 ct original ip daddr 192.168.1.0-192.168.1.255" in seen["filter"]
    assert "Traceback" not in log
