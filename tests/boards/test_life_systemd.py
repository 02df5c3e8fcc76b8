"""The board as a service of systemd, on a kernel with WireGuard: the promises of its unit files, kept for real."""

from collections.abc import Iterator

import pytest

from boards.guest_systemd import SystemdBoard
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.boards

PATIENCE_S = 120


@pytest.fixture(scope="module")
def board() -> Iterator[SystemdBoard]:
    with SystemdBoard() as made:
        try:
            made.inside("systemctl", "start", "wayhomed")
            made.serve_mesh()
            yield made
        finally:
            print("the journal:", made.journal()[-8000:], "the console:", made.guest.console()[-2000:], sep="\n")


def wait_for_session(board: SystemdBoard) -> int:
    """Return when the session with the second node began, once there is one."""

    def is_there() -> bool:
        address = board.ctl("status")["self"]["addresses"][0]
        board.far("ping", "-c", "1", "-W", "2", address, check=False)
        return board.handshake_s() > 0

    wait_until(is_there, PATIENCE_S, "a session")
    return board.handshake_s()


def test_it_comes_up_as_its_own_user_with_three_rights_and_its_sandbox_lets_it_do_all_its_work(board):
    assert (board.show("ActiveState"), board.show("SubState")) == ("active", "running")
    pid = board.show("MainPID")
    status = dict(line.split(":\t", 1) for line in board.inside("cat", f"/proc/{pid}/status").splitlines())
    user = board.inside("id", "-u", "wayhome").strip()
    assert status["Uid"].split() == [user] * 4
    rights = 1 << 10 | 1 << 12 | 1 << 13  # bind low ports, configure the network, raw sockets
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {rights}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    told = board.ctl("status")
    assert told["runtime"].startswith("MicroPython")
    assert told["tunnel"]["wireguard"] == "kernel" and told["tunnel"]["applied"] and told["problems"] == []
    assert wait_for_session(board) > 0


def test_systemd_shows_how_it_is_in_a_line(board):
    assert "up" in board.show("StatusText")
