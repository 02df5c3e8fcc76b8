"""Two homes behind NATs, a wayhomed in each: one reaches the other's NAS over the relay, whatever happens."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.story import URL
from wayhome.demo.cast import Board, Coordinator
from wayhome.lab.daemon_command import RUNTIMES, Runtime, preferred_runtime, wayhomectl_words
from wayhome.lab.lab import Host, Lab
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

NAS = "192.168.1.10"


class Sites:
    """Home (with the NAS, behind a carrier) and friend's home, each with a board that has joined, on a Python each."""

    def __init__(self, lab: Lab, coordinator: Coordinator, folder: Path, at_home: Runtime) -> None:
        self.lab, self.coordinator = lab, coordinator
        self.home = Board(lab.host("board"), folder, at_home)
        self.far = Board(lab.host("board2"), folder, "micropython" if at_home == "cpython" else "cpython")
        key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
        self.home.start()
        self.far.start()
        finish(self.home.join(URL, key, "--advertise-routes", "192.168.1.0/24", name="home"))
        finish(self.far.join(URL, key, "--accept-routes", name="far"))
        coordinator.ask("route", "approve", "home", "192.168.1.0/24")
        wait_until(self.route_is_used, 60, "the route to be used")

    def route_is_used(self) -> bool:
        return any(route["used"] for route in self.far.ctl("routes")["peers"])

    def status(self, board: Board) -> dict[str, Any]:
        answer = board.ctl("status")
        assert isinstance(answer, dict)
        return answer

    def nas_answers(self) -> bool:
        return get(self.far.host, f"http://{NAS}/").startswith("hello from nas")


@pytest.fixture
def sites(request: pytest.FixtureRequest, lab: Lab, coordinator: Coordinator, tmp_path: Path) -> Sites:
    return Sites(lab, coordinator, tmp_path, getattr(request, "param", preferred_runtime()))


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return what `wayhomectl up` printed, once it is done."""
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    answer = json.loads(stdout)
    assert isinstance(answer, dict)
    return answer


def get(host: Host, url: str, seconds: int = 5) -> str:
    """Return a page's text, "" if nothing came."""
    return host.run(["curl", "--silent", "--max-time", str(seconds), url], check=False).stdout


def machine_state(host: Host) -> str:
    """Return all that a data plane may touch, in a form to compare."""
    script = (
        "ip -br link; ip -br addr show up; ip rule; ip -6 rule; ip route show table all; nft list ruleset; "
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.src_valid_mark"
    )
    text = host.run(["sh", "-c", script]).stdout
    # addresses and neighbours that the kernel makes by itself come at their own pace
    return "\n".join(line for line in text.splitlines() if "fe80" not in line and "ff00::/8" not in line)


@pytest.mark.parametrize("sites", RUNTIMES, indirect=True)
def test_the_nas_behind_the_other_board_answers_over_the_relay(sites: Sites):
    assert sites.nas_answers()
    assert {visit["client"] for visit in sites.lab.host("nas").web_log()} == {"192.168.1.2"}
    answers = sites.far.ctl("ping", "home", "--relay")["answers"]
    assert len(answers) == 3 and answers[0]["path"] == "relay home"
    answers = sites.far.ctl("ping", NAS)["answers"]
    assert answers and answers[0]["path"] == "tunnel"
    peer = sites.status(sites.far)["peers"][0]
    assert peer["name"] == "home" and "192.168.1.0/24" in peer["routes"] and peer["received_bytes"] > 0


def test_a_published_device_answers_at_its_own_address_and_a_withdrawn_one_no_more(sites: Sites):
    published = sites.coordinator.ask("publish", "nas", "--via", "home", NAS)
    url = f"http://{published['addresses'][0]}/"
    wait_until(lambda: get(sites.far.host, url, 2).startswith("hello from nas"), 60, "the published NAS")
    answers = sites.far.ctl("ping", "nas")["answers"]
    assert answers and answers[0]["path"] == "tunnel" and answers[0]["address"] == published["addresses"][0]
    sites.coordinator.ask("unpublish", "nas")
    wait_until(lambda: not get(sites.far.host, url, 2), 60, "the NAS to be gone")


def test_the_boards_own_services_are_closed_to_the_mesh(sites: Sites):
    address = sites.status(sites.home)["self"]["addresses"][0]
    words = [sys.executable, "-m", "http.server", "8000", "--bind", "0.0.0.0"]
    sites.home.host.popen(words, stderr=subprocess.DEVNULL)
    wait_until(lambda: get(sites.home.host, "http://127.0.0.1:8000/") != "", 60, "the board's own web server")
    assert get(sites.far.host, f"http://{address}:8000/", 2) == ""
    assert get(sites.far.host, "http://192.168.1.2:8000/", 2) == ""
    assert sites.nas_answers()


def test_a_route_that_is_withdrawn_is_closed(sites: Sites):
    assert sites.nas_answers()
    sites.coordinator.ask("route", "unapprove", "home", "192.168.1.0/24")
    wait_until(lambda: not sites.route_is_used(), 60, "the route to be gone")
    assert get(sites.far.host, f"http://{NAS}/", 2) == ""


def test_coordinator_and_relay_killed_and_back_lose_nothing(sites: Sites):
    assert sites.nas_answers()
    assert sites.coordinator.process is not None
    sites.coordinator.process.kill()
    sites.coordinator.process.wait()
    wait_until(lambda: not sites.status(sites.far)["relay"]["connected"], 60, "the relay's absence to be noticed")
    problems = " ".join(sites.status(sites.far)["problems"])
    assert "Connection refused" in problems
    (sites.coordinator.state / "wayhome.sock").unlink()
    sites.coordinator.start("--stun-listen", "203.0.113.10:3478")
    wait_until(sites.nas_answers, 60, "the NAS to answer again")
    wait_until(lambda: sites.status(sites.far)["coordinator"]["connected"], 60, "the session")
    # going direct, the NAS may answer before the relay is connected again
    wait_until(lambda: sites.status(sites.far)["problems"] == [], 60, "nothing to complain about")


def test_a_board_that_restarts_with_no_coordinator_in_reach_comes_up_working(sites: Sites):
    for board in (sites.home, sites.far):
        # written at most every 10 s: flash wears out
        wait_until(lambda kept=board.state / "netmap.json": "192.168.1.0" in kept.read_text(), 60, "the netmap on disk")
    coordinator_host = sites.lab.host("coordinator")
    # the relay stays in reach, the coordinator does not
    rules = "table inet cut { chain input { type filter hook input priority 0; tcp dport 8080 drop; }; }"
    coordinator_host.run(["nft", "-f", "-"], input=rules)
    for board in (sites.home, sites.far):
        assert board.process is not None
        board.process.kill()  # not even a clean stop
        board.process.wait()
        board.start()
    wait_until(sites.nas_answers, 60, "the NAS to answer")
    status = sites.status(sites.far)
    assert status["up"] and not status["coordinator"]["connected"]
    coordinator_host.run(["nft", "delete", "table", "inet", "cut"])
    wait_until(lambda: sites.status(sites.far)["coordinator"]["connected"], 60, "the session")


def test_down_and_a_stop_leave_the_machine_as_it_was(lab: Lab, coordinator: Coordinator, tmp_path: Path):
    before = {name: machine_state(lab.host(name)) for name in ("board", "board2")}
    sites = Sites(lab, coordinator, tmp_path, preferred_runtime())
    assert sites.nas_answers()
    sites.home.ctl("down")
    assert machine_state(lab.host("board")) == before["board"]
    sites.home.ctl("up")
    wait_until(sites.nas_answers, 60, "the NAS to answer again")
    for board, name in ((sites.home, "board"), (sites.far, "board2")):
        assert board.process is not None
        board.process.terminate()
        assert board.process.wait(timeout=60) == 0
        assert machine_state(lab.host(name)) == before[name]


def test_a_board_joins_by_a_link_that_an_administrator_approves(lab: Lab, coordinator: Coordinator, tmp_path: Path):
    board = Board(lab.host("board2"), tmp_path)
    board.start()
    words = [*wayhomectl_words(board.runtime), "up", "--socket", board.socket, "--login-server", URL, "--json"]
    joining = board.host.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: board.ctl("status")["auth_url"] != "", 60, "the link")
    page = get(lab.host("laptop"), board.ctl("status")["auth_url"])
    shown = re.search(r'class="mono code">([A-Z0-9]{4}-[A-Z0-9]{4})<', page)
    assert shown is not None, page
    coordinator.ask("node", "approve", shown[1], "--user", "anna")
    assert finish(joining)["state"] == "running"


def test_a_board_believes_an_own_ca_only_when_it_was_given_its_certificate(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = "203.0.113.10:443"
    url = f"https://{place}"
    coordinator = Coordinator(lab.host("coordinator"), tmp_path, url, place, "203.0.113.10:8443")
    coordinator.start("--own-ca", "--stun-listen", "203.0.113.10:3478")
    coordinator.ask("user", "create", "anna")
    key = coordinator.ask("key", "create", "--user", "anna")["key"]
    board = Board(lab.host("board"), tmp_path)
    board.start()
    joining = board.join(url, key, "--timeout", "3")
    told, _ = joining.communicate(timeout=60)
    assert joining.returncode == 1
    assert "the certificate of 203.0.113.10 is not trusted" in json.loads(told)["error"]
    assert board.process is not None
    board.process.terminate()
    board.process.wait(timeout=60)
    monkeypatch.setenv("SSL_CERT_FILE", str(coordinator.state / "ca.crt"))
    board.start()
    finish(board.join(url, key))
    wait_until(lambda: board.ctl("status")["relay"]["connected"], 60, "the relay, by its pin")


@pytest.mark.parametrize("spoil", ["used", "revoked", "wrong"])
def test_a_key_that_lets_nobody_in_is_refused_with_its_reason(
    lab: Lab, coordinator: Coordinator, tmp_path: Path, spoil: str
):
    made = coordinator.ask("key", "create", "--user", "anna")
    key = made["key"]
    if spoil == "used":
        first = Board(lab.host("board"), tmp_path)
        first.start()
        finish(first.join(URL, key))
    elif spoil == "revoked":
        coordinator.ask("key", "revoke", str(made["id"]))
    else:
        key = key[:-4] + "AAAA"
    board = Board(lab.host("board2"), tmp_path)
    board.start()
    joining = board.join(URL, key, name="late")
    stdout, stderr = joining.communicate(timeout=60)
    assert joining.returncode == 1
    assert "key" in json.loads(stdout)["error"]
    assert "next:" in stderr
    assert [node["name"] for node in coordinator.ask("node", "list")] == (["board"] if spoil == "used" else [])
