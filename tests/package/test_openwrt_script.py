"""The procd script, as busybox's ash runs it. procd itself is not in Debian: here its shell functions only write down
how they are called, so these tests know that the script asks for the right things, not what procd makes of them.

Source of the functions and of what they take: OpenWrt, package/system/procd/files/procd.sh and
package/base-files/files/etc/rc.common.
"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from wayhome.lab.daemon_command import wayhomed_words

PACKAGE = Path(__file__).parents[2] / "firmware/package"
SCRIPT = PACKAGE / "openwrt/wayhomed.init"
FUNCTIONS = ["open_instance", "set_param", "append_param", "close_instance", "send_signal", "kill"]
# what procd.sh makes into something, by its kind: lists of words, numbers, signals by name, yes or no
LISTS = {"command", "respawn", "file", "netdev", "watchdog"}
NUMBERS = {"term_timeout", "nice"}
SWITCHES = {"stdout", "stderr", "no_new_privs"}
SIGNALS = {"reload_signal"}


def calls(action: str) -> list[list[str]]:
    """Return the words of each call of a procd function that an action of the script makes."""
    record = "".join(
        f'procd_{name}() {{ for each in {name} "$@"; do printf "%s\\0" "$each"; done; echo; }}\n' for name in FUNCTIONS
    )
    text = f'{record}. {shlex.quote(str(SCRIPT))}\n[ "$USE_PROCD" = 1 ]\n{action}\n'
    done = subprocess.run(["busybox", "ash", "-euc", text], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line.split("\0")[:-1] for line in done.stdout.splitlines()]


@pytest.fixture
def instances() -> dict[str, dict[str, list[str]]]:
    """Return what is asked of procd for each instance."""
    found: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] | None = None
    for name, *words in calls("start_service"):
        if name == "open_instance":
            assert current is None and words[0] not in found
            current = found[words[0]] = {}
        elif name == "close_instance":
            current = None
        else:
            assert name == "set_param" and current is not None and words[0] not in current
            current[words[0]] = words[1:]
    assert current is None
    return found


def test_daemon_and_helper_are_two_instances_of_what_the_installer_puts_there(instances, tmp_path):
    subprocess.run([PACKAGE / "install", "--service", "procd", "--root", tmp_path], check=True)
    assert set(instances) == {"daemon", "helper"}
    for asked in instances.values():
        program = tmp_path / asked["command"][0].lstrip("/")
        assert program.stat().st_mode & 0o111
    assert instances["helper"]["command"][1:] == ["helper"]
    assert (tmp_path / "etc/init.d/wayhomed").read_text().startswith("#!/bin/sh /etc/rc.common\n")


def test_the_daemons_options_are_options_of_the_daemon_and_its_state_is_not_lost_with_var(instances):
    words = instances["daemon"]["command"][1:]
    told = subprocess.run([*wayhomed_words(), "--help"], capture_output=True, text=True, check=True).stdout
    assert all(re.search(rf"^  {word}\b", told, re.MULTILINE) for word in words if word.startswith("--"))
    assert words[words.index("--state") + 1].startswith("/etc/")
    assert "--watchdog" not in words  # procd feeds it


def test_each_is_started_again_for_ever_and_gets_the_time_it_takes_to_stop(instances):
    for asked in instances.values():
        threshold_s, wait_s, most = map(int, asked["respawn"])
        assert threshold_s > 0 and 0 < wait_s <= 10 and most == 0
    assert int(instances["daemon"]["term_timeout"][0]) >= 30


def test_nothing_is_asked_that_procd_does_not_know(instances):
    for asked in instances.values():
        for name, words in asked.items():
            assert name in LISTS | NUMBERS | SWITCHES | SIGNALS, name
            if name not in LISTS:
                assert len(words) == 1
            if name in NUMBERS:
                assert words[0].isdigit()
            if name in SWITCHES:
                assert words[0] in ("0", "1")
            if name in SIGNALS:
                assert words[0] in ("HUP", "USR1")  # a name that `kill -l` knows


def test_a_reload_is_a_sighup_for_the_daemon_and_not_for_the_helper_which_would_end():
    assert calls("reload_service") == [["send_signal", "wayhomed", "daemon", "HUP"]]
