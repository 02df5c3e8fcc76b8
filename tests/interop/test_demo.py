"""The demo is the product's first promise: a real client in a café opens the NAS's page by name, over our relay."""

import json
import subprocess
import sys
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
