"""Boxes, lines and words on a grid of character cells: what the demo's picture is made of, for a terminal or an SVG.

A place is (row, column), counted from the upper left. A style is a name; who paints gives it a colour.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

Place = tuple[int, int]

# The box-drawing characters by what leaves a cell up, right, down and left: 0 nothing, 1 a light line, 2 a heavy one.
# The index is those four digits read as a number to base 3. Source: the names of U+2500 to U+257F.
_LINES = " ╴╸╷┐┑╻┒┓╶─╾┌┬┭┎┰┱╺╼━┍┮┯┏┲┳╵┘┙│┤┥╽┧┪└┴┵├┼┽┟╁╅┕┶┷┝┾┿┢╆╈╹┚┛╿┦┩┃┨┫┖┸┹┞╀╃┠╂╉┗┺┻┡╄╇┣╊╋"
_PLACE_VALUES = (27, 9, 3, 1)
_UP, _RIGHT, _DOWN, _LEFT = range(4)
LIGHT, HEAVY = 1, 2


@dataclass(frozen=True)
class Box:
    top: int
    left: int
    bottom: int
    right: int
    style: str


@dataclass(frozen=True)
class Line:
    """Straight pieces through all the places, in order."""

    places: tuple[Place, ...]
    style: str
    weight: int = LIGHT

    def cells(self) -> Iterator[Place]:
        """Yield every cell that it passes, first to last, each once."""
        yield self.places[0]
        for (row, column), (to_row, to_column) in pairwise(self.places):
            while (row, column) != (to_row, to_column):
                row += (to_row > row) - (to_row < row)
                column += (to_column > column) - (to_column < column)
                yield row, column


@dataclass(frozen=True)
class Words:
    row: int
    column: int
    text: str
    style: str


@dataclass(frozen=True)
class Drawing:
    """Painted in the order of the fields, each on top of those before: what enters a box is hidden by it."""

    rows: int
    columns: int
    lines: tuple[Line, ...] = ()
    packets: tuple[tuple[Place, str], ...] = ()  # on their way, each with its style
    boxes: tuple[Box, ...] = ()
    words: tuple[Words, ...] = ()


@dataclass
class _Cell:
    arms: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    letter: str = ""
    style: str = ""

    def glyph(self, plain: bool) -> str:
        if self.letter:
            return self.letter
        if not plain:
            return _LINES[sum(arm * value for arm, value in zip(self.arms, _PLACE_VALUES, strict=True))]
        upright, level = self.arms[_UP] or self.arms[_DOWN], self.arms[_LEFT] or self.arms[_RIGHT]
        if upright and level:
            return "+"
        if upright:
            return "#" if HEAVY in self.arms else "|"
        return "=" if HEAVY in self.arms else "-" if level else " "


def as_cells(drawing: Drawing, *, plain: bool = False) -> list[list[tuple[str, str]]]:
    """Return the drawing's rows of (character, style). plain: in ASCII, for terminals that know no other."""
    cells = [[_Cell() for _ in range(drawing.columns)] for _ in range(drawing.rows)]
    for line in drawing.lines:
        _draw_line(cells, line)
    for (row, column), style in drawing.packets:
        cells[row][column].letter, cells[row][column].style = "*" if plain else "●", style
    for box in drawing.boxes:
        _draw_box(cells, box)
    for words in drawing.words:
        for offset, letter in enumerate(words.text):
            cell = cells[words.row][words.column + offset]
            cell.letter, cell.style = letter, words.style
    return [[(cell.glyph(plain), cell.style) for cell in row] for row in cells]


def _draw_line(cells: list[list[_Cell]], line: Line) -> None:
    passed = list(line.cells())
    for (row, column), (to_row, to_column) in pairwise(passed):
        there, back = _directions(to_row - row, to_column - column)
        for cell, direction in ((cells[row][column], there), (cells[to_row][to_column], back)):
            if cell.arms[direction] <= line.weight:
                cell.arms[direction] = line.weight
                cell.style = line.style


def _draw_box(cells: list[list[_Cell]], box: Box) -> None:
    """Draw a box over what was there; a line that ends in its edge joins it."""
    for row in range(box.top + 1, box.bottom):
        for column in range(box.left + 1, box.right):
            cells[row][column] = _Cell()
    rows, columns = range(box.top, box.bottom + 1), range(box.left, box.right + 1)
    edges = [
        *((row, column, inward) for row, inward in ((box.top, _DOWN), (box.bottom, _UP)) for column in columns),
        *((row, column, inward) for column, inward in ((box.left, _RIGHT), (box.right, _LEFT)) for row in rows),
    ]
    for row, column, inward in edges:
        cells[row][column].arms[inward] = 0
        cells[row][column].letter = ""
    kept = {(row, column): cells[row][column].style for row, column, _ in edges}
    corners = ((box.top, box.left), (box.top, box.right), (box.bottom, box.right), (box.bottom, box.left))
    _draw_line(cells, Line((*corners, corners[0]), box.style))
    for (row, column), style in kept.items():
        if HEAVY in cells[row][column].arms:
            cells[row][column].style = style


def _directions(rows: int, columns: int) -> tuple[int, int]:
    """Return in which direction a step leaves its cell, and in which the next one lies open to it."""
    if rows:
        return (_DOWN, _UP) if rows > 0 else (_UP, _DOWN)
    return (_RIGHT, _LEFT) if columns > 0 else (_LEFT, _RIGHT)
