"""The configuration file on disk: which settings are in force, where each comes from, and what is wrong with the file.

A file with a fault is not taken, not even in part: the last one without a fault stays in force. A copy of that is kept
in the state directory, so that a slip made on a remote board survives the next power cut, too. Where there is no copy
(the first start), the sound lines of the file hold, and what a faulty line is about is closed: see core.ceiling.
So a fault never keeps the daemon from starting, and never opens anything.
"""

from wayhomed.core import ceiling, config
from wayhomed.core.config import NAMES, SETTINGS, Config
from wayhomed.port import const, runtime

from . import options
from .reason import reason
from .state import StateError
from .visible_text import visible

PATH = "/etc/wayhome/wayhomed.conf"
_AUTH_KEY_BYTES = const(4096)
_OTHERS = const(0o077)
_SHOWN_FAULTS = const(5)
# What the daemon looks at once, when it starts.
_AT_START = ("wireguard", "wireguard-go", "interface", "port", "ntp-servers")


class Configuration:
    """The settings in force. `given` are those of the command line, which win; problems: sentences for the status."""

    def __init__(self, path: str = "", copy_path: str = "", given: dict | None = None):
        self.path = path
        self._copy_path = copy_path
        self._given = given or {}
        self._config = Config()
        self._at_start: dict = {}
        self._shown: list = []  # faults of the file as it is now
        self._before: Config | None = None  # while the file is on trial: what it goes back to
        self.ceiling = ceiling.Ceiling()
        self.problems: list = []

    def read(self) -> None:
        """Read the file as the daemon starts. Never raises: what can't be used is in `problems`."""
        self._config = self._read(self._copy())
        self._at_start = {name: self.value(name) for name in _AT_START}
        self._settle()

    def ahead(self, name: str, default=None):
        """Return what value() will return after read(); nothing is kept or written."""
        read = read_config(self.path)
        self._config = (self._copy() if read.faults else None) or read
        value = self.value(name, default)
        self._config = Config()
        return value

    def reread(self, on_trial: bool = False) -> bool:
        """Read the file again; one with a fault changes nothing.

        Return whether it is on trial now, which it is only if it says anything new: then confirm() or go_back() is due.
        Until then the copy of the last file without a fault stays, and this one is known as unconfirmed on disk.
        Raises StateError if what to go back to can't be written; then nothing has changed.
        """
        last = self._config
        if on_trial and self._try(last):
            self._settle()
            return True
        if self._before is None:
            self._forget_unconfirmed()
        self._config = self._read(last if not last.faults else self._copy())
        self._settle()
        return False

    # --- On trial ---

    def _try(self, last) -> bool:
        read = read_config(self.path)
        said = config.encode(read.values)
        if read.faults or said == config.encode(last.values):
            return False
        try:
            if self._before is None:
                runtime.write_file(self._copy_path, config.encode(last.values), 0o600)
            runtime.write_file(self._unconfirmed_path(), said, 0o600)
        except OSError as error:
            raise StateError("not taken: what it would go back to can't be written: " + reason(error))
        if self._before is None:
            self._before = last
        self._shown = []
        self._config = read
        return True

    def confirm(self) -> None:
        """What is on trial stays. Raises StateError."""
        if self._before is None:
            return
        try:
            runtime.write_file(self._copy_path, config.encode(self._config.values), 0o600)
            runtime.remove_file(self._unconfirmed_path())
        except OSError as error:
            raise StateError("%s can't be written: %s" % (self._copy_path, reason(error)))
        self._before = None

    def go_back(self) -> None:
        """What was on trial is not in force any more, though it stands in the file: _is_unconfirmed() knows it."""
        if self._before is not None:
            self._config, self._before = self._before, None
        self._shown = [_unconfirmed()]
        self._settle()

    def _is_unconfirmed(self, read) -> bool:
        try:
            data = runtime.read_file(self._unconfirmed_path(), config.MAX_FILE_BYTES) if self._copy_path else None
        except OSError:
            return False
        return data is not None and data == config.encode(read.values)

    def _forget_unconfirmed(self) -> None:
        try:
            if self._copy_path:
                runtime.remove_file(self._unconfirmed_path())
        except OSError:
            pass  # it is told again at the next start, no more

    def _unconfirmed_path(self) -> str:
        return self._copy_path + ".unconfirmed"

    def _read(self, last):
        """Return the Config to use: the file's if it has no fault, else `last`, else (if None) its sound lines."""
        read = read_config(self.path)
        self._shown = read.faults
        if not read.faults and self._is_unconfirmed(read):
            self._shown = [_unconfirmed()]
            return Config() if last is None else last
        if not read.faults:
            self._keep(config.encode(read.values))
            return read
        return read if last is None else last

    def _settle(self) -> None:
        self.ceiling = ceiling.from_config(self._config)
        self.problems = [fault_text(self.path, fault) for fault in self._shown[:_SHOWN_FAULTS]]
        if len(self._shown) > _SHOWN_FAULTS:
            self.problems.append("%d more faults; see wayhomed --check-config" % (len(self._shown) - _SHOWN_FAULTS))
        if self._shown:
            self.problems.append(
                "the configuration of before stays in force until that is mended"
                if not self._config.faults
                else "until that is mended, what the faulty lines are about stays closed"
            )
        waiting = [name for name in _AT_START if self.value(name) != self._at_start[name]]
        if waiting:
            self.problems.append("only a restart of wayhomed takes over: " + ", ".join(waiting))
        loose = secret_problem(self.value("auth-key-file", ""))
        if loose:
            self.problems.append(loose)

    # --- The copy of the last file without a fault ---

    def _copy(self):
        """Return the Config that was in force at last, or None."""
        if not self._copy_path:
            return None
        try:
            data = runtime.read_file(self._copy_path, config.MAX_FILE_BYTES)
        except OSError:
            return None
        kept = config.parse(data) if data is not None else None
        return None if kept is None or kept.faults else kept

    def _keep(self, data: bytes) -> None:
        """Write the copy if it says anything new: flash wears out."""
        if not self._copy_path:
            return
        try:
            if (runtime.read_file(self._copy_path, config.MAX_FILE_BYTES) or b"") != data:
                runtime.write_file(self._copy_path, data, 0o600)
        except OSError:
            pass  # a full disk is told where it hurts; the file itself is there and sound

    # --- Questions ---

    def value(self, name: str, default=None):
        """Return a setting's value: the command line's, else the file's, else `default`."""
        if name in self._given:
            return self._given[name]
        return self._config.values.get(name, default)

    def preferences(self) -> dict:
        """Return what the file says of the settings of `wayhomectl up`, as fields of core.prefs.changed()."""
        said = self._config.preferences()
        for fault in self._config.faults:
            # Of what a faulty line is about, nothing that `up` said earlier may be wider than what was meant there.
            if fault.key == "advertise-routes":
                said["AdvertiseRoutes"] = []
            elif fault.key == "accept-routes":
                said["AcceptRoutes"] = False
        return said

    def where(self, name: str) -> str:
        """Return where a setting comes from: "command line", "file" or ""."""
        if name in self._given:
            return "command line"
        return "file" if name in self._config.values else ""

    def place(self, name: str) -> str:
        """Return the file and line that a setting stands in, for people."""
        line = self._config.lines.get(name)
        return self.path + (", line %d" % line if line and not self._shown else "")

    def auth_key(self) -> str:
        """Return the auth key of the file that auth-key-file names, "" if there is none."""
        path = self.value("auth-key-file", "")
        if not path:
            return ""
        try:
            return str(runtime.read_file(path, _AUTH_KEY_BYTES) or b"", "utf-8").strip()
        except (OSError, ValueError):
            return ""

    def settings(self, prefs) -> list:
        """Return {"name", "value", "from"} of each setting that somebody has set; prefs: what `up` said, Prefs."""
        found = []
        said = prefs.as_json()
        standard = type(prefs)().as_json()
        for name in NAMES:
            field = config.PREFS.get(name)
            if self.where(name):
                entry = {"value": SETTINGS[name].write(self.value(name)), "from": self.where(name)}
            elif field and said[field] != standard[field]:
                entry = {"value": SETTINGS[name].write(said[field]), "from": "up"}
            else:
                continue
            entry["name"] = name
            found.append(entry)
        return found


def read_config(path: str) -> Config:
    """Return what the file says; no file says nothing. One that can't be read has a fault as a whole."""
    unreadable = Config()
    try:
        data = runtime.read_file(path, config.MAX_FILE_BYTES) if path else None
    except OSError as error:
        unreadable.faults.append(config.Fault(0, "", "it can't be read: " + reason(error)))
        return unreadable
    return unreadable if data is None else config.parse(data)


def _unconfirmed():
    return config.Fault(
        0, "", "it was changed over the mesh and not confirmed, so it is not taken; try again: wayhomectl reload"
    )


def fault_text(path: str, fault) -> str:
    """Return a fault as one line that names its file."""
    return path + (", " if fault.line else ": ") + fault.sentence()


def secret_problem(path: str) -> str:
    """Say what is wrong with a file that holds a secret, or ""."""
    try:
        if path and runtime.mode_of(path) & _OTHERS:
            return "%s holds a secret, and others can read it; run: chmod 600 %s" % (path, path)
    except OSError:
        pass  # no file, no leak
    return ""


def check(path: str) -> int:
    """Print what a file says and every fault in it, for `wayhomed --check-config`; return 0 if it has none, else 1."""
    try:
        is_there = runtime.is_there(path)
    except OSError:
        is_there = True
    if not is_there:
        runtime.write_stdout("there is no file %s, which is no fault: nothing is set by it\n" % path)
        return 0
    read = read_config(path)
    lines = [fault_text(path, fault) for fault in read.faults]
    loose = secret_problem(read.values.get("auth-key-file", ""))
    if loose:
        lines.append("warning: " + loose)
    if read.faults:
        sound = "; these lines are sound:" if read.values else ""
        lines.append("the file is not taken before that is mended" + sound)
    else:
        lines.append("%s has no fault. It says:" % path)
    lines += ["  " + line for line in str(config.encode(read.values), "utf-8").split("\n") if line]
    runtime.write_stdout("".join([visible(line) + "\n" for line in lines]))
    return 1 if read.faults else 0


def from_command_line(values: dict) -> dict:
    """Return {setting: value} of the options that were given. Raises UsageError."""
    given = {}
    for name in ("interface", "wireguard", "wireguard-go", "port"):
        text = values.get(name)
        if text is None:
            continue
        found = config.parse(("%s = '%s'" % (name, text)).encode())
        if found.faults:
            raise options.UsageError("--%s: %s" % (name, found.faults[0].expected))
        given[name] = found.values[name]
    if values.get("system-log"):
        given["system-log"] = True
    if values.get("verbose"):
        given["log-level"] = "debug"
    return given
