"""A run of the demo as SVG: the picture that it ended with, and a film of it.

Each file stands alone: no script, no font, nothing fetched; it takes the reader's light or dark colours. The film is
made of CSS animations, and who asked for reduced motion sees its last frame. All text of the run is escaped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise

from rich.console import Console
from rich.text import Text

from ..lab.plan import Plan
from . import stage
from .shapes import HEAVY, Box, Drawing, Line, Place, Words
from .stage import Scene
from .story import Happening

# A cell of the drawing's grid, in pixels; the letters are as wide as a cell by textLength, whatever the font.
_CELL_WIDTH, _CELL_HEIGHT = 8.4, 18
_FONT_PX = 14
_MARGIN = 24
_CAPTION_ROWS = 5
_FADE_S = 0.35
_LAST_FRAME_S = 8.0
# How long a caption stays: as in the terminal and a little longer, because it can't be scrolled back to.
_SLOWER = 1.15
_COMMAND = "$ ./inv demo"
_PACKET_GAP_PX, _PACKET_GAP_S = 64, 0.8

# name: (in the light, in the dark)
_COLOURS = {
    "paper": ("#ffffff", "#0d1117"),
    "card": ("#f6f8fa", "#161b22"),
    "edge": ("#d0d7de", "#3d444d"),
    "ink": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9198a1"),
    "wire": ("#afb8c1", "#4b535d"),
    "address": ("#0b6e8a", "#5cc3d6"),
    "mesh": ("#8250df", "#c297ff"),
    "nat": ("#8a5a00", "#d8a63a"),
    "relay": ("#b87d00", "#e8b53f"),
    "direct": ("#1a7f37", "#3fb950"),
    "lan": ("#0969da", "#58a6ff"),
}
_TEXT_COLOUR = {
    "place": "dim",
    "moment": "dim",
    "client": "ink",
    "name": "ink",
    "figure": "ink",
    "box": "ink",
    "": "ink",
}
_BOLD = ("name", "figure", "relay", "direct")


def of(plan: Plan, happenings: Sequence[Happening], figures: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the files of a run's recording: name -> text."""
    return {
        "picture.svg": picture(plan, happenings[-1].scene),
        "demo.svg": film(plan, happenings, figures),
    }


def picture(plan: Plan, scene: Scene) -> str:
    """Return the picture as it stands at one moment."""
    drawing = stage.draw(plan, scene)
    shapes = [_shape(one) for one in _elements(drawing, scene)]
    return _document(stage.ROWS, "".join(shapes), "", "The network of the demo, and the way its packets take")


@dataclass(frozen=True)
class _Packets:
    """Dots that run along a line."""

    line: Line


_Element = Line | _Packets | Box | Words


def film(plan: Plan, happenings: Sequence[Happening], figures: Sequence[tuple[str, str]]) -> str:
    """Return the run as an animation that begins again at its end."""
    starts = [0.0]
    for happening in happenings:
        starts.append(starts[-1] + _reading_s(happening))
    total_s = starts[-1] + _LAST_FRAME_S
    starts.append(total_s)
    scenes = [happening.scene for happening in happenings]
    scenes.append(scenes[-1])

    present: dict[_Element, list[int]] = {}
    for number, scene in enumerate(scenes):
        for element in _elements(stage.draw(plan, scene), scene):
            present.setdefault(element, []).append(number)
    spans = _Spans(starts)
    parts = []
    for element in sorted(present, key=_layer):
        for first, last in _runs_of(present[element]):
            parts.append(f"<g{spans.attribute(first, last)}>{_shape(element)}</g>")
    for number, happening in enumerate(happenings):
        parts.append(f"<g{spans.attribute(number, number)}>{_caption(happening)}</g>")
    parts.append(f"<g{spans.attribute(len(happenings), len(happenings))}>{_last_caption(figures)}</g>")
    rows = stage.ROWS + 1 + _CAPTION_ROWS
    parts.append(_text(1, stage.COLUMNS - len(_COMMAND) - 1, _COMMAND, "moment"))
    parts.append(_progress(rows))
    return _document(
        rows, "".join(parts), spans.style() + _progress_style(total_s), "A run of ./inv demo, as it was recorded"
    )


def _reading_s(happening: Happening) -> float:
    from .teller import reading_s

    return reading_s(happening.text) * _SLOWER


def _elements(drawing: Drawing, scene: Scene) -> list[_Element]:
    moving = [line for line in (stage.lan_line(scene), stage.mesh_line(scene.way)) if line is not None]
    return [*drawing.lines, *(_Packets(line) for line in moving), *drawing.boxes, *drawing.words]


def _layer(element: _Element) -> tuple[int, bool]:
    """Paint wires first, then what goes over them, boxes over all of it, words last."""
    order = (Line, _Packets, Box, Words).index(type(element))
    return order, isinstance(element, Line) and element.weight == HEAVY


def _runs_of(numbers: list[int]) -> Iterable[tuple[int, int]]:
    """Return the first and the last of each run of following numbers."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]


class _Spans:
    """Which frames something is seen in, as classes with an animation for each."""

    def __init__(self, starts: Sequence[float]) -> None:
        self._starts = starts
        self._last = len(starts) - 2
        self._seen: dict[tuple[int, int], str] = {}

    def attribute(self, first: int, last: int) -> str:
        """Return the class attribute of what is there from one frame to another; nothing for what always is."""
        if (first, last) == (0, self._last):
            return ""
        name = self._seen.setdefault((first, last), f"f{first}-{last}")
        return f' class="{name}"'

    def style(self) -> str:
        total_s = self._starts[-1]
        rest, moving = [], []
        for (first, last), name in self._seen.items():
            if last != self._last:
                rest.append(f".{name}{{opacity:0}}")
            begin, end = self._starts[first], self._starts[last + 1]
            steps = []
            if first > 0:
                steps += [(0.0, 0), (begin, 0)]
            steps.append((begin + (_FADE_S if first > 0 else 0), 1))
            # Gone before the next one comes: two texts in one place can't be read.
            steps += [(end, 1)] if last == self._last else [(end - _FADE_S, 1), (end, 0), (total_s, 0)]
            frames = "".join(f"{100 * at / total_s:.2f}%{{opacity:{value}}}" for at, value in steps)
            moving.append(f".{name}{{animation:{name} {total_s:.1f}s linear infinite}}@keyframes {name}{{{frames}}}")
        return "".join(rest) + _unless_reduced("".join(moving))


def _unless_reduced(style: str) -> str:
    return f"@media(prefers-reduced-motion:no-preference){{{style}}}"


def _centre(place: Place) -> tuple[float, float]:
    row, column = place
    return _MARGIN + (column + 0.5) * _CELL_WIDTH, _MARGIN + (row + 0.5) * _CELL_HEIGHT


def _path(line: Line) -> str:
    points = [_centre(place) for place in line.places]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _shape(element: _Element) -> str:
    if isinstance(element, Line):
        heavy = " heavy" if element.weight == HEAVY else ""
        return f'<path class="l {element.style}{heavy}" d="{_path(element)}"/>'
    if isinstance(element, _Packets):
        return f'<path class="l p {element.line.style}" d="{_path(element.line)}"/>'
    if isinstance(element, Box):
        (x, y), (right, bottom) = _centre((element.top, element.left)), _centre((element.bottom, element.right))
        return f'<rect class="b" x="{x:.1f}" y="{y:.1f}" width="{right - x:.1f}" height="{bottom - y:.1f}" rx="7"/>'
    words = _text(element.row, element.column, element.text, element.style)
    if element.style in ("relay", "direct"):
        # the names of ways stand on their lines
        x, y = _MARGIN + element.column * _CELL_WIDTH - 4, _MARGIN + element.row * _CELL_HEIGHT
        width = len(element.text) * _CELL_WIDTH + 8
        return f'<rect class="halo" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_CELL_HEIGHT}"/>{words}'
    return words


def _text(row: int, column: int, text: str, style: str) -> str:
    """Return words on the grid; spaces at either end only move what is between them."""
    shown = text.strip()
    column += len(text) - len(text.lstrip())
    if not shown:
        return ""
    x = _MARGIN + column * _CELL_WIDTH
    y = _MARGIN + (row + 0.5) * _CELL_HEIGHT + _FONT_PX * 0.35
    colour = _TEXT_COLOUR.get(style, style)
    bold = " bold" if style in _BOLD else ""
    width = len(shown) * _CELL_WIDTH
    return f'<text class="{colour}{bold}" x="{x:.1f}" y="{y:.1f}" textLength="{width:.1f}">{escape(shown)}</text>'


def _caption(happening: Happening) -> str:
    top = stage.ROWS + 1
    text = Text.from_markup(happening.text)
    wrapped = text.wrap(Console(width=stage.COLUMNS), stage.COLUMNS - 9)
    parts = [_text(top, 0, f"{happening.at_s:5.1f} s", "moment")]
    for number, line in enumerate(wrapped):
        for column, part, style in _styled(line):
            parts.append(_text(top + number, 9 + column, part, style))
    return "".join(parts)


def _styled(line: Text) -> Iterable[tuple[int, str, str]]:
    """Yield (column, text, style) for each piece of a line that has one style."""
    cuts = sorted({0, len(line), *(edge for span in line.spans for edge in (span.start, span.end))})
    for start, end in pairwise(cuts):
        inside = [str(span.style) for span in line.spans if span.start <= start and end <= span.end]
        yield start, line.plain[start:end], inside[-1] if inside else ""


def _last_caption(figures: Sequence[tuple[str, str]]) -> str:
    """Return what was measured, in two columns."""
    top, half = stage.ROWS + 1, (len(figures) + 1) // 2
    parts = []
    for number, (what, how_much) in enumerate(figures):
        row, left = top + number % half, 40 * (number // half)
        parts.append(_text(row, left, what, "moment"))
        parts.append(_text(row, left + len(what) + 1, how_much, "figure"))
    return "".join(parts)


def _width() -> float:
    return 2 * _MARGIN + stage.COLUMNS * _CELL_WIDTH


def _progress(rows: int) -> str:
    y = 2 * _MARGIN + rows * _CELL_HEIGHT - 6
    return f'<rect class="progress" x="{_MARGIN}" y="{y}" width="{_width() - 2 * _MARGIN:.1f}" height="2" rx="1"/>'


def _progress_style(total_s: float) -> str:
    return _unless_reduced(
        f".progress{{transform-origin:{_MARGIN}px 0;animation:progress {total_s:.1f}s linear infinite}}"
        "@keyframes progress{from{transform:scaleX(0)}to{transform:scaleX(1)}}"
    )


def _document(rows: int, content: str, style: str, title: str) -> str:
    width, height = _width(), 2 * _MARGIN + rows * _CELL_HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img"><title>{escape(title)}</title><style>{_style()}{style}</style>'
        f'<rect class="paper" x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1}" rx="12"/>'
        f"{content}</svg>\n"
    )


def _style() -> str:
    variables = [";".join(f"--{name}:{pair[number]}" for name, pair in _COLOURS.items()) for number in (0, 1)]
    words = "".join(f"text.{name}{{fill:var(--{name})}}" for name in _COLOURS)
    lines = "".join(f".l.{name}{{stroke:var(--{name})}}" for name in ("wire", "relay", "direct", "lan"))
    return (
        f":root{{{variables[0]}}}@media(prefers-color-scheme:dark){{:root{{{variables[1]}}}}}"
        f"text{{font:{_FONT_PX}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "white-space:pre}"
        f"{words}.bold{{font-weight:600}}"
        ".halo{fill:var(--paper)}"
        ".paper{fill:var(--paper);stroke:var(--edge)}.b{fill:var(--card);stroke:var(--edge);stroke-width:1.2}"
        ".l{fill:none;stroke-width:1.5;stroke-linejoin:round}.l.heavy{stroke-width:3.5}"
        f"{lines}"
        f".l.p{{stroke-width:9;stroke-linecap:round;stroke-dasharray:.1 {_PACKET_GAP_PX - 0.1}}}"
        ".progress{fill:var(--edge)}"
    ) + _unless_reduced(
        f".p{{animation:p {_PACKET_GAP_S}s linear infinite}}@keyframes p{{to{{stroke-dashoffset:-{_PACKET_GAP_PX}}}}}"
    )
