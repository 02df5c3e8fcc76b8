"""kill -9 at any moment loses nothing: the next start comes up as the same node. And a process that is replaced."""

import contextlib
import random
import signal
import subprocess
import time

import pytest

from shared.installed_board import InstalledBoard
from shared.story import URL
from wayhome.demo.cast import Coordinator
from wayhome.lab.lab import LabError
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

KILLS = 8


def is_up(board: InstalledBoard) -> bool:
    return bool(board.ctl("status")["up"])


def test_killed_at_any_moment_it_comes_up_as_the_same_node(coordinator: Coordinator, board: InstalledBoard):
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    moments = random.Random(4)
    board.start()
    board.up(URL, key)
    address = board.ctl("status")["self"]["addresses"]
    looks = []
    for number in range(KILLS):
        words = [
            ("up", "--advertise-routes", "192.168.1.0/24"),
            ("down",),
            ("up", "--advertise-routes", ""),
            ("up", "--accept-routes"),
        ][number % 4]
        asked = board.host.popen([board.root / "usr/bin/wayhomectl", *words], stderr=subprocess.DEVNULL)
        # the very moment is of no account, that they differ is
        time.sleep(moments.random() * 0.6)
        assert board.process is not None
        board.process.send_signal(signal.SIGKILL)
        board.process.wait(30)
        asked.wait(60)
        with contextlib.suppress(ProcessLookupError):
            asked.kill()
        look = f"sysctl -n net.ipv4.ip_forward; cat {board.state}/undo.json"
        looks.append((words, board.host.run(["sh", "-c", look], check=False).stdout))
        board.start()
        looks.append(board.host.run(["sh", "-c", look], check=False).stdout)
    board.ctl("up", "--hostname", "board")
    wait_until(lambda: is_up(board), 60, "the board to be up")
    assert board.ctl("status")["self"]["addresses"] == address
    assert list(coordinator.nodes()) == ["board"], "it joined as another node"
    board.ctl("down")
    assert "wayhome0" not in board.host.run(["ip", "-br", "link"]).stdout
    assert board.stop() == 0
    assert "Traceback" not in board.log_text()
    assert board.host.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "0", (
        looks,
        board.log_text()[-3000:],
    )


def test_killed_in_the_middle_of_joining_it_joins_all_the_same(coordinator: Coordinator, board: InstalledBoard):
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    board.start()
    for delay_s in (0.05, 0.15, 0.3, 0.6):
        with contextlib.suppress(LabError):
            words = ["--login-server", URL, "--auth-key", key, "--hostname", "board"]
            asked = board.host.popen(
                [board.root / "usr/bin/wayhomectl", "up", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(delay_s)
            assert board.process is not None
            board.process.send_signal(signal.SIGKILL)
            board.process.wait(30)
            asked.wait(60)
        board.start()
    board.up(URL, key)
    assert is_up(board)
    assert list(coordinator.nodes()) == ["board"]


def test_a_replaced_process_is_up_again_as_the_same_process_id(coordinator: Coordinator, board: InstalledBoard):
    key = coordinator.ask("key", "create", "--user", "anna")["key"]
    board.start()
    board.up(URL, key)
    before = board.ctl("status")["self"]
    assert board.process is not None
    board.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: board.log_text().count("is ready at") == 2, 60, "the new process")
    assert "userspace WireGuard ends with this process" in board.log_text()

    def is_up_again() -> bool:
        with contextlib.suppress(LabError):
            return is_up(board)
        return False

    wait_until(is_up_again, 60, "the board to be up")
    assert board.ctl("status")["self"]["addresses"] == before["addresses"]
    assert board.ctl("status")["self"]["node_key"] == before["node_key"]
    assert board.stop() == 0
