"""Telling the story: on a terminal with a living picture and time to read, in a pipe as plain text at once."""

import io
import queue
import sys
import threading
import time
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import render as markup
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from ..lab.plan import Plan
from . import stage
from .shapes import Drawing, as_cells
from .stage import Scene
from .story import Happening

# The names of styles that the picture and the story use, as a terminal shows them.
THEME = Theme(
    {
        "wire": "dim",
        "box": "none",
        "name": "bold",
        "address": "cyan",
        "place": "dim",
        "client": "none",
        "nat": "yellow",
        "mesh": "magenta",
        "lan": "blue",
        "relay": "bold yellow",
        "direct": "bold green",
        "figure": "bold",
        "moment": "dim",
    }
)
_FRAMES_A_SECOND = 8
# Rows that a terminal needs beside the picture for the newest of the story.
_ROWS_FOR_WORDS = 8
# Time for a reader: what it takes to look at a line at all, and what each word of it adds.
_LOOK_S, _WORD_S, _LONGEST_S = 0.8, 0.09, 3.5


def console() -> Console:
    """Return the console that the demo writes to; one that is no terminal gets 80 columns and no colours."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a terminal of another encoding shows a ? and not a traceback
        sys.stdout.reconfigure(errors="replace")
    found = Console(highlight=False, theme=THEME)
    if not found.is_terminal and found.width < 80:
        found.width = 80
    return found


def reading_s(text: str) -> float:
    """Return how long somebody needs to read a line of the story."""
    return min(_LONGEST_S, _LOOK_S + _WORD_S * len(markup(text).plain.split()))


def line(happening: Happening) -> RenderableType:
    """Return a happening as it stands in the terminal."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(f"[moment]{happening.at_s:4.1f} s[/]", happening.text)
    return row


def picture(drawing: Drawing, *, plain: bool) -> Text:
    """Return a drawing as text with the styles' names."""
    text = Text(no_wrap=True, overflow="crop")
    for number, row in enumerate(as_cells(drawing, plain=plain)):
        text.append("\n" if number else "")
        end = max((index for index, (glyph, _) in enumerate(row) if glyph != " "), default=-1) + 1
        for style, cells in groupby(row[:end], lambda cell: cell[1]):
            text.append("".join(glyph for glyph, _ in cells), style or None)
    return text


class Teller:
    """Tells happenings in a thread of its own, so that no reader's pause delays what is being measured."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._happenings: queue.SimpleQueue[Happening | None] = queue.SimpleQueue()
        self._scene = Scene()
        self._hurry = threading.Event()
        self._silent = False
        self._ended = False  # nothing moves in the last frame, which stays
        self._thread = threading.Thread(target=self._tell_all, daemon=True)
        on_terminal = console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()
        self._moves = on_terminal and console.height >= stage.ROWS + _ROWS_FOR_WORDS and console.width > stage.COLUMNS
        self._pauses = on_terminal

    def start(self) -> None:
        self._thread.start()

    def tell(self, happening: Happening) -> None:
        self._happenings.put(happening)

    def finish(self) -> None:
        """Return once everything has been told, in its own time."""
        self._happenings.put(None)
        # In pieces, so that Ctrl-C is heard.
        while self._thread.is_alive():
            self._thread.join(0.1)

    def hurry(self) -> None:
        """Tell what is left without a pause, then return: something is waiting to be said."""
        self._hurry.set()
        self.finish()

    def fall_silent(self) -> None:
        """Stop telling."""
        self._silent = True
        self.hurry()

    def _tell_all(self) -> None:
        if self._moves:
            with Live(
                console=self._console,
                get_renderable=self._frame,
                refresh_per_second=_FRAMES_A_SECOND,
                vertical_overflow="crop",
            ):
                self._tell_each()
                self._ended = True
        else:
            self._print_picture()
            self._tell_each()

    def _tell_each(self) -> None:
        while (happening := self._happenings.get()) is not None:
            if self._silent:
                continue
            turned = happening.scene.way is not self._scene.way
            self._scene = happening.scene
            self._console.print(line(happening))
            if turned and not self._moves:
                self._print_picture()
            if self._pauses:
                self._hurry.wait(reading_s(happening.text))

    def _print_picture(self) -> None:
        self._console.print()
        self._console.print(picture(stage.draw(self._plan, self._scene), plain=self._console.options.ascii_only))
        self._console.print()

    def _frame(self) -> RenderableType:
        drawing = stage.draw(self._plan, self._scene)
        step = int(time.monotonic() * _FRAMES_A_SECOND)
        if not self._ended:
            drawing = stage.with_packets(drawing, self._scene, step)
        return Group("", picture(drawing, plain=self._console.options.ascii_only))
