"""The demo is the product's first promise: a real client in a café opens the NAS's page by name, over our relay."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhome.demo.story import NAS, Story

pytestmark = [pytest.mark.lab, pytest.mark.interop]

ROOT = Path(__file__).parents[2]


def test_a_real_client_opens_the_nas_by_name_through_nats_board_and_relay():
    told: list[str] = []
    story = Story(told.append)
    try:
        figures = story.run()
        assert story.lab is not None
        visits = story.lab.host("nas").web_log()
    finally:
        story.clean_up()
    assert (figures.lan_url, figures.lan_http_status, figures.path) == ("http://nas/", 200, "relay")
    # the NAS saw the board beside it, not a mesh address: it needs no route and no setting
    assert {visit["client"] for visit in visits} == {"192.168.1.2"}
    assert figures.joined_s > 0 and figures.first_reply_s > 0 and figures.relayed_rtt_ms > 0
    assert "tsnet" in figures.client and "CPython" in figures.router_runtime
    relayed = next(line for line in told if "through our relay" in line)
    assert int(relayed.split(" bytes")[0].split()[-1]) > 500, relayed
    assert NAS in " ".join(told)


def test_the_demos_command_writes_what_it_measured(tmp_path: Path):
    file = tmp_path / "demo.json"
    words = [sys.executable, "-m", "wayhome.demo", "--json", str(file)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(json.loads(file.read_text())) == {
        *("joined_s", "first_reply_s", "lan_http_status", "lan_url", "relayed_rtt_ms", "direct_rtt_ms"),
        *("path", "went_direct_s", "client", "router_runtime"),
    }
    assert "http://nas/ answers 200" in " ".join(done.stdout.split())


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own are too deep for the sockets in them
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


def inv_demo(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start ./inv demo as a terminal does: in a process group of its own; what it writes goes below folder."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("inv"), "demo", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "80"},
        start_new_session=True,
    )


@pytest.mark.parametrize("moment", ["wayhome serve runs", "laptop joins", "answers 200"])
def test_ctrl_c_in_the_middle_leaves_nothing(folder: Path, moment: str):
    with inv_demo(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert rest.endswith("Stopped; taking the lab down.\n")
    assert list(folder.iterdir()) == []
    running = subprocess.run(["pgrep", "--full", str(folder)], capture_output=True, text=True, check=False)
    assert running.stdout == ""


def test_the_hints_of_keep_work_as_they_stand_there(folder: Path):
    with inv_demo(folder, "--keep") as process:
        assert process.stdout is not None
        told = process.stdout.read()
    assert process.returncode == 0, told
    hints = [line.strip() for line in told.partition("is still up")[2].splitlines() if line.startswith("    ")]
    answers = [
        subprocess.run(["sh", "-c", hint], input="exit 7\n", capture_output=True, text=True, timeout=60, check=False)
        for hint in hints
    ]
    page, board_view, nodes, shell, down = answers
    assert page.stdout == "hello from nas; you are 192.168.1.2\n", page
    assert "laptop" in board_view.stdout, board_view
    assert "board" in nodes.stdout, nodes
    assert shell.returncode == 7, shell
    assert down.returncode == 0, down
    assert list(folder.iterdir()) == []
