"""Labs are built, used and taken down for real."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wayhome.errors import HostError
from wayhome.lab import layout, plan, record
from wayhome.lab.interpreter import python_environment
from wayhome.lab.lab import Lab, LabError
from wayhome.lab.plan import PlanError
from wayhome.lab.transfer import Transfer
from wayhome.lab.waiting import wait_until

pytestmark = pytest.mark.lab

PAIR = """
title = "Two hosts on a wire"
[lans.wire]
ipv4 = "203.0.113.0/24"
ipv6 = "2001:db8:1::/64"
[hosts.one]
names = ["one.example"]
links.eth0 = { lan = "wire", ipv4 = ["203.0.113.1", "203.0.113.5"], ipv6 = "2001:db8:1::1" }
[hosts.two]
links.eth0 = { lan = "wire", ipv4 = "203.0.113.2", ipv6 = "2001:db8:1::2" }
web = 80
"""


@pytest.fixture
def pair():
    with Lab.up(plan.parse("pair", PAIR)) as lab:
        yield lab


@pytest.fixture(scope="module")
def story():
    with Lab.up("story") as lab:
        yield lab


def reaches(host, address):
    return host.reaches(address)


def alive(pid):
    try:
        return record.Process.of(pid)
    except ProcessLookupError:
        return None


def running_for_ever(host):
    """Return a process that is past nsenter and in the host."""
    process = host.popen(["sleep", "1000"])
    wait_until(lambda: "sleep" in Path(f"/proc/{process.pid}/comm").read_text(), 60, "the program to be there")
    return process


# -- what a lab is


def test_everybody_in_the_story_reaches_the_coordinator_by_its_name(story):
    for name in story.plan.hosts:
        assert reaches(story.host(name), "wayhome.example"), name


def test_nobody_reaches_a_home_from_outside(story):
    assert not reaches(story.host("laptop"), "192.168.1.10")
    assert not reaches(story.host("friend"), "192.168.1.10")


def test_both_homes_use_the_same_range_and_do_not_meet(story):
    # from the cafe, 192.168.1.10 would be in the own LAN, where nobody has it
    assert not reaches(story.host("traveller"), "192.168.1.10")
    assert reaches(story.host("board"), "192.168.1.10")


def test_there_is_no_way_out(story):
    done = story.host("board").run(["ping", "-c1", "-W1", "198.51.100.1"], check=False)
    assert done.returncode != 0
    interfaces = json.loads(story.host("coordinator").run(["ip", "-json", "link"]).stdout)
    assert [one["ifname"] for one in interfaces] == ["lo", "eth0"]


def test_the_coordinator_sees_customers_by_the_carriers_address(story):
    server = story.host("coordinator").popen(
        [sys.executable, "-m", "wayhome.lab.services", "web", "8080"], stdout=subprocess.PIPE, env=python_environment()
    )
    assert json.loads(server.stdout.readline()) == {"ready": 8080}
    story.host("nas").run(["curl", "-sS", "http://wayhome.example:8080/"])
    assert json.loads(server.stdout.readline())["client"] == "203.0.113.20"
    server.kill()
    server.wait()
    server.stdout.close()


def test_the_nas_tells_who_asked(story):
    page = story.host("board").run(["curl", "-sS", "http://192.168.1.10/hello"]).stdout
    assert page == "hello from nas; you are 192.168.1.2\n"
    last = wait_until(story.host("nas").web_log, 60, "the request in the log")[-1]
    assert last["client"] == "192.168.1.2"
    assert (last["method"], last["path"], last["host"], last["status"]) == ("GET", "/hello", "192.168.1.10", 200)


def test_the_web_server_sends_and_takes_as_much_as_is_asked_for(story):
    got = story.host("board").run(["curl", "-sS", "http://192.168.1.10/bytes/300000"]).stdout
    assert got == "\0" * 300_000
    said = story.host("board").run(["curl", "-sS", "--data-binary", "@-", "http://192.168.1.10/"], input="x" * 70_000)
    assert said.stdout == "70000\n"
    for path in ("/bytes/-1", "/bytes/x", "/bytes/99999999999999"):
        words = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://192.168.1.10{path}"]
        assert story.host("board").run(words).stdout == "404"


def test_ipv6_is_routed_and_its_homes_stay_closed():
    with Lab.up("story-ipv6") as lab:
        nas = lab.host("nas").address(family=6)
        assert reaches(lab.host("traveller"), nas)
        assert lab.host("board").run(["curl", "-sS", f"http://[{nas}]/"]).stdout.startswith("hello from nas")
        words = ["curl", "-sS", "--max-time", "1", f"http://[{nas}]/"]
        assert lab.host("traveller").run(words, check=False).returncode == 28
        assert lab.host("home-router").read_firewall_counters()["refused_in"][0] > 0


def test_the_board_can_be_the_router_on_the_carriers_range():
    with Lab.up("board-on-carrier") as lab:
        assert lab.host("board").address("wan") == "100.64.18.20"
        assert reaches(lab.host("nas"), "wayhome.example")
        # its neighbour at the carrier is in the mesh's range, and is reached without the mesh
        assert lab.host("nas").run(["curl", "-sS", "http://100.64.18.77/"]).stdout == (
            "hello from customer; you are 100.64.18.20\n"
        )


# -- what a host is


def test_a_host_has_its_own_name_files_and_run_folder(pair):
    one = pair.host("one")
    assert one.run(["hostname"]).stdout == "one\n"
    assert "127.0.1.1 one" in one.run(["cat", "/etc/hosts"]).stdout
    assert "nameserver" not in one.run(["cat", "/etc/resolv.conf"]).stdout
    one.run(["touch", "/run/wireguard/own"])
    assert not Path("/run/wireguard/own").exists()
    assert pair.host("two").run(["ls", "/run/wireguard"]).stdout == ""


def test_an_unknown_name_fails_at_once(pair):
    assert pair.host("two").run(["getent", "hosts", "one.example"]).stdout.split()[0] == "2001:db8:1::1"
    assert pair.host("two").run(["getent", "hosts", "nowhere.example"], check=False, timeout=10).returncode == 2


def test_only_routers_forward(story):
    assert story.host("nas").run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout == "0\n"
    assert story.host("carrier").run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout == "1\n"


def test_sysfs_shows_the_hosts_own_interfaces(pair):
    assert pair.host("one").run(["ls", "/sys/class/net"]).stdout.split() == ["eth0", "lo"]


def test_addresses_are_told_as_the_plan_has_them(pair):
    one = pair.host("one")
    assert one.address() == one.address("eth0") == "203.0.113.1"
    assert one.address(number=1) == "203.0.113.5"
    assert one.address(family=6) == "2001:db8:1::1"
    with pytest.raises(LabError, match="two has no IPv4 address number 1 on eth0"):
        pair.host("two").address(number=1)
    with pytest.raises(PlanError, match="no host three in the plan pair"):
        pair.host("three")
    with pytest.raises(PlanError, match="host one has no interface wan"):
        one.address("wan")


def test_counters_grow_with_what_passes(pair):
    before = pair.host("one").read_counters()
    pair.host("two").run(["ping", "-c3", "-i0.01", "203.0.113.1"])
    after = pair.host("one").read_counters("eth0")
    assert after["rx_packets"] >= before["rx_packets"] + 3
    assert after["tx_bytes"] > before["tx_bytes"]


def test_a_pulled_cable_is_seen_and_can_be_put_back(pair):
    pair.host("one").unplug("eth0")
    assert "NO-CARRIER" in pair.host("one").run(["ip", "link", "show", "eth0"]).stdout
    assert not reaches(pair.host("two"), "203.0.113.1")
    pair.host("one").plug("eth0")
    # The other end is in the middle of asking in vain for this one's Ethernet address; it asks again each second.
    pair.wait_until(lambda: reaches(pair.host("two"), "203.0.113.1"), 60, "the cable carries again")
    assert pair.host("one").run(["ip", "-6", "addr", "show", "eth0"]).stdout.count("2001:db8:1::1")


def test_an_ipv6_address_can_change_and_the_way_behind_a_router_that_moved_is_found_again():
    with Lab.up("story-ipv6-only") as lab:
        traveller, nas = lab.host("traveller"), lab.host("nas").address(family=6)
        assert reaches(traveller, nas)
        lab.host("nas").change_address("eth0", "2001:db8:18:1001::99")
        assert not reaches(traveller, nas)
        assert reaches(traveller, lab.host("nas").address(family=6))
        lab.host("home-router").change_address("wan", "2001:db8:18:0::77")
        assert reaches(traveller, lab.host("nas").address(family=6))
        assert reaches(lab.host("board"), "wayhome.example")
        assert lab.host("board").run(["ip", "-4", "-br", "addr", "show", "eth0"]).stdout == ""


def test_a_stream_comes_as_it_was_sent_and_its_pauses_are_noted(story):
    nas, board = story.host("nas"), story.host("board")
    transfer = Transfer.start(nas, board, "http://192.168.1.10", name="watched", rate=400_000)
    board.unplug("eth0")
    unplugged = time.monotonic()
    time.sleep(0.5)
    board.plug("eth0")
    wait_until(lambda: transfer.longest_silence_s(unplugged - 0.2) > 0.4, 60, "the pause to be noted")
    assert transfer.received_between(unplugged + 0.1, unplugged + 0.4) == 0
    total = transfer.stop()
    assert total >= 65_536 and total == transfer.received_bytes()


def test_a_stream_that_breaks_is_told(story):
    transfer = Transfer.start(story.host("nas"), story.host("board"), "http://192.168.1.10", name="breaks", rate=99_999)
    story.host("board").run(["ss", "--kill", "--tcp", "dport", "=", ":80"])
    with pytest.raises(HostError, match="the transfer breaks broke"):
        wait_until(lambda: not transfer.lines(), 60, "the break to be told")


# -- running things


def test_a_failing_command_says_where_and_what(pair):
    with pytest.raises(LabError, match=r"on one, `sh -c echo no; exit 3` failed with status 3:\nno"):
        pair.host("one").run(["sh", "-c", "echo no; exit 3"])
    assert pair.host("one").run(["false"], check=False).returncode == 1


def test_a_command_gets_input_and_environment(pair):
    done = pair.host("one").run(["sh", "-c", 'read line; echo "$line $WORD"'], input="hello\n", env={"WORD": "there"})
    assert done.stdout == "hello there\n"


def test_a_command_that_takes_too_long_is_killed(pair):
    process = None
    with pytest.raises(subprocess.TimeoutExpired):
        pair.host("one").run(["sleep", "1000"], timeout=0.05)
    process = pair.host("one").run(["pgrep", "-x", "sleep"], check=False)
    assert process.stdout == ""


def test_a_started_process_has_a_number_of_this_machine_and_takes_signals(pair):
    process = running_for_ever(pair.host("one"))
    assert Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n"
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_a_process_can_be_started_from_any_thread(pair):
    import threading

    results = []
    thread = threading.Thread(target=lambda: results.append(pair.host("one").run(["hostname"]).stdout))
    thread.start()
    thread.join()
    assert results == ["one\n"]
    # and the threads' own children are where they always were
    assert os.readlink("/proc/self/ns/pid") == os.readlink("/proc/thread-self/ns/pid_for_children")


# -- taking down


def test_everything_ends_with_the_lab():
    with Lab.up(plan.parse("pair", PAIR)) as lab:
        kind = running_for_ever(lab.host("one"))
        # neither signals nor a session of its own help
        stubborn = lab.host("one").popen(
            ["sh", "-c", "trap '' TERM; setsid sleep 1000 & echo $!; read never"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stubborn.stdout.readline()
        network = os.stat(lab.host("one").namespace).st_ino
        keeper = lab.keeper
    assert kind.returncode == -signal.SIGTERM
    assert stubborn.returncode == -signal.SIGKILL
    stubborn.stdin.close()
    stubborn.stdout.close()
    assert not keeper.is_running()
    assert not lab.folder.exists()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            assert os.stat(entry / "ns/net").st_ino != network
        except OSError:
            continue


def test_taking_down_twice_is_fine(pair):
    pair.down()
    pair.down()


def test_a_plan_that_cannot_be_built_leaves_nothing(monkeypatch):
    monkeypatch.setattr(layout, "host_script", lambda plan, host: "echo the kernel says no; exit 1")
    with pytest.raises(LabError, match="setting up one failed: the kernel says no"):
        Lab.up(plan.parse("pair", PAIR), name="cannot-be-built")
    assert record.load("cannot-be-built") is None


def test_two_labs_of_one_plan_live_beside_each_other(pair):
    with Lab.up(plan.parse("pair", PAIR)) as other:
        assert other.name != pair.name
        assert reaches(other.host("one"), "203.0.113.2")
        other.host("two").unplug("eth0")
        assert reaches(pair.host("one"), "203.0.113.2")
    assert reaches(pair.host("one"), "203.0.113.2")


def test_a_name_is_given_once():
    with (
        Lab.up(plan.parse("pair", PAIR), name=f"once-{os.getpid()}") as lab,
        pytest.raises(HostError, match=f"a lab named {lab.name} is there already"),
    ):
        Lab.up(plan.parse("pair", PAIR), name=lab.name)
    for name in ("../x", "", "UP", "x" * 60):
        if name:
            with pytest.raises(LabError, match="is no name for a lab"):
                Lab.up(plan.parse("pair", PAIR), name=name)


@pytest.mark.parametrize("file_name", ["My Plan", "-", "Großes Heim", "x" * 100])
def test_a_plans_file_may_be_called_anything(file_name):
    with Lab.up(plan.parse(file_name, PAIR)) as lab:
        assert Lab.attach(lab.name).plan.hosts == lab.plan.hosts


_BUILDER = """
import sys
from wayhome.lab.lab import Lab
lab = Lab.up("same-lan", name=sys.argv[1])
process = lab.host("one").popen(["sleep", "1000"])
print(lab.keeper.pid, process.pid, flush=True)
sys.stdin.read()
"""


def test_a_lab_ends_with_its_builder_even_by_kill_9():
    name = f"killed-{os.getpid()}"
    builder = subprocess.Popen(
        [sys.executable, "-c", _BUILDER, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python_environment(),
        text=True,
    )
    with builder:
        pids = [int(word) for word in builder.stdout.readline().split()]
        assert all(alive(pid) for pid in pids)
        assert record.load(name).owner.pid == builder.pid
        builder.kill()
        builder.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), 60, "the lab's processes to end")
    # only the record is left, and whoever comes next removes it
    # (or has: other programs on this machine look as well)
    record.remove_orphans()
    assert record.load(name) is None


def test_a_builder_killed_at_any_moment_leaves_nothing():
    for number in range(6):
        name = f"early-{os.getpid()}-{number}"
        builder = subprocess.Popen(
            [sys.executable, "-c", _BUILDER, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=python_environment(),
        )
        with builder:
            # killed when this much is done: the record claimed, the keeper known, ...
            wait_until(lambda name=name: record.load(name), 60, "the record")
            if number % 2:
                wait_until(lambda name=name: record.load(name).keeper, 60, "the keeper")
            builder.kill()
            builder.wait()
        found = record.load(name)
        record.remove_orphans()
        assert record.load(name) is None
        if found.keeper is not None:
            # its last zombies are reaped by whoever inherits the builder's children
            wait_until(lambda keeper=found.keeper: not keeper.is_running(), 60, "the keeper to be gone")


_WAITING_BUILDER = """
import sys
from wayhome.lab import layout
from wayhome.lab.lab import Lab
layout.wait_for_link_text = lambda interface: "exec sleep 1000\\n"
Lab.up("same-lan", name=sys.argv[1])
"""


def test_a_host_that_is_being_set_up_ends_with_its_builder():
    name = f"setup-{os.getpid()}"
    words = [sys.executable, "-c", _WAITING_BUILDER, name]
    with subprocess.Popen(words, env={**python_environment(), "BUILDER": name}) as builder:
        waiting = wait_until(lambda: sleepers(f"BUILDER={name}"), 60, "a host that waits for its interface")
        builder.kill()
    wait_until(lambda: not any(alive(pid) for pid in waiting), 60, "the host's script to end")
    record.remove_orphans()
    assert record.load(name) is None


def sleepers(mark):
    """Return the processes that sleep and have the mark in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text() == "sleep\n" and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


_KILLED_AMID_RECORDS = """
import os, signal, sys
from wayhome.lab import record

left = int(sys.argv[2])

def count_down(event, arguments):
    global left
    if str(record.ROOT) in str(arguments[:1]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

made = record.Record(sys.argv[1], "story", owner=record.Process.of(os.getpid()))
sys.addaudithook(count_down)
record.claim(made)
record.remove(made)
"""


def test_a_process_killed_while_it_makes_or_removes_a_record_leaves_nothing():
    name = f"half-{os.getpid()}"
    steps = 0
    while True:
        words = [sys.executable, "-c", _KILLED_AMID_RECORDS, name, str(steps)]
        with subprocess.Popen(words, env=python_environment()) as process:
            status = process.wait()
        record.remove_orphans()
        assert list(record.ROOT.glob(f".{process.pid}.*")) == []
        assert not (record.ROOT / name).exists()
        if status == 0:
            break
        assert status == -signal.SIGKILL
        steps += 1
    assert steps >= 5  # made, filled, named, renamed, removed


def test_a_lab_ends_with_its_keeper(pair):
    process = running_for_ever(pair.host("one"))
    pair.keeper.send(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    pair.down()
    assert not pair.folder.exists()


# -- labs that outlive their builder


def test_a_lab_can_be_left_running_and_found_again():
    first = Lab.up("same-lan", name=f"left-{os.getpid()}")
    try:
        first.host("home-router").change_address("wan", "203.0.113.77")
        first.leave_running()
        again = Lab.attach(first.name)
        assert again.host("home-router").address("wan") == "203.0.113.77"
        assert reaches(again.host("one"), "wayhome.example")
        assert again.host("two").web_log() == []
        assert first.name not in record.remove_orphans()
    finally:
        Lab.attach(first.name).down()
    assert record.load(first.name) is None
    first.down()


def test_attaching_to_nothing_says_what_is_running():
    with pytest.raises(LabError, match="no lab nothing-here is running"):
        Lab.attach("nothing-here")


def test_a_record_of_a_process_number_used_again_is_an_orphan():
    name = f"reused-{os.getpid()}"
    someone_else = record.Process(os.getpid(), started=1)
    record.claim(record.Record(name, "story", owner=someone_else, keeper=someone_else))
    record.remove_orphans()
    assert record.load(name) is None
