"""A run of the demo as it could have been, for those who tell it."""

from dataclasses import replace

from wayhome.demo.stage import Scene, Way
from wayhome.demo.story import NETWORK, Happening
from wayhome.lab import plan

PLAN = plan.load(NETWORK)
FIGURES = [("joined after", "0.86 s"), ("client", "<tsnet> & co"), ("router", "wayhomed on CPython 3.11.7")]


def happenings() -> list[Happening]:
    told, scene = [], Scene()
    for at_s, text, changes in (
        (1.5, "She starts [name]wayhome serve[/] on a server", {"server": "coordinator and relay"}),
        (2.5, "Her laptop joins at [mesh]100.64.0.1[/]", {"laptop": "<Tailscale> 1", "laptop_mesh": "100.64.0.1"}),
        (3.5, "The board joins: " + "word " * 40, {"board_mesh": "100.64.0.2", "nas_mesh": "100.64.0.3"}),
        (4.5, "[relay]by the relay[/] at first", {"way": Way.RELAY}),
        (5.5, r"[direct]straight through[/] & \[no markup] <script>alert(1)</script>", {"way": Way.DIRECT}),
    ):
        scene = replace(scene, **changes)
        told.append(Happening(at_s, text, scene))
    return told
