"""Becoming a user with three rights, as a copy of this process does it."""

from shared.expect import raises
from shared.forked import exit_code_of
from wayhomed.linux import own_user
from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import process, runtime

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\nwayhome:x:990:991::/:/bin/false\nodd:x:y:1::/:\nodd2:x:1:::/:\n"
THREE = "%016x" % (1 << 10 | 1 << 12 | 1 << 13)


def own_status() -> dict:
    with open("/proc/self/status") as file:
        lines = [line.split(":") for line in file.read().split("\n") if ":" in line]
    return {line[0]: line[1].split() for line in lines}


def test_a_user_is_found_by_its_name_alone():
    assert own_user.ids_from(PASSWD, "wayhome") == (990, 991)
    for name in ("way", "broken", "odd", "odd2", "990", ""):
        assert own_user.ids_from(PASSWD, name) is None


def test_who_is_that_user_already_stays_as_it_is():
    before = own_status()
    if runtime.user_id() == 0:
        own_user.become("root")
    after = own_status()
    assert [after[name] for name in ("Uid", "CapEff", "CapBnd")] == [
        before[name] for name in ("Uid", "CapEff", "CapBnd")
    ]


def test_a_user_that_is_missing_is_named():
    assert "nobody-of-this-name" in str(raises(DataPlaneError, own_user.become, "nobody-of-this-name"))


def becomes_daemon() -> int:
    own_user.become("daemon")
    status = own_status()
    ids = [str(number) for number in own_user.user_ids("daemon")]
    if status["Uid"] != [ids[0]] * 4 or status["Gid"] != [ids[1]] * 4 or "0" in status["Groups"]:
        return 1
    if [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] != [[THREE]] * 5:
        return 2
    if status["NoNewPrivs"] != ["1"]:
        return 3
    with open("/proc/self/environ") as file:  # its own files are its own
        file.read()
    own_user.become("daemon")  # as after an upgrade in place
    # wireguard-go, say: it has the rights too, and can't have others
    script = f'grep -q "^CapEff:.*{THREE}$" /proc/self/status && ! kill -0 1 2>/dev/null && exit 7'
    process.replace(["sh", "-c", script])
    return 4


def test_root_becomes_a_user_with_three_rights_which_its_children_have_too():
    if runtime.user_id() == 0:
        assert exit_code_of(becomes_daemon) == 7


def becomes_it_without_the_right() -> int:
    own_user.become("daemon")
    raises(DataPlaneError, own_user.become, "bin")
    return 7


def test_who_is_not_root_is_told_what_to_do():
    if runtime.user_id() == 0:
        assert exit_code_of(becomes_it_without_the_right) == 7
    else:
        assert "leave out --user" in str(raises(DataPlaneError, own_user.become, "root"))
