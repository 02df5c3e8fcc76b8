"""The demo's networks with our coordinator in them, and a board as it is installed: fixtures of tests/interop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhome.demo.cast import Coordinator
from wayhome.lab.lab import Lab

from .installed_board import RUNTIMES, InstalledBoard

PLACE = "203.0.113.10"
URL = f"http://{PLACE}:8080"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.up("story") as made:
        yield made


@pytest.fixture
def coordinator(lab: Lab, tmp_path: Path) -> Coordinator:
    """Give a coordinator that knows anna, with relay and STUN."""
    made = Coordinator(lab.host("coordinator"), tmp_path, URL, f"{PLACE}:8080", f"{PLACE}:8443")
    made.start("--stun-listen", f"{PLACE}:3478")
    made.ask("user", "create", "anna")
    return made


@pytest.fixture(params=RUNTIMES)
def board(request: pytest.FixtureRequest, lab: Lab) -> Iterator[InstalledBoard]:
    """Give the home's board, installed and not yet started, on either Python."""
    made = InstalledBoard(lab.host("board"), request.param)
    yield made
    lab.down()
    made.close()
