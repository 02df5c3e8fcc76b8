"""The picture of a plan."""

import json

import pytest
from rich.console import Console

from wayhome.lab import drawing, plan


def draw(name):
    console = Console(width=120, record=True, file=None, force_terminal=False, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(drawing.picture(plan.load(name)))
    return captured.get()


def test_what_lies_behind_a_router_is_drawn_below_it():
    lines = draw("story").splitlines()

    def place(word):
        return next(number for number, line in enumerate(lines) if f"─ {word} " in line)

    carrier, home, nas = place("carrier"), place("home-router"), place("nas")
    assert carrier < home < nas
    assert lines[nas].index("nas") > lines[home].index("home-router") > lines[carrier].index("carrier")
    assert "192.168.1.10" in lines[nas]
    assert "web :80" in lines[nas]


def test_shapes_and_blocked_udp_are_told():
    assert "10 Mbit/s 8 ms" in draw("story-slow")
    assert "UDP blocked" in draw("story-udp-blocked")


@pytest.mark.parametrize("name", plan.shipped())
def test_every_host_of_a_plan_is_drawn_and_told_as_data(name):
    loaded = plan.load(name)
    picture = draw(name)
    data = json.loads(json.dumps(drawing.as_data(loaded)))
    for host in loaded.hosts:
        assert host in picture
    assert [host["name"] for host in data["hosts"]] == list(loaded.hosts)
