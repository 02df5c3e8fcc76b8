"""`wayhome serve` with nothing said: it finds a URL, says so, and keeps to it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wayhome import own_url
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

WAYHOME = Path(sys.executable).parent / "wayhome"


def test_the_url_of_the_first_start_is_kept(tmp_path: Path):
    assert own_url.remembered(tmp_path) is None
    own_url.remember(tmp_path, "https://mesh.example.net")
    assert own_url.remembered(tmp_path) == "https://mesh.example.net"
    assert (tmp_path / "url").stat().st_mode & 0o777 == 0o600


def test_no_state_directory_yet_means_no_url_yet(tmp_path: Path):
    assert own_url.remembered(tmp_path / "not" / "there") is None
    (tmp_path / "file").touch()
    assert own_url.remembered(tmp_path / "file") is None


def test_a_guessed_url_is_one_of_this_machines_addresses():
    assert own_url.guessed().startswith("http://") and own_url.guessed().endswith(":8080")


@pytest.mark.lab
def test_serve_with_nothing_said_takes_this_machines_address_and_keeps_it(tmp_path: Path):
    with Lab.up("story") as lab:
        host = lab.host("friend")
        environment = {"WAYHOME_STATE": str(tmp_path / "state"), **os.environ}

        def serve(log: Path) -> "subprocess.Popen[bytes]":
            with log.open("wb") as file:
                return host.popen([WAYHOME, "serve"], stdout=file, stderr=file, env=environment)

        first = serve(tmp_path / "first")
        said = "Serving http://192.168.2.30:8080 "
        wait_until(lambda: said in (tmp_path / "first").read_text(), 60, "the first start")
        assert "is a guess" in (tmp_path / "first").read_text()
        first.send_signal(signal.SIGINT)
        assert first.wait(30) == 0
        host.change_address("eth0", "192.168.2.31")
        serve(tmp_path / "second")
        wait_until(lambda: said in (tmp_path / "second").read_text(), 60, "the second")
        assert "is a guess" not in (tmp_path / "second").read_text()


@pytest.mark.lab
def test_a_machine_whose_network_has_no_way_out_goes_by_its_address_there_and_one_without_any_network_keeps_no_url(
    tmp_path: Path,
):
    state, log = tmp_path / "state", tmp_path / "log"
    asking = [sys.executable, "-c", "from wayhome import own_url; print(own_url.guessed())"]
    with Lab.up("same-lan") as lab:
        host = lab.host("coordinator")
        assert host.run(asking).stdout.strip() == "http://203.0.113.10:8080"
        host.run(["ip", "address", "flush", "dev", "eth0"])
        with log.open("wb") as file:
            host.popen([WAYHOME, "serve", "--state", state], stdout=file, stderr=file)
        wait_until(lambda: "serves this machine alone" in log.read_text(), 60, "the warning")
        assert "Serving http://127.0.0.1:8080 " in log.read_text()
        assert own_url.remembered(state) is None


@pytest.mark.lab
def test_a_machine_without_ipv4_goes_by_its_ipv6_address():
    asking = [sys.executable, "-c", "from wayhome import own_url; print(own_url.guessed())"]
    with Lab.up("story-ipv6") as lab:
        host = lab.host("friend")
        host.run(["ip", "-4", "address", "flush", "dev", "eth0"])
        guessed = host.run(asking).stdout.strip()
        assert guessed == f"http://[{host.address(family=6)}]:8080"
        # a network with no way out has addresses all the same
        host.run(["ip", "-6", "route", "del", "default"])
        assert host.run(asking).stdout.strip() == guessed
