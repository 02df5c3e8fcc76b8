"""The board as a service of systemd, on a kernel with WireGuard: the promises of its unit files, kept for real."""

import time
from collections.abc import Iterator

import pytest

from boards.guest_systemd import SystemdBoard
from shared.direct import Mesh
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.boards

PATIENCE_S = 120
Y1970_S = 3600  # an hour later: the kernel sets no clock to before it was started itself
Y2099_S = 4_070_908_800
SHORT_WATCHDOG = b"[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\n"
SHORT_WATCHDOG_FILE = "/run/systemd/system/wayhomed.service.d/short.conf"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdBoard]:
    with Lab.up("board-on-carrier") as lab:
        mesh = Mesh(lab, tmp_path_factory.mktemp("mesh"))
        mesh.start_board("traveller")
        with SystemdBoard(mesh) as made:
            try:
                made.inside("systemctl", "start", "wayhomed")
                yield made
            finally:
                print("the journal:", made.journal()[-8000:], "the console:", made.guest.console()[-2000:], sep="\n")


def test_it_comes_up_as_its_own_user_with_three_rights_and_its_sandbox_lets_it_do_all_its_work(board):
    assert (board.show("ActiveState"), board.show("SubState")) == ("active", "running")
    pid = board.show("MainPID")
    status = dict(line.split(":\t", 1) for line in board.inside("cat", f"/proc/{pid}/status").splitlines())
    user = board.inside("id", "-u", "wayhome").strip()
    assert status["Uid"].split() == [user] * 4
    rights = 1 << 10 | 1 << 12 | 1 << 13  # bind low ports, configure the network, raw sockets
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {rights}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert board.wait_for_session() > 0
    told = board.ctl("status")
    assert told["runtime"].startswith("MicroPython")
    assert told["tunnel"]["wireguard"] == "kernel" and told["problems"] == []


def test_systemd_shows_how_it_is_in_a_line(board):
    assert "up" in board.show("StatusText")


def test_reload_reads_the_configuration_again_and_touches_nothing_else(board):
    began_s = board.wait_for_session()
    before = board.show("MainPID"), board.interface(), began_s
    board.configure(hostname="attic")
    board.inside("systemctl", "reload", "wayhomed")
    wait_until(lambda: board.ctl("status")["prefs"]["Hostname"] == "attic", PATIENCE_S, "the new name")
    wait_until(lambda: board.show("ActiveState") == "active", PATIENCE_S, "the reload to be over")
    wait_until(lambda: "attic" in board.mesh.coordinator.nodes(), PATIENCE_S, "the coordinator to hear of it")
    assert (board.show("MainPID"), board.interface(), board.handshake_s()) == before


def test_a_process_that_replaces_itself_keeps_the_tunnel_and_its_session(board):
    began_s = board.wait_for_session()
    before = board.show("MainPID"), board.interface(), began_s
    board.inside("systemctl", "kill", "--kill-whom=main", "-s", "SIGUSR1", "wayhomed")
    wait_until(lambda: "it goes on as it is" in board.journal(), PATIENCE_S, "the new process to adopt the tunnel")
    wait_until(lambda: board.show("ActiveState") == "active", PATIENCE_S, "the service to be ready")
    board.wait_applied()
    assert board.show("NRestarts") == "0"
    assert (board.show("MainPID"), board.interface(), board.handshake_s()) == before


def test_a_daemon_that_hangs_is_started_again_by_systemds_watchdog_and_the_tunnel_stands_meanwhile(board):
    board.guest.put(SHORT_WATCHDOG_FILE, SHORT_WATCHDOG)
    board.inside("systemctl", "daemon-reload")
    board.inside("systemctl", "restart", "wayhomed")
    began_s = board.wait_for_session()
    pid, interface = board.show("MainPID"), board.interface()
    board.inside("kill", "-STOP", pid)
    wait_until(lambda: int(board.show("NRestarts")) >= 1, PATIENCE_S, "systemd to start it again")
    wait_until(lambda: board.show("ActiveState") == "active", PATIENCE_S, "it to be ready")
    board.wait_applied()
    assert board.show("MainPID") != pid
    assert (board.interface(), board.handshake_s()) == (interface, began_s)
    assert "Watchdog timeout" in board.inside("journalctl", "--no-pager", "-u", "wayhomed")
    board.inside("rm", SHORT_WATCHDOG_FILE)
    board.inside("systemctl", "daemon-reload")


@pytest.mark.parametrize(
    ("shows_s", "lost"), [(Y1970_S, "."), (Y2099_S, "time.json")], ids=["1970-first-start", "2099-a-node-already"]
)
def test_a_cold_start_with_no_clock_sets_both_clocks_by_the_time_servers_through_the_helper(board, shows_s, lost):
    board.inside("systemctl", "stop", "wayhomed")
    board.inside("sh", "-euc", f"cd /var/lib/wayhome; find {lost} -type f -delete")
    board.set_clocks(shows_s)
    board.inside("journalctl", "--rotate", "--vacuum-time=1s")
    cursor = board.inside("journalctl", "-n", "0", "--show-cursor").strip().rpartition(" ")[2]
    board.inside("systemctl", "start", "wayhomed")
    board.wait_for_session()
    for clock_s in (board.clock_s(), board.battery_clock_s(), board.handshake_s()):
        assert abs(clock_s - time.time()) < 60
    told = board.ctl("status")
    assert told["clock"]["trusted"] and told["coordinator"]["connected"]
    lines = board.inside("journalctl", "--no-pager", "--after-cursor", cursor, "-u", "wayhomed")
    assert ", by time servers" in lines and "; it was set to " in lines


def test_under_a_standing_tunnel_the_clock_is_not_set_back(board):
    began_s, interface = board.wait_for_session(), board.interface()
    ahead_s = int(time.time()) + 100_000
    board.set_clocks(ahead_s)
    restarts = int(board.show("NRestarts"))
    board.inside("systemctl", "kill", "--kill-whom=main", "-s", "SIGKILL", "wayhomed")
    wait_until(lambda: int(board.show("NRestarts")) > restarts, PATIENCE_S, "systemd to start it again")
    board.wait_applied()
    wait_until(lambda: "can't go back" in board.ctl("status")["clock"]["problem"], PATIENCE_S, "it to notice")
    assert board.clock_s() >= ahead_s
    assert (board.interface(), board.handshake_s()) == (interface, began_s)
    # what the machine will wake up with is right at once
    wait_until(lambda: abs(board.battery_clock_s() - time.time()) < 60, PATIENCE_S, "the battery-backed clock")
