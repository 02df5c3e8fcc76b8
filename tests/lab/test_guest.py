"""Guests: commands in, answers out, and an end with whoever started them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhome.lab.guest import BOARD, Guest, GuestError
from wayhome.lab.interpreter import python_environment
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.boards
BUILD = Path(__file__).parents[2] / "build"


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with Guest(BUILD, memory_mb=256, root=BOARD) as made:
        yield made


def test_output_errors_and_exit_codes_come_apart(guest: Guest):
    done = guest.run(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert guest.run(["sh", "-c", "kill -9 $$"], check=False).returncode == -9
    with pytest.raises(GuestError, match="failed with status 7:\nwhy"):
        guest.run(["sh", "-c", "echo why; exit 7"])
    assert guest.run(["no-such-program"], check=False).returncode == 127


def test_files_go_in_and_out_whole(guest: Guest):
    content = bytes(range(256)) * 3000
    guest.put("/run/some/where", content, 0o600)
    assert guest.get("/run/some/where") == content
    assert guest.run(["stat", "-c", "%a", "/run/some/where"]).stdout == "600\n"
    with pytest.raises(GuestError, match="can't be read"):
        guest.get("/run/nowhere")


def test_a_command_that_takes_too_long_is_ended_with_its_children(guest: Guest):
    with pytest.raises(subprocess.TimeoutExpired):
        guest.run(["sh", "-c", "sleep 987 & sleep 987"], timeout=2)
    wait_until(lambda: "sleep 987" not in guest.run(["ps"]).stdout.replace("ps", ""), 60, "its children to end")


def test_a_background_process_is_read_line_by_line_written_to_and_signalled(guest: Guest):
    echo = guest.popen(["sh", "-c", "while read -r line; do echo got $line; done"])
    lines = echo.lines(60)
    for word in ("one", "two"):
        echo.write(word.encode() + b"\n")
        assert next(lines) == f"got {word}"
    assert echo.poll() is None
    echo.signal(15)
    assert echo.wait() == -15
    assert list(lines) == []


def test_a_guest_that_panics_is_told_with_its_last_words():
    with Guest(BUILD, memory_mb=256, root=BOARD) as doomed:
        with pytest.raises(GuestError, match=r"(?s)has ended while.*Kernel panic.*sysrq triggered crash"):
            doomed.run(["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"])
        with pytest.raises(GuestError, match="does not run"):
            doomed.run(["true"])


def test_a_guest_ends_with_its_owner_however_that_ends():
    program = (
        "import sys, time; from pathlib import Path; from wayhome.lab.guest import BOARD, Guest\n"
        f"guest = Guest(Path({str(BUILD)!r}), memory_mb=256, root=BOARD); guest.start()\n"
        "print(guest._keeper.pid, flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=python_environment())
    assert owner.stdout is not None
    with owner.stdout:
        keeper = int(owner.stdout.readline())
        emulators = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        assert len(emulators) == 1
        owner.kill()
        owner.wait()
    for pid in (str(keeper), *emulators):
        wait_until(lambda pid=pid: not _runs(pid), 60, f"process {pid} to end")


def _runs(pid: str) -> bool:
    """Tell whether a process is there and no zombie that somebody else's init has yet to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_hosts_root_is_there_and_nothing_written_comes_out():
    place = Path(__file__).with_suffix(".written-by-a-guest")
    with Guest(BUILD) as guest:
        assert guest.run(["cat", __file__]).stdout == Path(__file__).read_text()
        guest.put(place, b"x")
        assert guest.get(place) == b"x"
        assert guest.run(["ip", "link", "add", "wg0", "type", "wireguard"]).returncode == 0
        assert guest.processor_seconds()["busy"] > 0
    assert not place.exists()
