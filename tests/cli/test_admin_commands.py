"""The commands to a running coordinator: what they do, what they print, and what they say when it can't be done."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wayhome.coordinator.admin_api import listen

COMMAND = Path(sys.executable).parent / "wayhome"


def key_for(wayhome, user="anna"):
    wayhome(f"user create {user}")
    return wayhome(f"key create --user {user} --json").json["key"]


def test_users_come_and_go(wayhome, coordinator):
    made = wayhome("user create anna --display-name 'Anna Berg'")
    assert made.status == 0 and "wayhome key create --user anna" in made.out
    assert re.search(r"anna +Anna Berg +0", wayhome("user list").out)
    assert wayhome("user delete anna --yes").status == 0
    assert wayhome("user list --json").json == []


def test_an_empty_list_says_how_to_fill_it(wayhome, coordinator):
    for words, hint in (
        ("user list", "wayhome user create"),
        ("key list", "wayhome key create"),
        ("node list", "wayhome key create"),
        ("route list", "--advertise-routes"),
        ("publish list", "wayhome publish NAME --via BOARD"),
    ):
        ran = wayhome(words)
        assert ran.status == 0 and hint in ran.out


def test_status_counts_users_devices_and_who_waits(wayhome, coordinator):
    coordinator.join(key_for(wayhome))
    coordinator.begin_login(2)
    out = wayhome("status").out
    assert re.search(r"Users +1\b", out) and re.search(r"Devices +1, 0 online", out) and re.search(r"Waiting +1\b", out)


def test_a_key_is_printed_once_on_a_line_of_its_own(wayhome, coordinator):
    wayhome("user create anna")
    made = wayhome("key create --user anna")
    secret = made.out.splitlines()[0]
    assert secret and " " not in secret
    assert "not shown again" in made.out and "\\" not in made.out
    listed = wayhome("key list")
    assert "anna" in listed.out and "one-off" in listed.out and "valid" in listed.out and "in 23 h" in listed.out
    assert secret not in listed.out and secret not in wayhome("key list --json").out
    coordinator.join(secret)
    assert "used" in wayhome("key list").out


def test_a_revoked_key_lets_nobody_in(wayhome, coordinator):
    wayhome("user create anna")
    key = wayhome("key create --user anna --json").json
    assert wayhome(f"key revoke {key['id']}").status == 0
    with pytest.raises(Exception, match="revoked"):
        coordinator.join(key["key"])


def test_a_key_may_be_tagged_reusable_ephemeral_and_short_lived(wayhome, coordinator):
    key = wayhome("key create --tag tag:router --reusable --ephemeral --expires 90m --json").json
    assert (key["user"], key["tags"], key["reusable"], key["ephemeral"]) == (None, ["tag:router"], True, True)


@pytest.mark.parametrize("words", ["key create", "key create --user anna --tag tag:router"])
def test_a_key_must_be_someones_or_tagged(wayhome, coordinator, words):
    ran = wayhome(words)
    assert ran.status == 1 and "--user NAME or --tag tag:NAME" in ran.err


@pytest.mark.parametrize("text", ["soon", "24", "-1h", "0h", "1.5h", "999999w", "24h24h"])
def test_a_duration_that_is_none_is_refused_with_an_example(wayhome, coordinator, text):
    ran = wayhome(["key", "create", "--user", "anna", f"--expires={text}"])
    assert ran.status == 1 and ("24h" in ran.err or "ten years" in ran.err)


def test_the_table_of_nodes_tells_owner_addresses_state_routes_and_version(wayhome, coordinator):
    node = coordinator.join(key_for(wayhome), RoutableIPs=["192.168.1.0/24"])
    listed = wayhome("node list").out
    for text in ("board", "anna", str(node.ipv4), str(node.ipv6), "never", "192.168.1.0/24 (waiting)", "1.90.9"):
        assert text in listed
    coordinator.do(coordinator.registry.set_online(node.id, True))
    assert "online" in wayhome("node list").out
    shown = wayhome("node show board").out
    assert "board.wayhome.internal" in shown and f"nodekey:{node.node_key.hex()}" in shown


def test_a_table_in_a_pipe_is_neither_cut_nor_coloured(wayhome, coordinator, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    node = coordinator.join(key_for(wayhome), hostname="a-board-with-quite-a-long-name")
    listed = wayhome("node list").out
    assert "a-board-with-quite-a-long-name" in listed and str(node.ipv6) in listed
    assert "\x1b" not in listed


def test_a_waiting_device_is_listed_and_let_in(wayhome, coordinator):
    wayhome("user create anna")
    login = coordinator.begin_login(hostname="annas-phone")
    assert login.code in wayhome("node waiting").out
    ran = wayhome(f"node approve {login.code} --user anna")
    assert ran.status == 0
    assert "annas-phone" in ran.out and login.fingerprint in ran.out
    assert wayhome("node list --json").json[0]["name"] == "annas-phone"


def test_a_waiting_device_is_turned_away(wayhome, coordinator):
    login = coordinator.begin_login()
    assert wayhome(f"node refuse {login.code}").status == 0
    assert wayhome("node waiting --json").json == []
    assert wayhome(f"node approve {login.code} --user anna").status == 1


def test_a_node_is_renamed_logged_out_and_deleted(wayhome, coordinator):
    coordinator.join(key_for(wayhome))
    assert "shed.wayhome.internal" in wayhome("node rename board shed").out
    assert wayhome("node expire shed").status == 0
    assert "logged out" in wayhome("node list").out
    assert wayhome("node delete shed --yes").status == 0
    assert wayhome("node list --json").json == []


def test_deleting_without_a_terminal_needs_yes(wayhome, coordinator):
    coordinator.join(key_for(wayhome))
    ran = wayhome("node delete board")
    assert ran.status == 1 and "--yes" in ran.err
    assert len(wayhome("node list --json").json) == 1
    wayhome("user create bob")
    assert "--yes" in wayhome("user delete bob").err
    assert len(wayhome("user list --json").json) == 2


def test_a_user_with_devices_stays_and_it_says_what_to_do(wayhome, coordinator):
    coordinator.join(key_for(wayhome))
    for words in ("user delete anna", "user delete anna --yes"):
        ran = wayhome(words)
        assert ran.status == 1 and "delete those first" in ran.err


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_deleting_on_a_terminal_asks(wayhome, coordinator, answer, left):
    wayhome("user create anna")
    ours, theirs = os.openpty()
    os.write(ours, answer.encode())
    words = [COMMAND, "user", "delete", "anna"]
    done = subprocess.run(words, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert "Delete anna" in done.stdout and done.returncode == (1 if left else 0)
    assert len(wayhome("user list --json").json) == left


def test_a_route_waits_is_approved_and_taken_back(wayhome, coordinator):
    coordinator.join(key_for(wayhome), RoutableIPs=["192.168.1.0/24"])
    assert "waits for" in wayhome("route list").out
    assert wayhome("route approve board 192.168.1.0/24").status == 0
    assert wayhome("route list --json").json[0]["approved"] is True
    assert wayhome("route unapprove board 192.168.1.0/24").status == 0
    assert wayhome("route list --json").json[0]["approved"] is False


def test_a_route_that_may_never_be_used_does_not_ask_for_approval(wayhome, coordinator):
    coordinator.join(key_for(wayhome), RoutableIPs=["0.0.0.0/0", "192.168.1.0/24"])
    listed = wayhome("route list").out.splitlines()
    assert "cannot be approved" in listed[1] and "waits for" in listed[2]


def test_a_lan_device_is_published_listed_and_taken_back(wayhome, coordinator):
    coordinator.join(key_for(wayhome))
    ran = wayhome("publish nas --via board 192.168.1.10")
    assert ran.status == 0 and "nas.wayhome.internal" in ran.out
    ran = wayhome("publish printer --via board 192.168.1.20 fd00::20 --port tcp:631 --port udp:5000-5010")
    assert ran.status == 0
    listed = wayhome("publish list").out
    assert "192.168.1.10" in listed and "fd00::20" in listed and "udp:5000-5010" in listed
    assert [entry["name"] for entry in wayhome("publish list --json").json] == ["nas", "printer"]
    assert wayhome("unpublish nas").status == 0
    assert [entry["name"] for entry in wayhome("publish list --json").json] == ["printer"]


def test_a_suffix_gets_a_resolver_of_its_own_and_loses_it(wayhome, coordinator):
    assert "gives it one" in wayhome("dns split list").out
    added = wayhome("dns split add home.example 192.168.1.1 192.168.1.2:5353")
    assert "names below home.example are asked of 192.168.1.1, 192.168.1.2:5353 now" in added.out
    assert "home.example" in wayhome("dns split list").out
    wrong = wayhome("dns split remove hom.example")
    assert wrong.status == 1 and "did you mean home.example?" in wrong.err
    assert "no resolver of its own" in wayhome("dns split remove home.example").out
    assert wayhome("dns split list --json").json == []


def test_publishing_by_way_of_a_board_that_is_away_says_so(wayhome, coordinator):
    board = coordinator.join(key_for(wayhome))
    assert (
        "board is away now; nas can be reached once it is back" in wayhome("publish nas --via board 192.168.1.10").out
    )
    assert wayhome("publish printer --via board 192.168.1.20 --json").json["via_online"] is False
    coordinator.do(coordinator.registry.set_online(board.id, True))
    assert "away" not in wayhome("publish camera --via board 192.168.1.30").out
    assert wayhome("publish list --json").json[0]["via_online"] is True


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("publish nas", "wayhome publish nas --via BOARD 192.168.1.10"),
        ("publish nas --via board", "wayhome publish nas --via BOARD 192.168.1.10"),
        ("publish nas 192.168.1.10", "wayhome publish nas --via BOARD 192.168.1.10"),
        ("publish list --via board 192.168.1.10", "can be called `list`"),
        ("publish nas --via board 192.168.1.10 192.168.1.11", "one IPv4 address"),
        ("publish nas --via board fd00::20", "one IPv4 address"),
        ("publish nas --via baord 192.168.1.10", "did you mean board?"),
        ("node show baord", "did you mean board?"),
        ("node delete baord --yes", "did you mean board?"),
        ("node approve AAAA-AAAA --user ana", "did you mean anna?"),
        ("route approve baord 192.168.1.0/24", "did you mean board?"),
        ("user delete ana --yes", "did you mean anna?"),
    ],
)
def test_a_mistake_ends_with_the_next_step(wayhome, coordinator, words, hint):
    coordinator.join(key_for(wayhome))
    ran = wayhome(words)
    assert ran.status == 1
    assert hint in ran.err
    assert ran.err.startswith("wayhome: ") and ran.err.count("\n") == 1


def test_what_a_stranger_calls_its_device_cannot_steer_the_terminal(wayhome, coordinator):
    wayhome("user create anna")
    coordinator.begin_login(1, "\x1b[31mred\x1b]0;title\x07", OS="linux\n\u202egpj")
    coordinator.begin_login(2, "[bold]loud[/bold] [link=http://evil.example]x[/link]")
    for words in ("node waiting", "node waiting --json"):
        out = wayhome(words).out
        assert not any(letter in out for letter in "\x1b\x07\u202e")
    out = wayhome("node waiting").out
    assert "[bold]loud[/bold]" in out and "linux\\x0a\\u202egpj" in out


# Nobody to speak to


def test_without_a_coordinator_it_says_how_to_start_one(wayhome, tmp_path):
    ran = wayhome("node list")
    assert ran.status == 1
    assert f"wayhome serve --state {tmp_path / 'state'}" in ran.err


def test_a_coordinator_that_died_is_told_from_one_that_never_was(wayhome, tmp_path):
    (tmp_path / "state").mkdir()
    listen(tmp_path / "state" / "wayhome.sock").close()
    ran = wayhome("node list")
    assert ran.status == 1 and "has stopped" in ran.err


def test_something_else_at_the_socket_is_told(wayhome, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "wayhome.sock").write_text("no socket")
    assert "wayhome serve" in wayhome("node list").err


def test_a_path_too_long_for_a_socket_is_told(wayhome, tmp_path):
    ran = wayhome(["node", "list", "--socket", "/" + "x" * 200])
    assert ran.status == 1 and "shorter" in ran.err


def test_the_socket_can_be_named_by_itself(wayhome, coordinator, monkeypatch, tmp_path):
    monkeypatch.delenv("WAYHOME_STATE")
    assert wayhome(["user", "list", "--json", "--socket", str(tmp_path / "state" / "wayhome.sock")]).json == []
    assert wayhome(["user", "list", "--json", "--state", str(tmp_path / "state")]).json == []


@pytest.mark.lab
def test_a_stranger_is_told_as_whom_to_ask(wayhome, coordinator, tmp_path):
    # every folder on the way is open, so that the socket's own rights are what is tried
    for folder in (tmp_path / "state", tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o055)
    # the interpreter itself may be out of a stranger's reach, so it becomes one only when it has started
    ask = (
        "import os, sys; from pathlib import Path; from wayhome.cli.admin_client import AdminClient; os.setgroups([]); "
        "os.setgid(65534); os.setuid(65534); AdminClient(Path(sys.argv[1])).get('nodes')"
    )
    words = [sys.executable, "-c", ask, str(tmp_path / "state" / "wayhome.sock")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sudo -u root" in done.stderr


def test_a_state_directory_that_is_another_users_is_no_misspelt_option(wayhome, coordinator, monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    ran = wayhome(["user", "list", "--json", "--state", str(tmp_path / "state")])
    assert ran.status == 0, ran.err


def test_the_installed_command_works_as_a_process(coordinator, tmp_path):
    environment = {**os.environ, "WAYHOME_STATE": str(tmp_path / "state")}
    words = [COMMAND, "user", "list", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"
