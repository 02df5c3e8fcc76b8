"""The configuration file on disk: which settings are in force, and what a fault does and does not."""

import os
from binascii import hexlify

from shared.expect import raises
from wayhomed.agent import configuration
from wayhomed.agent.configuration import Configuration, from_command_line, secret_problem
from wayhomed.agent.options import UsageError
from wayhomed.core import prefs
from wayhomed.core.ceiling import ANY
from wayhomed.port import random_bytes, runtime

BASE = "/tmp/wayhome-configuration-test-" + hexlify(random_bytes(6)).decode() + "-"
SOUND = b"hostname = attic\nallow-services = tcp:22\nport = 4000\n"


class Folder:
    """A configuration file and the state directory's copy of the last good one."""

    def __init__(self, name):
        self.path = BASE + name
        runtime.make_directory(self.path, 0o700)
        self.file = self.path + "/wayhomed.conf"
        self.copy = self.path + "/copy"

    def write(self, data):
        runtime.write_file(self.file, data, 0o600)

    def started(self, given=None):
        """Return what a daemon that starts now has."""
        made = Configuration(self.file, self.copy, given or {})
        made.read()
        return made

    def remove(self):
        for name in os.listdir(self.path):
            os.remove(self.path + "/" + name)
        os.rmdir(self.path)


def services(found):
    return found.ceiling.services


def test_no_file_is_no_fault_and_sets_nothing():
    folder = Folder("none")
    found = folder.started()
    assert found.problems == [] and found.preferences() == {} and found.value("port", 41641) == 41641
    assert services(found) == ANY and found.ceiling.lans == ANY
    assert os.listdir(folder.path) == []
    folder.remove()


def test_a_file_sets_what_it_says():
    folder = Folder("sound")
    folder.write(SOUND)
    found = folder.started()
    assert found.problems == [] and found.preferences() == {"Hostname": "attic"}
    assert found.value("port") == 4000 and services(found) == [(6, 22, 22)]
    assert found.place("port") == folder.file + ", line 3"
    folder.remove()


def test_the_command_line_wins():
    folder = Folder("given")
    folder.write(SOUND)
    found = folder.started({"port": 5000})
    assert found.value("port") == 5000
    wanted = prefs.changed(prefs.Prefs(), {"AcceptRoutes": True, "Hostname": "cellar"})
    assert found.settings(wanted) == [
        {"name": "hostname", "value": "attic", "from": "file"},
        {"name": "accept-routes", "value": "yes", "from": "up"},
        {"name": "allow-services", "value": "tcp:22", "from": "file"},
        {"name": "port", "value": "5000", "from": "command line"},
    ]
    folder.remove()


def test_a_fault_while_it_runs_changes_nothing_and_is_told():
    folder = Folder("reread")
    folder.write(SOUND)
    found = folder.started()
    folder.write(b"hostname = cellar\nallow-services = all\nsnat = maybe\n")
    found.reread()
    assert found.preferences() == {"Hostname": "attic"} and services(found) == [(6, 22, 22)]
    assert found.problems[0].startswith(folder.file + ", line 2: allow-services = all: ")
    assert found.problems[1].startswith(folder.file + ", line 3: snat = maybe: yes or no")
    assert found.problems[2] == "the configuration of before stays in force until that is mended"
    folder.write(b"hostname = cellar\nport = 4000\n")
    found.reread()
    assert found.problems == [] and found.preferences() == {"Hostname": "cellar"} and services(found) == ANY
    folder.remove()


def test_a_fault_is_survived_by_a_restart_with_the_last_file_that_had_none():
    folder = Folder("restart")
    folder.write(SOUND)
    folder.started()
    folder.write(b"hostname = cellar\nallow-services = all\n")
    for _ in range(2):
        found = folder.started()
        assert found.preferences() == {"Hostname": "attic"} and services(found) == [(6, 22, 22)]
        assert "allow-services" in found.problems[0] and "of before" in found.problems[1]
        assert found.place("port") == folder.file, "the line is another file's"
    folder.remove()


def test_a_fault_at_the_very_first_start_closes_what_it_is_about_and_nothing_else():
    folder = Folder("first")
    folder.write(b"hostname = attic\nallow-services = all\nadvertise-routes = 192.168.1.1/24\naccept-routes = jo\n")
    found = folder.started()
    assert found.preferences() == {"Hostname": "attic", "AdvertiseRoutes": [], "AcceptRoutes": False}
    assert services(found) == [] and found.ceiling.lans == ANY
    assert "stays closed" in found.problems[-1]
    assert folder.copy.split("/")[-1] not in os.listdir(folder.path), "a faulty file is not the last good one"
    folder.write(b"hostname = attic\nlimits = tcp:22\n")
    found = folder.started()
    assert services(found) == [] and found.ceiling.lans == [] and found.ceiling.publish == []
    folder.write(b"hostname = attic\n")
    found.reread()
    assert services(found) == ANY and found.problems == []
    folder.remove()


def test_a_file_that_can_not_be_read_is_a_fault_of_the_whole():
    folder = Folder("unreadable")
    folder.write(SOUND)
    folder.started()
    os.remove(folder.file)
    os.mkdir(folder.file)
    found = folder.started()
    assert services(found) == [(6, 22, 22)] and "can't be read" in found.problems[0]
    os.rmdir(folder.file)
    folder.write(b"x" * 70_000)
    found = folder.started()
    assert services(found) == [(6, 22, 22)] and found.problems
    folder.remove()


def test_a_damaged_copy_is_not_used():
    folder = Folder("copy")
    folder.write(b"hostname = attic\nnonsense\n")
    runtime.write_file(folder.copy, b"allow-services = policy\n\0", 0o600)
    assert services(folder.started()) == []
    folder.remove()


def test_the_copy_is_written_only_when_it_says_something_new():
    folder = Folder("wear")
    folder.write(SOUND)
    found = folder.started()
    os.remove(folder.copy)
    found.reread()
    assert folder.copy.split("/")[-1] in os.listdir(folder.path)
    written = []
    before = runtime.write_file
    runtime.write_file = lambda *words: written.append(words)
    try:
        found.reread()
        folder.started()
        assert not written
    finally:
        runtime.write_file = before
    folder.remove()


def test_a_copy_that_can_not_be_written_stops_nothing():
    folder = Folder("full")
    folder.write(SOUND)
    found = Configuration(folder.file, folder.path + "/no/such/folder", {})
    found.read()
    assert found.problems == [] and services(found) == [(6, 22, 22)]
    folder.remove()


def test_what_only_a_start_can_change_is_told():
    folder = Folder("start")
    folder.write(SOUND)
    found = folder.started()
    folder.write(b"port = 4001\ninterface = mesh0\n")
    found.reread()
    assert found.problems == ["only a restart of wayhomed takes over: interface, port"]
    folder.remove()


def test_a_secret_that_others_can_read_is_told_and_used():
    folder = Folder("secret")
    key = folder.path + "/auth.key"
    runtime.write_file(key, b"the-key\n", 0o644)
    folder.write(b"auth-key-file = " + key.encode() + b"\n")
    found = folder.started()
    assert found.problems == ["%s holds a secret, and others can read it; run: chmod 600 %s" % (key, key)]  # noqa: UP031
    assert found.auth_key() == "the-key"
    runtime.write_file(key, b"\xff\xfe", 0o600)
    found.reread()
    assert found.problems == [] and found.auth_key() == ""
    os.remove(key)
    found.reread()
    assert found.problems == [] and found.auth_key() == ""
    assert secret_problem("") == ""
    folder.remove()


def test_many_faults_do_not_fill_the_status():
    folder = Folder("many")
    folder.write(b"x = 1\n" * 30)
    found = folder.started()
    assert len(found.problems) == 7 and found.problems[5] == "25 more faults; see wayhomed --check-config"
    folder.remove()


def test_options_of_the_command_line_are_settings():
    values = {"interface": "mesh0", "port": "5", "wireguard": "kernel", "system-log": True, "verbose": True}
    assert from_command_line(values) == {
        "interface": "mesh0",
        "port": 5,
        "wireguard": "kernel",
        "system-log": True,
        "log-level": "debug",
    }
    assert from_command_line({"interface": None, "system-log": False}) == {}
    for name, text in (("port", "0"), ("port", "5'"), ("interface", "a/b"), ("wireguard", "x"), ("wireguard-go", "")):
        assert "--" + name in str(raises(UsageError, from_command_line, {name: text}))


def checked(data):
    """Return (exit status, what is printed) of wayhomed --check-config."""
    folder = Folder("check")
    if data is not None:
        folder.write(data)
    printed = []
    before = runtime.write_stdout
    runtime.write_stdout = printed.append
    try:
        status = configuration.check(folder.file)
    finally:
        runtime.write_stdout = before
    folder.remove()
    return status, "".join(printed)


def test_check_config_prints_what_a_file_says_or_all_that_is_wrong_with_it():
    status, text = checked(SOUND)
    assert status == 0 and text.split("\n")[1:4] == ["  hostname = attic", "  allow-services = tcp:22", "  port = 4000"]
    status, text = checked(b"hostname = attic\nport = x\nsnat = \x1b[0m\n")
    assert status == 1 and ", line 2: port = x: " in text and ", line 3: " in text and "\x1b" not in text
    assert "  hostname = attic" in text.split("\n")
    assert checked(None)[0] == 0
