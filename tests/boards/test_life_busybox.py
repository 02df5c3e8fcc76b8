"""The board under busybox's init, with the kernel's watchdog: the lines that the installer adds, kept for real."""

import time
from collections.abc import Iterator

import pytest

from boards.guest_busybox import WATCHDOG_S, BusyboxBoard
from shared.direct import Mesh
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.boards

PATIENCE_S = 120
Y1970_S = 3600
RIGHTS = 1 << 10 | 1 << 12 | 1 << 13  # bind low ports, configure the network, raw sockets


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusyboxBoard]:
    with Lab.up("board-on-carrier") as lab:
        mesh = Mesh(lab, tmp_path_factory.mktemp("mesh"))
        with BusyboxBoard(mesh) as made:
            try:
                made.guest.run(["date", "-s", f"@{Y1970_S}"])
                made.start_init()
                yield made
            finally:
                if made.guest.is_running():
                    print("the log:", made.log()[-6000:], made.text("ps"), sep="\n")
                print("the console:", made.guest.console()[-2000:], sep="\n")


def assert_own_user_and_three_rights(board: BusyboxBoard) -> None:
    status = board.status_of(board.pid())
    user = board.text("id", "-u", "wayhome")
    assert user not in ("", "0") and status["Uid"].split() == [user] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {RIGHTS}
    assert status["NoNewPrivs"] == "1"


def test_its_line_starts_it_as_its_own_user_with_three_rights_and_it_joins_feeding_the_watchdog(board):
    assert_own_user_and_three_rights(board)
    told = board.ctl("status")
    assert told["runtime"].startswith("MicroPython") and told["tunnel"]["wireguard"] == "kernel"
    assert told["problems"] == []
    assert board.watchdog_runs()
    assert "is ready at" in board.log()  # the system's log, as the line has it


def test_the_helper_beside_it_sets_the_clock_which_stood_at_1970(board):
    wait_until(
        lambda: abs(int(board.text("date", "+%s")) - time.time()) < 60, PATIENCE_S, "the machine's clock to be right"
    )
    helper = board.status_of(board.pid_of("start_wayhomed-helper.py"))
    assert helper["Uid"].split() == ["0"] * 4


def test_a_killed_daemon_is_started_again_and_the_tunnel_stands_meanwhile(board):
    pid, interface = board.pid(), board.interface()
    board.guest.run(["kill", "-9", pid])
    wait_until(lambda: board.pid() not in ("", pid), PATIENCE_S, "init to start it again")
    wait_until(lambda: "it goes on as it is" in board.log(), PATIENCE_S, "it to adopt the tunnel")
    board.wait_applied()
    assert board.interface() == interface and board.watchdog_runs()
    assert_own_user_and_three_rights(board)


def test_a_process_that_replaces_itself_keeps_its_rights_its_tunnel_and_the_watchdog(board):
    pid, interface = board.pid(), board.interface()
    adopted = board.log().count("it goes on as it is")
    board.guest.run(["kill", "-USR1", pid])
    wait_until(lambda: board.log().count("it goes on as it is") > adopted, PATIENCE_S, "it to adopt the tunnel")
    board.wait_applied()
    assert (board.pid(), board.interface()) == (pid, interface) and board.watchdog_runs()
    assert_own_user_and_three_rights(board)


def test_a_clean_stop_takes_everything_down_and_switches_the_watchdog_off(board):
    lines = board.inittab()
    board.change_inittab("".join(line + "\n" for line in lines.splitlines() if "wayhome/run --state" not in line))
    board.guest.run(["kill", "-TERM", board.pid()])
    wait_until(lambda: not board.pid(), PATIENCE_S, "it to end")
    assert not board.watchdog_runs()
    assert board.interface() == ""
    assert "wayhome" not in board.text("nft", "list", "tables")
    board.change_inittab(lines)
    board.wait_applied()
    assert board.watchdog_runs()


def test_a_loop_that_turns_feeds_the_watchdog_and_one_that_stands_still_has_it_restart_the_board(board):
    assert board.watchdog_timeout_s() == WATCHDOG_S
    begun_s = board.up_s()
    wait_until(lambda: board.up_s() > begun_s + WATCHDOG_S + 5, PATIENCE_S, "the daemon to have fed it")
    board.guest.run(["kill", "-STOP", board.pid()])
    # the guest's watchdog switches it off, where a board's would restart it
    wait_until(lambda: not board.guest.is_running(), PATIENCE_S, "the watchdog to act")
    assert "panic" not in board.guest.console()
