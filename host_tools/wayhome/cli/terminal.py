"""Answers as people and scripts read them: tables and sentences on a terminal, JSON on request."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..visible_text import visible


def print_json(answer: object) -> None:
    """Print one JSON document. Characters beyond ASCII are escaped: a stranger's text can't steer the terminal here."""
    print(json.dumps(answer, indent=2, ensure_ascii=True))


def say(sentence: str) -> None:
    """Print a sentence that may hold a stranger's text; nothing in it is read as markup or as a control character."""
    print(visible(sentence))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | list[str]]], when_empty: str) -> None:
    """Print a table, or the sentence `when_empty` if it has no rows. A cell is plain text, or a list of lines."""
    rows = list(rows)
    if not rows:
        say(when_empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(text) for text in row))
    _console().print(table)


def print_fields(fields: Iterable[tuple[str, str | list[str]]]) -> None:
    """Print one thing's fields, a name and a text each, or a name and lines."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in fields:
        table.add_row(name, _cell(text))
    _console().print(table)


def width() -> int:
    """Return how many columns a table may take."""
    return _console().width


def _console() -> Console:
    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        # into a pipe nothing is folded or cut to the width of a terminal that isn't there
        console.width = 10_000
    return console


def _cell(content: str | list[str]) -> Text:
    # A line break within a text is a stranger's: spelt out like all that would move the cursor.
    lines = [content] if isinstance(content, str) else content
    return Text("\n".join(visible(line) for line in lines))


def ago(moment: datetime, now: datetime) -> str:
    """Return a past or coming moment as people say it: "3 min ago", "in 2 d"."""
    distance = abs(now - moment)
    if distance < timedelta(minutes=1):
        words = f"{distance.seconds} s"
    elif distance < timedelta(hours=1):
        words = f"{distance.seconds // 60} min"
    elif distance < timedelta(days=1):
        words = f"{distance.seconds // 3600} h"
    else:
        words = f"{distance.days} d"
    return f"in {words}" if moment > now else f"{words} ago"


def now() -> datetime:
    """Return the present moment, which `ago` and the tables count from."""
    return datetime.now(UTC)
