"""The daemon as its service files run it: its own user with three capabilities, on a real network, by either Python."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from shared.installed_board import ROOT, USER_ID, InstalledBoard
from shared.story import URL
from wayhome.demo.cast import Board, Coordinator
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

NAS = "192.168.1.10"


def capabilities(status: str) -> set[str]:
    """Return which of the sets of a process are exactly CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW."""
    mask = 1 << 10 | 1 << 12 | 1 << 13
    return {name for name, value in re.findall(r"^Cap(\w+):\s*(\w+)$", status, re.MULTILINE) if int(value, 16) == mask}


def test_a_user_with_three_capabilities_joins_and_carries_traffic(
    lab: Lab, coordinator: Coordinator, board: InstalledBoard, tmp_path: Path
):
    board.start()
    assert board.process is not None
    status = Path(f"/proc/{board.process.pid}/status").read_text()
    assert re.search(rf"^Uid:\s*{USER_ID}\s+{USER_ID}\s+{USER_ID}", status, re.MULTILINE), status
    assert capabilities(status) == {"Inh", "Prm", "Eff", "Bnd", "Amb"}
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)

    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    board.up(URL, key, "--advertise-routes", "192.168.1.0/24")
    far = Board(lab.host("board2"), tmp_path)
    far.start()
    assert far.join(URL, key, "--accept-routes", name="far").wait(60) == 0
    coordinator.ask("route", "approve", "board", "192.168.1.0/24")

    def nas_answers() -> bool:
        words = ["curl", "--silent", "--max-time", "3", f"http://{NAS}/"]
        return far.host.run(words, check=False).stdout.startswith("hello from nas")

    wait_until(nas_answers, 60, "the NAS behind the board")

    socket = board.host.run(["stat", "-c", "%a %u %g", board.socket]).stdout.split()
    assert socket == ["660", str(USER_ID), str(USER_ID)]
    state = os.stat(board.state)
    assert stat.S_IMODE(state.st_mode) == 0o700 and state.st_uid == USER_ID
    # who is in the group may look and not change; others may not even look
    ask = [board.root / "usr/bin/wayhomectl"]
    member = ["setpriv", "--reuid", "64124", "--regid", str(USER_ID), "--clear-groups", "--inh-caps=-all"]
    assert board.host.run([*member, *ask, "status"]).stdout
    assert "only root may change" in board.host.run([*member, *ask, "down"], check=False).stderr
    stranger = ["setpriv", "--reuid", "64124", "--regid", "64124", "--clear-groups", "--inh-caps=-all"]
    assert "you may not talk to wayhomed" in board.host.run([*stranger, *ask, "status"], check=False).stderr

    assert board.stop() == 0
    assert "wayhome0" not in board.host.run(["ip", "-br", "link"]).stdout
    assert "wayhome" not in board.host.run(["nft", "list", "tables"]).stdout
    assert board.host.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "0"
    assert "Traceback" not in board.log_text()


def test_no_call_is_made_that_the_units_filter_refuses(coordinator: Coordinator, board: InstalledBoard, tmp_path: Path):
    allowed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    calls = set()
    unit = (ROOT / "firmware/package/systemd/wayhomed.service").read_text()
    wanted = []
    for name in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE)[0].split():
        if name.startswith("@"):
            wanted.append(name)
        else:
            calls.add(name)
    groups = dict(re.findall(r"^(@[\w-]+)\n((?:^    .*\n)+)", allowed, re.MULTILINE))
    while wanted:
        for line in groups[wanted.pop()].splitlines():
            name = line.strip()
            if name.startswith("@"):
                wanted.append(name)
            elif name and not name.startswith("#"):
                calls.add(name)
    record = board.folder / "calls"
    # From the daemon's own start on: the launcher and what gives the rights away run before systemd's filter.
    board.start(before=("strace", "--follow-forks", "--quiet=all", "--summary-only", "-o", str(record)))
    key = coordinator.ask("key", "create", "--user", "anna")["key"]
    board.up(URL, key, "--advertise-routes", "192.168.1.0/24")
    board.ctl("status")
    board.stop()
    lines = [line.split() for line in record.read_text().splitlines()]
    made = {words[-1] for words in lines if words and re.fullmatch(r"[\d.]+", words[0])}
    made = {name for name in made if re.fullmatch(r"[a-z]\w+", name)} - {"total"}
    # of setpriv and the shell that it starts
    before = {"prctl", "capset", "setgroups", "setresuid", "setresgid", "chown", "fchownat", "mknodat", "arch_prctl"}
    assert made - calls - before == set()
