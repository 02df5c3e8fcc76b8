"""State directories on real disks that are full, or can only be read."""

import os
import subprocess
from contextlib import contextmanager, suppress

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent import daemon
from wayhomed.agent.missing import waiting_for
from wayhomed.agent.state import State, StateError

pytestmark = pytest.mark.lab


@contextmanager
def small_disk(path):
    """Mount a file system of 128 KB there."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk) -> None:
    ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(ballast, bytes(1024)):
            pass
    os.close(ballast)


def make_read_only(disk) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def make_writable(disk) -> None:
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    (disk / "ballast").unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", [fill, make_read_only])
async def test_a_board_on_a_spoilt_disk_starts_with_its_last_netmap_and_mends_itself(tmp_path, spoil, monkeypatch):
    monkeypatch.setattr(daemon, "_SAVE_EVERY_MS", 100)
    with small_disk(tmp_path / "disk") as disk:
        async with world(disk) as w:
            w.data_plane.uplinks = [(2, bytes((192, 168, 1, 1)), [bytes((192, 168, 1, 2))])]
            w.coordinator.peers = [Peer(2, "nas")]
            await w.joined()
            await until(lambda: (disk / "state/netmap.json").exists())
            key = w.node_key
            await w.stop_board()
            before = {name: (disk / "state" / name).read_bytes() for name in ("state.json", "netmap.json")}
            spoil(disk)
            await w.start_board()
            await until(lambda: w.board.applied)
            assert w.node_key == key
            w.coordinator.peers.append(Peer(3, "phone"))
            w.coordinator.drop()
            await until(lambda: len(w.board.netmap.peers) == 2 and w.board.is_up())
            await until(lambda: "a disk that can be written (" in waiting_for(w.board))
            with pytest.raises(StateError, match="nothing was lost"):
                w.board.change_prefs({"Hostname": "other"})
            for name, content in before.items():
                assert (disk / "state" / name).read_bytes() == content
            assert not [name for name in os.listdir(disk / "state") if name.endswith(".new")]
            make_writable(disk)
            w.board.change_prefs({"Hostname": "other"})
            w.coordinator.tell({"PeersChanged": [Peer(4, "printer").as_json()]})
            await until(lambda: b"printer" in (disk / "state/netmap.json").read_bytes(), 60)
            assert "a disk" not in waiting_for(w.board)


@pytest.mark.parametrize("spoil", [fill, make_read_only])
async def test_a_first_start_on_a_spoilt_disk_answers_and_says_what_is_wrong(tmp_path, spoil):
    with small_disk(tmp_path / "disk") as disk:
        spoil(disk)
        state = State(str(disk / "state"))
        state.open()
        assert "another machine" in state.problem
        assert len(state.machine_private) == 32
        state.close()
