"""Kernel settings that we change, with what they were: kept in a file, so that even a killed daemon's can be undone.

The file is JSON: {"boot": id of the running boot, "changed": [[name, before, ours], ...]} in the order of the changes;
ours is "" for a setting that the kernel changes along with another. It serves the next daemon alone: where it can't be
written (a full disk), the tunnel stands all the same, for the one who could mend that may have no other way in.
"""

import json
import os

from wayhomed.port import const, runtime
from wayhomed.wire import json_text

_ROOT = "/proc/sys/"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_ENOENT = const(2)

FORWARD4 = "net/ipv4/ip_forward"
FORWARD6 = "net/ipv6/conf/all/forwarding"
_CONF4 = "net/ipv4/conf"
_CONF6 = "net/ipv6/conf"
_VALID_MARK = "net/ipv4/conf/all/src_valid_mark"


def read(name: str):
    """Return a setting's value as text, None where the kernel has no such setting."""
    try:
        with open(_ROOT + name) as setting:
            return setting.read().strip()
    except OSError as error:
        if error.errno == _ENOENT:
            return None
        raise


def read_or_none(name: str):
    """Return a setting's value as text, None where it can't be read."""
    try:
        return read(name)
    except OSError:
        return None


class Sysctls:
    """The settings that we changed. path: where the former values are kept; its folder must exist."""

    def __init__(self, path: str):
        self._path = path
        self._changed: list = []
        self.problem = ""  # why the file is not what it should be

    def adopt(self) -> bool:
        """Go on where a predecessor stopped; False if what it changed is not known, and so could never be put back."""
        try:
            return self._read_leftovers()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _read_leftovers(self) -> bool:
        """Take over what a predecessor of this boot changed; tell whether there was one."""
        with open(self._path) as kept:
            former = json_text.parse(kept.read().encode())
        if former["boot"] != _boot_id():
            return False
        self._changed = [[str(name), str(before), str(ours)] for name, before, ours in former["changed"]]
        return True

    def before(self, name: str):
        """Return what a setting was before we came."""
        for changed, former, _ours in self._changed:
            if changed == name:
                return former
        return read(name)

    def mark_replies(self) -> None:
        """Let a reply be looked up with its mark, or strict rp_filter takes replies to marked sockets for forged."""
        self._change([(_VALID_MARK, "1")])

    def forward(self) -> None:
        """Switch forwarding on, both families. Raises OSError.

        Switching IPv4's resets settings of each interface: those are kept first. Switching IPv6's stops router
        advertisements on interfaces with accept_ra=1, by which an uplink may have its only address: 2 keeps them.
        """
        if read(FORWARD4) == "0":
            self._keep(["net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/default/forwarding"])
            self._keep([_CONF4 + "/" + interface + "/forwarding" for interface in _interfaces(_CONF4)])
            self._change([(FORWARD4, "1")])
        if read(FORWARD6) == "0":
            listening = []
            for interface in _interfaces(_CONF6) + ["default"]:
                folder = _CONF6 + "/" + interface
                if read(folder + "/accept_ra") == "1" and read(folder + "/forwarding") == "0":
                    listening.append((folder + "/accept_ra", "2"))
            self._change(listening)
            self._keep(["net/ipv6/conf/default/forwarding"])
            self._keep([_CONF6 + "/" + interface + "/forwarding" for interface in _interfaces(_CONF6)])
            self._change([(FORWARD6, "1")])

    def stop_forwarding(self) -> None:
        """Undo forward()."""
        mark = [entry for entry in self._changed if entry[0] == _VALID_MARK]
        self._changed = [entry for entry in self._changed if entry[0] != _VALID_MARK]
        if self._changed:
            self._write_back()
            self._changed = mark
            self._save()
        else:
            self._changed = mark

    def undo(self) -> None:
        """Put everything back and forget it; also what a killed predecessor changed. After a reboot that is nothing.

        What somebody else has changed since is left alone.
        """
        if not self._changed:
            # Always looked for: who removed the file unread would leave its settings changed for ever.
            try:
                self._read_leftovers()
            except OSError as error:
                if error.errno != _ENOENT:
                    self.problem = "%s can't be read: %s" % (self._path, error)
            except (ValueError, KeyError, TypeError):
                pass  # half a file: from before writes were atomic, or another's
        self._write_back()
        self._changed = []
        for path in (self._path, self._path + ".new"):
            try:
                os.remove(path)
            except OSError as error:
                if error.errno != _ENOENT:
                    self.problem = "%s can't be removed: %s" % (path, error)

    def _write_back(self) -> None:
        """Put back all that lets itself be put back. Raises the first OSError after that; the record stays then."""
        problem = None
        for name, before, ours in reversed(self._changed):
            try:
                now = read(name)
                if now is not None and now != before and ours in (now, ""):
                    _write(name, before)
            except OSError as error:
                # an interface that goes at this moment answers with errors of its own: not the others' fault
                if read_or_none(name) is not None:
                    problem = problem or error
        if problem is not None:
            raise problem

    def _keep(self, names: list) -> None:
        """Remember settings that the kernel changes along with another."""
        for name in names:
            before = read(name)
            if before is not None and not self._is_known(name):
                self._changed.append([name, before, ""])

    def _is_known(self, name: str) -> bool:
        """Tell whether a setting has been changed before: somebody else put it back since, and may do so for ever."""
        return name in [changed for changed, _before, _ours in self._changed]

    def _change(self, wanted: list) -> None:
        for name, ours in wanted:
            before = read(name)
            if before is None or before == ours:
                continue
            if not self._is_known(name):
                self._changed.append([name, before, ours])
        self._save()
        for name, ours in wanted:
            before = read(name)
            if before is not None and before != ours:
                _write(name, ours)

    def _save(self) -> None:
        """Keep the former values on disk before any of them is changed; say so in `problem` if that can't be done."""
        text = json.dumps({"boot": _boot_id(), "changed": self._changed})
        try:
            runtime.write_file(self._path, text.encode(), 0o600)
        except OSError as error:
            self.problem = "%s can't be written: %s; a daemon that is killed would leave kernel settings changed" % (
                self._path,
                error,
            )
        else:
            self.problem = ""


def _write(name: str, value: str) -> None:
    try:
        with open(_ROOT + name, "w") as setting:
            setting.write(value)
    except OSError as error:
        if error.errno != _ENOENT:  # an interface that has gone
            raise


def _interfaces(folder: str) -> list:
    try:
        names = os.listdir(_ROOT + folder)
    except OSError as error:
        if error.errno == _ENOENT:  # a kernel without IPv6
            return []
        raise
    return sorted([name for name in names if name not in ("all", "default")])


def _boot_id() -> str:
    with open(_BOOT_ID) as boot:
        return boot.read().strip()
