"""Boxes, lines and words on a grid of characters."""

import unicodedata

from wayhome.demo.shapes import HEAVY, LIGHT, Box, Drawing, Line, Words, as_cells


def text(drawing, plain=False):
    return ["".join(glyph for glyph, _ in row).rstrip() for row in as_cells(drawing, plain=plain)]


def test_a_line_bends_and_a_box_has_corners():
    drawing = Drawing(3, 9, (Line(((0, 0), (0, 2), (2, 2)), "wire"),), boxes=(Box(0, 4, 2, 8, "box"),))
    assert text(drawing) == ["╶─┐ ┌───┐", "  │ │   │", "  ╵ └───┘"]


def test_what_ends_in_a_boxs_edge_joins_it_and_what_goes_through_is_hidden():
    drawing = Drawing(5, 5, (Line(((0, 2), (4, 2)), "wire"),), boxes=(Box(1, 0, 3, 4, "box"),))
    assert text(drawing) == ["  ╷", "┌─┴─┐", "│   │", "└─┬─┘", "  ╵"]


def test_a_heavy_line_over_a_light_one_keeps_both_weights_apart_where_they_part():
    wire = Line(((0, 0), (0, 4)), "wire", LIGHT)
    way = Line(((1, 2), (0, 2), (0, 4)), "relay", HEAVY)
    drawing = Drawing(2, 5, (wire, way))
    assert text(drawing) == ["╶─┲━╸", "  ╹"]
    styles = [style for _, style in as_cells(drawing)[0]]
    assert styles == ["wire", "wire", "relay", "relay", "relay"]


def test_packets_are_seen_on_lines_but_not_inside_boxes_and_words_lie_on_top():
    drawing = Drawing(
        3,
        9,
        (Line(((1, 0), (1, 8)), "wire"),),
        packets=(((1, 1), "relay"), ((1, 4), "relay")),
        boxes=(Box(0, 3, 2, 6, "box"),),
        words=(Words(1, 4, "ab", "name"),),
    )
    assert text(drawing)[1] == "╶●─┤ab├─╴"


def test_in_plain_ascii_nothing_else_is_drawn():
    drawing = Drawing(3, 6, (Line(((0, 0), (0, 4)), "wire", HEAVY),), boxes=(Box(0, 2, 2, 5, "box"),))
    assert all(character.isascii() for line in text(drawing, plain=True) for character in line)


def test_every_line_character_is_the_one_that_unicode_names_so():
    """A second opinion on the table of 80 characters: the names say which arms are light and which heavy."""
    arms = {"UP": (0,), "RIGHT": (1,), "DOWN": (2,), "LEFT": (3,), "VERTICAL": (0, 2), "HORIZONTAL": (1, 3)}
    ends = ((0, 1), (1, 2), (2, 1), (1, 0))  # up, right, down, left of (1, 1)
    for weights in ((a, b, c, d) for a in range(3) for b in range(3) for c in range(3) for d in range(3)):
        lines = [Line(((1, 1), end), "wire", weight) for end, weight in zip(ends, weights, strict=True) if weight]
        glyph = as_cells(Drawing(3, 3, tuple(lines)))[1][1][0]
        if not any(weights):
            assert glyph == " "
            continue
        words = unicodedata.name(glyph).removeprefix("BOX DRAWINGS ").replace(" AND ", " ").split()
        named, waiting, weight = [0, 0, 0, 0], [], 0
        leads = words[0] in ("LIGHT", "HEAVY")
        for word in words:
            if word in ("LIGHT", "HEAVY"):
                weight = 1 if word == "LIGHT" else 2
                for place in waiting:
                    named[place] = weight
                waiting = []
            elif leads:
                for place in arms[word]:
                    named[place] = weight
            else:
                waiting += arms[word]
        assert tuple(named) == weights, glyph
