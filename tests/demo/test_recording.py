"""The recording: files that stand alone, with nothing of the run's text taken for anything but text."""

import re
from xml.etree import ElementTree

import pytest

from demo.a_run import FIGURES, PLAN, happenings
from wayhome.demo import recording

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def files():
    return recording.of(PLAN, happenings(), FIGURES)


def words(text):
    return " ".join(" ".join(ElementTree.fromstring(text).itertext()).split())


def test_each_is_well_formed_self_contained_and_small(files):
    assert set(files) == {"demo.svg", "picture.svg"}
    for text in files.values():
        root = ElementTree.fromstring(text)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            *("svg", "title", "style", "g", "rect", "path", "text")
        }
        assert not re.search(r"(href|src|url\(|@import|onload)", text)
        assert len(text.encode()) < 300_000


def test_text_of_the_run_is_text_whatever_it_contains(files):
    assert "<script>alert(1)</script>" in words(files["demo.svg"])
    assert "<tsnet> & co" in words(files["demo.svg"])
    assert "<Tailscale> 1" in words(files["picture.svg"])


def test_the_film_tells_every_happening_at_its_time_and_ends_with_the_figures(files):
    told = words(files["demo.svg"])
    for expected in ("1.5 s", "She starts", "wayhome serve", "by the relay", "joined after 0.86 s"):
        assert expected in told
    # what is there at some time only has frames of its own; all of them begin and end within the film
    classes = set(re.findall(r'<g class="(f\d+-\d+)"', files["demo.svg"]))
    assert classes == set(re.findall(r"@keyframes (f\d+-\d+)", files["demo.svg"]))
    moments = [float(moment) for moment in re.findall(r"([\d.]+)%\{opacity", files["demo.svg"])]
    assert min(moments) >= 0 and max(moments) <= 100


def test_everything_that_moves_is_for_those_only_who_did_not_ask_for_less(files):
    for text in files.values():
        style = ElementTree.fromstring(text).find(f"{SVG}style").text
        outside, depth, inside = "", 0, False
        for piece in re.split(r"(\{|\})", style):
            if not inside and piece.endswith("@media(prefers-reduced-motion:no-preference)"):
                inside, depth = True, 0
                continue
            if inside:
                depth += {"{": 1, "}": -1}.get(piece, 0)
                inside = depth > 0
            else:
                outside += piece
        assert "animation" not in outside and "keyframes" not in outside
        # what such a reader sees is the end: what has gone by then is hidden
        assert "opacity:1" not in outside


def test_light_and_dark_have_their_own_colours(files):
    for text in files.values():
        light, _, dark = text.partition("@media(prefers-color-scheme:dark)")
        assert "--paper:#ffffff" in light and "--paper:#0d1117" in dark
