"""The demo is the product's first promise: a real client in a café opens the NAS's page by name, straight through."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.text import Text

from wayhome.demo.evidence import straight_flow
from wayhome.demo.stage import Way
from wayhome.demo.story import FILM_BYTES_A_S, Happening, Story

pytestmark = [pytest.mark.lab, pytest.mark.interop]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def played() -> Iterator[tuple[Story, list[Happening]]]:
    told: list[Happening] = []
    story = Story(told.append)
    try:
        story.run()
        yield story, told
    finally:
        story.clean_up()


def text_of(told: list[Happening]) -> str:
    return " ".join(Text.from_markup(happening.text).plain for happening in told)


def test_a_real_client_opens_the_nas_by_name_through_nats_and_board(played):
    story, told = played
    figures = story.figures
    assert (figures.lan_url, figures.lan_http_status) == ("http://nas/", 200)
    # the NAS saw the board beside it, not a mesh address: it needs no route and no setting
    visits = [visit for visit in story.lab.host("nas").web_log() if visit["method"] == "GET"]
    assert {visit["client"] for visit in visits} == {"192.168.1.2"}
    assert 0 < figures.joined_s <= figures.first_reply_s
    assert "tsnet" in figures.client and "Python" in figures.router_runtime
    assert "http://nas/ and it answers 200" in text_of(told)


def test_the_way_goes_from_the_relay_straight_through_and_by_the_relay_again_and_back(played):
    story, told = played
    figures = story.figures
    assert figures.path == "direct" and figures.went_direct_s >= figures.first_reply_s
    # the plan's wires: 116 ms there and back by the relay's town, 28 ms past it
    assert figures.relayed_rtt_ms > 116 > figures.direct_rtt_ms > 28
    ways = [way for way, _ in groupby(happening.scene.way for happening in told)]
    assert ways == [Way.NONE, Way.RELAY, Way.DIRECT, Way.RELAY, Way.DIRECT]


def test_that_it_was_straight_is_told_by_what_stands_in_between(played):
    story, told = played
    home = straight_flow(story.lab.host("home-router"), "203.0.113.30")
    cafe = straight_flow(story.lab.host("cafe-router"), "203.0.113.20")
    assert home is not None and home.source[0] == "192.168.1.2"
    assert cafe is not None and cafe.source[0] == "192.168.1.50"
    # the whole film but for what came while UDP was blocked
    assert home.bytes + home.reply_bytes > FILM_BYTES_A_S
    assert "the relay counted 0 packets" in text_of(told)


def test_the_nats_are_told_as_they_were_measured(played):
    _, told = played
    last = told[-1].scene
    assert last.carrier_nat == last.home_nat == last.cafe_nat == "lets in answers only"
    assert "the café's gives a program one port outside (the same number as inside), whomever it calls" in text_of(told)


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


@pytest.mark.parametrize("moment", ["starts wayhome serve", "laptop joins", "answers 200", "In mid-film"])
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


def test_the_command_writes_what_it_measured_draws_it_and_gives_hints_that_work_as_they_stand(folder: Path):
    with inv_demo(folder, "--keep", "--json", str(folder / "demo.json"), "--record", str(folder)) as process:
        assert process.stdout is not None
        told = process.stdout.read()
    assert process.returncode == 0, told
    assert set(json.loads((folder / "demo.json").read_text())) == {
        *("joined_s", "first_reply_s", "lan_http_status", "lan_url", "relayed_rtt_ms", "direct_rtt_ms"),
        *("path", "went_direct_s", "client", "router_runtime"),
    }
    for name in ("demo.svg", "picture.svg"):
        assert ElementTree.fromstring((folder / name).read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    story, _, hints = told.partition("is still up")
    # plain text in a pipe: no colours, no cursor that moves, and it fits 80 columns
    assert "\x1b" not in told and max(map(len, story.splitlines()[:-1])) <= 80
    assert "http://nas/ and it answers 200" in " ".join(story.split())
    page, board_view, nodes, shell, down = [
        subprocess.run(["sh", "-c", hint], input="exit 7\n", capture_output=True, text=True, timeout=60, check=False)
        for hint in (line.strip() for line in hints.splitlines() if line.startswith("    "))
    ]
    assert page.stdout == "hello from nas; you are 192.168.1.2\n", page
    assert "laptop" in board_view.stdout, board_view
    assert "board" in nodes.stdout, nodes
    assert shell.returncode == 7, shell
    assert down.returncode == 0, down
    assert sorted(path.name for path in folder.iterdir()) == ["demo.json", "demo.svg", "picture.svg"]
