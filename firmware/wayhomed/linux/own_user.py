"""Becoming a user with the daemon's three rights, for service managers that can't do it: busybox's init, procd.

The rights (CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW) are made ambient, so that wireguard-go as a child and a
new process in this one's place have them too; all others are gone for good. Not left to a program: busybox's setpriv
knows no users, and util-linux's is on few boards.
Source: capabilities(7), capset(2), prctl(2), passwd(5).
"""

import struct

from wayhomed.port import const, runtime
from wayhomed.port.ffi import errno_after_call, libc

from .errors import DataPlaneError

# <linux/capability.h>
RIGHTS = (10, 12, 13)  # net_bind_service, net_admin, net_raw
_VERSION_3 = const(0x20080522)
_LAST_POSSIBLE = const(63)
# <linux/prctl.h>
_SET_DUMPABLE = const(4)
_SET_KEEPCAPS = const(8)
_CAPBSET_DROP = const(24)
_SET_NO_NEW_PRIVS = const(38)
_CAP_AMBIENT = const(47)
_CAP_AMBIENT_RAISE = const(2)
_EINVAL = const(22)
_PASSWD = "/etc/passwd"
_PASSWD_BYTES = const(262_144)


def user_ids(name: str):
    """Return the (user, group) numbers that /etc/passwd has for a name, None if it has no such user. Raises OSError."""
    return ids_from(str(runtime.read_file(_PASSWD, _PASSWD_BYTES) or b"", "utf-8"), name)


def ids_from(passwd: str, name: str):
    """Return the (user, group) numbers of a user by the text of a passwd file, None if it has no such user."""
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) > 3 and fields[0] == name and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
    return None


def become(name: str) -> None:
    """Become this user, with its groups and RIGHTS alone; nothing happens to who is that user already.

    Raises DataPlaneError, and then who we are is in between: the process must end.
    """
    try:
        ids = user_ids(name)
        if ids is None:
            raise DataPlaneError("there is no user %s; make it, or leave out --user" % name)
        if ids[0] != runtime.user_id():
            _become(name, ids[0], ids[1])
    except OSError as error:
        raise DataPlaneError(
            "wayhomed can't become the user %s (%s); start it as root, or leave out --user" % (name, error.args[-1])
        )


def _become(name: str, user: int, group: int) -> None:
    library = libc()
    control = library.func("i", "prctl", "iLLLL")
    for right in range(_LAST_POSSIBLE + 1):
        if right not in RIGHTS and control(_CAPBSET_DROP, right, 0, 0, 0) < 0:
            if errno_after_call() != _EINVAL:  # a right that this kernel does not have
                raise OSError(errno_after_call(), "giving up what root may")
    _checked(control(_SET_KEEPCAPS, 1, 0, 0, 0), "keeping rights")
    _checked(library.func("i", "initgroups", "si")(name, group), "its groups")
    _checked(library.func("i", "setresgid", "iii")(group, group, group), "its group")
    _checked(library.func("i", "setresuid", "iii")(user, user, user), "its user id")
    rights = sum([1 << right for right in RIGHTS])
    header = bytearray(struct.pack("Ii", _VERSION_3, 0))
    # effective, permitted and inheritable, first of rights 0 to 31 and then of the others
    sets = bytearray(struct.pack("IIIIII", rights, rights, rights, 0, 0, 0))
    _checked(library.func("i", "capset", "pp")(header, sets), "its rights")
    for right in RIGHTS:
        _checked(control(_CAP_AMBIENT, _CAP_AMBIENT_RAISE, right, 0, 0), "its rights")
    _checked(control(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new rights")
    # Who changes its user may not look at its own files in /proc until it says so, or starts another program.
    _checked(control(_SET_DUMPABLE, 1, 0, 0, 0), "its own files in /proc")


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(errno_after_call(), what)
