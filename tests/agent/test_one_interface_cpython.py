"""Two daemons that want one interface: the second ends in words, the first never notices. Real processes, both Pythons.

Each test has a network of its own; wireguard-go's sockets have one folder for all of them, as on a machine with several
network namespaces that share /run.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wayhome.lab.daemon_command import RUNTIMES, wayhomectl_words, wayhomed_words
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.lab

INTERFACE = f"one{os.getpid() % 100_000}"
SQUAT = """
import socket, sys, time
taken = socket.socket(socket.AF_UNIX)
taken.bind("\\0wayhomed/" + sys.argv[1])
taken.listen()
print("taken", flush=True)
time.sleep(600)
"""


class Network:
    """A network namespace with nothing but what daemons put there; it lives as long as the process that holds it."""

    def __init__(self, runtime: str, folder: Path) -> None:
        self.runtime = runtime
        self._folder = folder
        words = ["unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec sleep 600"]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None and self._holder.stdout.readline() == b"ready\n"
        self._inside = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, *words: str | Path) -> str:
        return subprocess.run([*self._inside, *words], check=True, capture_output=True, text=True).stdout

    def popen(self, *words: str | Path, **options) -> "subprocess.Popen[bytes]":
        self._running.append(subprocess.Popen([*self._inside, *words], **options))
        return self._running[-1]

    def daemon(self, name: str, interface: str = INTERFACE) -> "Daemon":
        return Daemon(self, self._folder / name, interface)

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            process.wait(60)
        self._holder.kill()
        self._holder.wait()


class Daemon:
    """A daemon with a state directory and a socket of its own."""

    def __init__(self, network: Network, folder: Path, interface: str) -> None:
        self.folder = folder
        self._network = network
        folder.mkdir()
        self._log = folder / "log"
        words = ["--state", folder / "state", "--socket", folder / "run/sock", "--config", folder / "none"]
        words += ["--interface", interface, "--wireguard", "userspace"]
        with self._log.open("wb") as log:
            self.process = network.popen(*wayhomed_words(network.runtime), *words, stdout=log, stderr=log)

    def log(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self) -> "Daemon":
        wait_until(lambda: self.process.poll() is not None or "is ready at" in self.log(), 60, "the daemon")
        assert self.process.poll() is None, self.log()
        return self

    def want_tunnel(self) -> None:
        """Say `up`, to a coordinator that is not there: the tunnel stands all the same."""
        words = ["up", "--socket", self.folder / "run/sock", "--login-server", "http://127.0.0.1:9", "--timeout", "1"]
        self._network.popen(*wayhomectl_words(self._network.runtime), *words, stderr=subprocess.DEVNULL).wait(60)

    def wait_for_tunnel(self, interface: str = INTERFACE) -> None:
        wait_until(lambda: interface in self._network.run("ip", "-br", "link"), 60, "the tunnel's interface")

    def problems(self) -> str:
        words = [*wayhomectl_words(self._network.runtime), "status", "--json", "--socket", self.folder / "run/sock"]
        return " ".join(json.loads(self._network.run(*words).splitlines()[-1])["problems"])


@pytest.fixture(params=RUNTIMES)
def network(request, tmp_path: Path) -> Iterator[Callable[[str], Network]]:
    made: list[Network] = []

    def make(name: str) -> Network:
        (tmp_path / name).mkdir()
        made.append(Network(request.param, tmp_path / name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_second_daemon_ends_at_once_with_the_firsts_process_and_touches_nothing(network):
    home = network("home")
    first = home.daemon("first").wait_until_ready()
    first.want_tunnel()
    first.wait_for_tunnel()
    before = home.run("ip", "-o", "link"), home.run("wg", "show", INTERFACE, "dump"), home.run("ip", "rule")
    for name in ("second", "third"):
        other = home.daemon(name)
        assert other.process.wait(60) == 1
        assert f"another wayhomed (process {first.process.pid}) has the interface {INTERFACE}" in other.log()
        assert "--interface" in other.log() and "Traceback" not in other.log()
        assert not (other.folder / "state").exists() and not (other.folder / "run").exists()
    assert (home.run("ip", "-o", "link"), home.run("wg", "show", INTERFACE, "dump"), home.run("ip", "rule")) == before
    assert first.process.poll() is None


def test_the_name_is_free_again_when_its_daemon_was_killed_and_kept_when_it_is_replaced(network):
    home = network("home")
    first = home.daemon("first").wait_until_ready()
    first.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: first.log().count("is ready at") == 2, 60, "the process in its place")
    refused = home.daemon("refused")
    assert refused.process.wait(60) == 1 and f"(process {first.process.pid})" in refused.log()
    first.process.kill()
    first.process.wait()
    home.daemon("second").wait_until_ready()


def test_many_who_ask_do_not_make_the_first_forget_to_answer(network):
    home = network("home")
    first = home.daemon("first").wait_until_ready()
    asking = "import socket, sys\nfor _ in range(200):\n    one = socket.socket(socket.AF_UNIX); "
    asking += "one.connect('\\0wayhomed/' + sys.argv[1]); one.close()"
    home.run(sys.executable, "-c", asking, INTERFACE)
    refused = home.daemon("second")
    assert refused.process.wait(60) == 1 and f"(process {first.process.pid})" in refused.log()


def test_another_name_in_the_same_network_and_the_same_name_in_another_are_free(network):
    home, office = network("home"), network("office")
    home.daemon("first").wait_until_ready()
    home.daemon("second", INTERFACE + "b").wait_until_ready()
    office.daemon("first").wait_until_ready()


def test_a_wireguard_go_of_another_network_is_left_alone(network):
    home, office = network("home"), network("office")
    first = home.daemon("first").wait_until_ready()
    first.want_tunnel()
    first.wait_for_tunnel()
    second = office.daemon("second").wait_until_ready()
    second.want_tunnel()
    wait_until(lambda: "wireguard-go that is not ours" in second.problems(), 60, "the problem to be told")
    second.process.terminate()
    assert second.process.wait(60) == 0
    assert home.run("wg", "show", INTERFACE, "listen-port").strip() == "41641"
    assert "does not stand" not in first.log()


def test_who_has_no_right_to_an_interface_keeps_no_daemon_from_it(network):
    home = network("home")
    words = ["setpriv", "--reuid", "64124", "--regid", "64124", "--clear-groups", "--inh-caps=-all"]
    squatter = home.popen(*words, "/usr/bin/python3", "-c", SQUAT, INTERFACE, stdout=subprocess.PIPE)
    assert squatter.stdout is not None and squatter.stdout.readline() == b"taken\n"
    first = home.daemon("first").wait_until_ready()
    assert f"process {squatter.pid} has taken the name" in first.log()
