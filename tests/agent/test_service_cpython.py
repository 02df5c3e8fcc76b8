"""What service managers say to wayhomed and hear of it, by either Python; each daemon in a network of its own."""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from wayhome.lab.daemon_command import RUNTIMES, wayhomed_words
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.lab


class Daemon:
    """A running wayhomed, and the socket on which systemd would hear of it."""

    def __init__(self, runtime: str, folder: Path, *options: str, **environment: str):
        self.folder = folder
        self.heard: list[str] = []
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(folder / "notify"))
        self._ear.setblocking(False)
        words = ["unshare", "--net", *wayhomed_words(runtime), "--state", str(folder / "state")]
        words += ["--socket", str(folder / "run/wayhomed.sock"), "--config", str(folder / "wayhomed.conf"), *options]
        variables = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), **environment}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=variables)

    def listen(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._ear.recv(4096).decode())
        return self.heard

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.process.poll() is not None or self.listen().count(text) >= times, 60, text)
        assert self.process.poll() is None, self.log.read_text()

    def wait_for_line(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log.read_text().count(text) >= times, 60, text)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._ear.close()


@pytest.fixture(params=RUNTIMES)
def start(request, tmp_path):
    daemons = []

    def start(*options, **environment):
        daemons.append(Daemon(request.param, tmp_path, *options, **environment))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()


def test_systemd_hears_that_it_is_ready_how_it_is_and_that_it_stops(start):
    daemon = start()
    daemon.wait_for("READY=1")
    wait_until(lambda: any(text.startswith("STATUS=down") for text in daemon.listen()), 60, "the status line")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    assert daemon.listen()[-1] == "STOPPING=1"
    assert "wayhomed has stopped" in daemon.log.read_text()


def test_systemds_watchdog_is_fed(start):
    daemon = start(WATCHDOG_USEC="400000")
    daemon.wait_for("WATCHDOG=1", 3)


def test_a_loop_that_stands_still_feeds_nobody(start):
    daemon = start(WATCHDOG_USEC="400000")
    daemon.wait_for("WATCHDOG=1", 2)
    daemon.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{daemon.process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 60, "the daemon to stand still")
    daemon.listen()
    before = len(daemon.heard)
    with pytest.raises(Exception, match="more food"):
        wait_until(lambda: len(daemon.listen()) > before, 1, "more food")
    daemon.process.send_signal(signal.SIGCONT)
    daemon.wait_for("WATCHDOG=1", daemon.heard.count("WATCHDOG=1") + 1)


def test_a_watchdog_that_is_meant_for_another_process_is_left_alone(start):
    daemon = start(WATCHDOG_USEC="200000", WATCHDOG_PID="1")
    daemon.wait_for("READY=1")
    wait_until(lambda: any(text.startswith("STATUS=") for text in daemon.listen()), 60, "the status line")
    assert "WATCHDOG=1" not in daemon.listen()


def test_a_watchdog_that_cant_be_used_is_told_and_keeps_nobody_from_coming_up(start):
    daemon = start("--watchdog", "/dev/null")
    daemon.wait_for("READY=1")
    assert "the watchdog /dev/null can't be used: it is no watchdog" in daemon.log.read_text()


def test_sighup_reads_the_configuration_again(start, tmp_path):
    daemon = start()
    daemon.wait_for("READY=1")
    (tmp_path / "wayhomed.conf").write_text("hostname = not_a_name!\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("RELOADING=1")
    daemon.wait_for("READY=1", 2)
    daemon.wait_for_line("wayhomed.conf")
    assert daemon.process.poll() is None


def test_sigusr1_puts_a_new_process_in_its_place_and_no_signal_is_lost_meanwhile(start):
    daemon = start()
    daemon.wait_for("READY=1")
    keys = (daemon.folder / "state/state.json").read_bytes()
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.wait_for("RELOADING=1")
    # into the gap between the two
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("READY=1", 2)
    daemon.wait_for_line("is ready at", 2)
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    assert (daemon.folder / "state/state.json").read_bytes() == keys
    assert "Traceback" not in daemon.log.read_text()


def test_a_new_process_has_no_descriptor_of_the_old_one(start):
    daemon = start()
    daemon.wait_for("READY=1")
    wait_until(lambda: any(text.startswith("STATUS=") for text in daemon.listen()), 60, "the status line")
    folder = Path(f"/proc/{daemon.process.pid}/fd")
    before = len(list(folder.iterdir()))
    for times in (2, 3, 4):
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.wait_for("READY=1", times)
    wait_until(lambda: len(list(folder.iterdir())) <= before, 60, "as few descriptors as before")
