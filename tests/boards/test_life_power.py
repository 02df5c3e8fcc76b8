"""A board whose plug is pulled: a guest with a disk that outlives it, and nothing else that does."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.direct import Mesh
from wayhome.lab.guest_board import GuestBoard
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.boards

BUILD = Path(__file__).parents[2] / "build"
PATIENCE_S = 150
STATE = "/var/lib/wayhome"


def disk_in(folder: Path) -> Path:
    """Return a file with an empty ext4 of 64 MB."""
    disk = folder / "disk"
    disk.touch()
    os.truncate(disk, 64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True, capture_output=True)
    return disk


@pytest.fixture
def home(tmp_path) -> Iterator[tuple[Mesh, Path]]:
    with Lab.up("board-on-carrier") as lab:
        yield Mesh(lab, tmp_path / "mesh"), disk_in(tmp_path)


def wireguard_key(board: GuestBoard) -> str:
    return board.guest.run(["wg", "show", "wayhome0", "public-key"]).stdout


def hostname(board: GuestBoard) -> str:
    return str(board.ctl("status")["prefs"]["Hostname"])


def wait_applied(board: GuestBoard) -> None:
    wait_until(lambda: board.ctl("status")["tunnel"]["applied"], PATIENCE_S, "the tunnel")


def test_a_power_cut_at_any_moment_loses_neither_keys_nor_settings_nor_the_last_netmap(home):
    mesh, disk = home
    with GuestBoard(mesh.lab, "board", BUILD, disk=disk) as board:
        board.join(mesh.url, mesh.key)
        wait_applied(board)
        key, own = wireguard_key(board), board.ctl("status")["self"]
        board.ctl("up", "--hostname", "attic")
        # the plug is pulled the moment that `up` was answered, long before the kernel writes out by itself
    with GuestBoard(mesh.lab, "board", BUILD, disk=disk) as board:
        wait_applied(board)
        assert (wireguard_key(board), hostname(board)) == (key, "attic")
        script = "n=0; while :; do n=$((n+1)); wayhomectl up --hostname attic-$n >/dev/null; echo $n; done"
        changes = board.guest.popen(["sh", "-c", script])
        said = next(line for line in changes.lines(PATIENCE_S) if line == "4")
    mesh.kill_coordinator()
    with GuestBoard(mesh.lab, "board", BUILD, disk=disk) as board:
        wait_applied(board)
        assert wireguard_key(board) == key
        assert int(hostname(board).removeprefix("attic-")) >= int(said)
        status = board.ctl("status")
        assert status["self"]["addresses"] == own["addresses"] and not status["coordinator"]["connected"]
