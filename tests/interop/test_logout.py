"""`wayhomectl logout` against our coordinator: it expires the node; the next login gives it its place back."""

import pytest

from shared.installed_board import InstalledBoard
from shared.story import PLACE, URL
from wayhome.demo.cast import Coordinator
from wayhome.lab.lab import LabError
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]


def test_a_board_that_logs_out_is_expired_and_comes_back_as_the_same_node(
    coordinator: Coordinator, board: InstalledBoard
):
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    board.start()
    board.up(URL, key)
    before = board.ctl("status")["self"]
    board.ctl("logout")
    assert "wayhome0" not in board.host.run(["ip", "-br", "link"]).stdout
    assert coordinator.nodes()["board"]["expired"]
    assert board.stop() == 0
    board.start()
    assert board.ctl("status")["state"] == "stopped"
    board.up(URL, key)
    after = board.ctl("status")["self"]
    assert after["addresses"] == before["addresses"] and after["node_key"] != before["node_key"]
    assert list(coordinator.nodes()) == ["board"] and not coordinator.nodes()["board"]["expired"]
    # One that the coordinator does not hear keeps its key, until its owner says otherwise.
    board.host.run(["ip", "route", "add", "unreachable", PLACE])
    with pytest.raises(LabError, match="could not be told"):
        board.ctl("logout")
    assert board.ctl("status")["coordinator"]["joined"]
    assert not board.ctl("logout", "--anyway")["coordinator"]["joined"]
    assert board.stop() == 0
    assert "Traceback" not in board.log_text()


def test_an_ephemeral_node_that_logs_out_is_gone(coordinator: Coordinator, board: InstalledBoard):
    key = coordinator.ask("key", "create", "--user", "anna")["key"]
    board.start()
    board.up(URL, key, "--ephemeral")
    board.ctl("logout")
    wait_until(lambda: not coordinator.nodes(), 30, "the coordinator to forget the node")
