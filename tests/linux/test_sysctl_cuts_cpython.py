"""The kernel's network settings when the daemon that changes them is killed: at each call by which it does.

What a real one changes is changed, in a network of its own; the next daemon puts back all of it, whenever the cut came.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.cuts import each_cut, written_paths
from wayhome.lab.daemon_command import RUNTIMES, wayhomed_words

pytestmark = pytest.mark.lab

CHANGE = """
import sys
from wayhomed.linux.sysctl import Sysctls
settings = Sysctls(sys.argv[1])
settings.mark_replies()
settings.forward()
settings.undo()
"""
PUT_BACK = """
import sys
from wayhomed.linux.sysctl import Sysctls
settings = Sysctls(sys.argv[1])
settings.undo()
print(settings.problem)
"""
LOOK = "cd /proc/sys/net; grep -rH . ipv4/ip_forward ipv4/conf ipv6/conf 2>/dev/null | grep -v 'stable_secret'"
# what of it is written first
WRITTEN = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/one/accept_ra"]


@pytest.fixture
def network() -> Iterator[list[str]]:
    """Give the words that run a command in a network with two interfaces besides its own."""
    script = "ip link add one type veth peer name two && ip link set one up && echo ready && exec sleep infinity"
    holder = subprocess.Popen(["unshare", "--net", "sh", "-euc", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        yield ["nsenter", "--net", "-t", str(holder.pid)]
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_whenever_it_is_killed_the_next_one_puts_everything_back(runtime, network: list[str], tmp_path: Path):
    undo = tmp_path / "undo.json"
    change = [*wayhomed_words(runtime)[:-1], str(tmp_path / "change"), str(undo)]
    put_back = [*wayhomed_words()[:-1], str(tmp_path / "back"), str(undo)]
    Path(change[-2]).write_text(CHANGE)
    Path(put_back[-2]).write_text(PUT_BACK)

    def look() -> str:
        return subprocess.run([*network, "sh", "-c", LOOK], capture_output=True, text=True, check=True).stdout

    before = look()
    assert "ipv4/ip_forward:0" in before and "ipv6/conf/one/forwarding:0" in before
    paths = [*written_paths(tmp_path, "undo.json"), *(Path("/proc/sys/net", name) for name in WRITTEN)]
    changed = set()
    for call in each_cut(change, paths, tmp_path / "trace", network):
        changed.add(look() != before)
        if undo.exists():
            json.loads(undo.read_bytes())
        done = subprocess.run([*network, *put_back], capture_output=True, text=True, check=True)
        assert (done.stdout, look()) == ("\n", before), call
        assert not undo.exists()
    assert changed == {True, False}


UNDO_AGAINST = """
import sys
from wayhomed.linux.sysctl import Sysctls
try:
    Sysctls(sys.argv[1]).undo()
except OSError as error:
    print("resisted", error.errno)
"""
RESIST = "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec".format("/proc/sys/net/ipv6/conf/all/forwarding")
EROFS = 30


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_setting_that_resists_keeps_no_other_from_being_put_back_and_is_put_back_later(
    runtime, network: list[str], tmp_path: Path
):
    undo = tmp_path / "undo.json"

    def run(script: str, *before: str) -> str:
        (tmp_path / "script").write_text(script)
        words = [*network, *before, *wayhomed_words(runtime)[:-1], str(tmp_path / "script"), str(undo)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def look() -> list[str]:
        done = subprocess.run([*network, "sh", "-c", LOOK], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    before = look()
    run(CHANGE.replace("settings.undo()\n", ""))
    assert "ipv4/ip_forward:1" in look() and "ipv6/conf/all/forwarding:1" in look()
    record = undo.read_bytes()
    against = ["unshare", "--mount", "sh", "-euc", RESIST + ' "$@"', "sh"]
    assert run(UNDO_AGAINST, *against) == f"resisted {EROFS}\n"
    after = look()
    assert "ipv4/ip_forward:0" in after and "ipv6/conf/one/accept_ra:1" in after
    # that of all interfaces alone has stayed, and with it what follows it: the loopback's, which nobody put back
    assert "ipv6/conf/all/forwarding:1" in after
    assert undo.read_bytes() == record
    assert run(PUT_BACK) == "\n"
    assert look() == before
    assert not undo.exists()
