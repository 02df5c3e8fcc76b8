"""Telling: plain text in a pipe; on a terminal colours, a picture that moves, and never a wait for who measures."""

import io
import sys

import pytest
from rich.console import Console

from demo.a_run import PLAN, happenings
from wayhome.demo import teller


def tell(console, *, then="finish"):
    telling = teller.Teller(console, PLAN)
    telling.start()
    for happening in happenings():
        telling.tell(happening)
    getattr(telling, then)()


@pytest.fixture
def on_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    # nobody reads here
    monkeypatch.setattr(teller, "reading_s", lambda text: 0.0)


def terminal(width=90, height=50, **more):
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=height,
        theme=teller.THEME,
        legacy_windows=False,
        **more,
    )


def test_a_pipe_gets_plain_text_of_80_columns_and_the_picture_whenever_the_way_changes():
    console = Console(file=io.StringIO(), width=80, theme=teller.THEME)
    tell(console)
    lines = console.file.getvalue().splitlines()
    assert "\x1b" not in console.file.getvalue()
    assert max(map(len, lines)) <= 80
    assert sum("a small rented server" in line for line in lines) == 3
    words = " ".join(" ".join(lines).split())
    assert "1.5 s She starts wayhome serve on a server" in words
    assert "straight through & [no markup] <script>" in words


def test_a_terminal_gets_colours_and_a_picture_that_is_drawn_again(on_terminal):
    console = terminal(color_system="standard")
    tell(console)
    shown = console.file.getvalue()
    assert "\x1b[1;32m" in shown  # what goes straight is green
    assert "\x1b[1A" in shown  # the picture stays where it is
    assert shown.rstrip().endswith("┘\x1b[0m\x1b[?25h") or "\x1b[?25h" in shown[-200:]  # the cursor is back


def test_no_color_is_respected(on_terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal()
    tell(console)
    assert not any(f"\x1b[{code}m" in console.file.getvalue() for code in ("33", "32", "1;33", "1;32", "36", "35"))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (70, 60)])
def test_a_terminal_without_room_for_both_gets_the_picture_between_the_words(on_terminal, width, height):
    console = terminal(width=width, height=height)
    tell(console)
    assert "\x1b[1A" not in console.file.getvalue()
    assert console.file.getvalue().count("a small rented server") == 3


def test_what_is_left_is_told_at_once_when_something_waits_to_be_said(on_terminal, monkeypatch):
    monkeypatch.setattr(teller, "reading_s", lambda text: 3600.0)
    console = terminal()
    tell(console, then="hurry")
    assert "straight through" in console.file.getvalue()


def test_falling_silent_tells_nothing_more_and_may_be_said_twice():
    console = Console(file=io.StringIO(), width=80, theme=teller.THEME)
    telling = teller.Teller(console, PLAN)
    telling.start()
    telling.fall_silent()
    before = console.file.getvalue()
    telling.tell(happenings()[0])
    telling.fall_silent()
    assert console.file.getvalue() == before


def test_longer_lines_get_more_time_but_not_without_end():
    short, long = (teller.reading_s(f"[name]{'word ' * count}[/]") for count in (3, 12))
    assert 0 < short < long <= teller.reading_s("word " * 1000) < 5
