"""Where the person at this command is logged in from. Source: environ(7) of OpenSSH and dropbear, proc(5)."""

from wayhomed.port import const, runtime

HERE = "here"  # nobody above this process came by SSH
_ENVIRON_BYTES = const(262_144)
_STATUS_BYTES = const(65_536)
_MOST_ANCESTORS = const(64)
_NAME = b"SSH_CONNECTION="


def came_from() -> str:
    """Return the address that the SSH session above us comes from, HERE if there is none, "" if that can't be told.

    `sudo` takes the variable away, so the processes above are asked too.
    """
    process = "self"
    told = HERE
    for _ in range(_MOST_ANCESTORS):
        try:
            environment = runtime.read_file("/proc/%s/environ" % process, _ENVIRON_BYTES)
            found = address_in(environment or b"")
            if found:
                return found
        except OSError:
            told = ""  # another user's: we are not root
        try:
            parent = parent_in(runtime.read_file("/proc/%s/status" % process, _STATUS_BYTES) or b"")
        except OSError:
            return ""
        if parent <= 1:
            return told
        process = str(parent)
    return ""


def address_in(environment: bytes) -> str:
    """Return the client's address in an environment (NAME=VALUE, each ended by a zero byte), "" if it has none."""
    for entry in environment.split(b"\0"):
        if entry[: len(_NAME)] == _NAME:
            words = entry[len(_NAME) :].split()
            try:
                return str(words[0], "ascii") if words else ""
            except ValueError:
                return ""
    return ""


def parent_in(status: bytes) -> int:
    """Return the parent's process id that /proc/PID/status names, 0 if it names none."""
    for line in status.split(b"\n"):
        if line[:5] == b"PPid:":
            try:
                return int(line[5:])
            except ValueError:
                return 0
    return 0
