"""What outlives the process: keys, settings, the last netmap. One directory (0700), files 0600, replaced atomically.

state.json    machine key, node key, the node key that is being registered, the coordinator's key, settings
netmap.json   the last netmap, so that a restart with no coordinator in reach comes up working; may be lost
time.json     the last trusted time
trial.json    while a change of the settings waits to be confirmed: what they go back to
tunnel.json   while a tunnel stands that outlives its daemon: the disco key that goes with its sessions
lock          held while a daemon uses the directory
"""

import json

from wayhomed.core import prefs as preferences
from wayhomed.core.map_response import MAX_MESSAGE_BYTES, ResponseReader
from wayhomed.core.netmap import Netmap
from wayhomed.port import random_bytes, runtime
from wayhomed.wire import json_text, keys
from wayhomed.wire.errors import BadWire

from .reason import reason

VERSION = 1
_STATE_BYTES = 1_048_576
_TIME_BYTES = 4_096
_NOT_WRITABLE = (28, 30, 122)  # ENOSPC, EROFS, EDQUOT
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class StateError(Exception):
    """The state directory can't be used; the text says why and what to do. Nothing in it was changed."""


class State:
    """The daemon's memory. Keys are raw private keys.

    node_private is what the tunnels use. next_node_private, if not None, is being registered to replace it: it is saved
    before the coordinator hears of it, so that no crash can lose a key that the coordinator already knows.

    said: what `wayhomectl up` and `down` said; fixed: the fields of Prefs that the configuration file says, which is
    not kept here; prefs: what holds, both together. server: the coordinator's URL that the keys are for.
    """

    def __init__(self, directory: str):
        self._directory = directory.rstrip("/") or "/"
        self._lock = None
        self.problem = ""  # why nothing can be written down
        self.machine_private = b""
        self.node_private = b""
        self.next_node_private: bytes | None = None
        self.server_key: bytes | None = None
        self.key_undated = False  # server_key came by a certificate whose dates nobody could judge
        self.registered = False
        self.said = preferences.Prefs()
        self.fixed: dict = {}
        self.prefs = preferences.settled(self.said, {})
        self.server = ""

    def open(self) -> None:
        """Read what is there; at the very first start make the keys. Raises StateError.

        A disk that can only be read keeps nobody from coming up: `problem` says so then. Keys made at a first start on
        such a disk are in memory alone.
        """
        is_ours = True
        try:
            try:
                runtime.make_directory(self._directory, 0o700)
                self._lock = runtime.lock_file(self._directory + "/lock")
                is_ours = self._lock is not None
            except OSError as error:
                if error.errno not in _NOT_WRITABLE:
                    raise
                # Without a lock; a second daemon still fails at the socket.
                self.problem = str(_not_written(self._directory, error))
            data = runtime.read_file(self._directory + "/state.json", _STATE_BYTES)
        except OSError as error:
            raise StateError(
                "the state directory %s can't be used: %s; run wayhomed as root or name another one with --state"
                % (self._directory, reason(error))
            )
        if not is_ours:
            raise StateError(
                "another wayhomed uses the state directory %s; stop it, or name another one with --state"
                % self._directory
            )
        if data is None:
            self.machine_private = keys.new_private(random_bytes(32))
            self.node_private = keys.new_private(random_bytes(32))
            try:
                self.save()
            except StateError as error:
                self.problem = str(error) + "; the next start would make another machine of this one"
        else:
            self._read(data)

    def close(self) -> None:
        """Let another process have the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _read(self, data: bytes) -> None:
        damaged = "%s/state.json is damaged (%s); restore it from a backup, or move it away to join anew"
        try:
            fields = json_text.parse(data)
        except ValueError:
            raise StateError(damaged % (self._directory, "it is not JSON"))
        if not isinstance(fields, dict) or not isinstance(fields.get("Version"), int):
            raise StateError(damaged % (self._directory, "it has no version"))
        if fields["Version"] > VERSION:
            raise StateError(
                "the state in %s was written by a newer wayhomed (format %d, this one knows %d); "
                "install that version again, or name another directory with --state"
                % (self._directory, fields["Version"], VERSION)
            )
        try:
            self.machine_private = _private(fields, "MachineKey")
            self.node_private = _private(fields, "NodeKey")
            self.next_node_private = _private(fields, "NextNodeKey") if fields.get("NextNodeKey") else None
            server_key = fields.get("ServerKey")
            self.server_key = keys.key_from_text(keys.MACHINE, server_key) if server_key else None
            self.key_undated = fields.get("KeyUndated") is True
            self.registered = fields.get("Registered") is True
            self.said = preferences.changed(preferences.Prefs(), fields.get("Prefs") or {})
            self.prefs = preferences.settled(self.said, {})
            server = fields.get("Server")
            self.server = server if isinstance(server, str) else self.said.login_server
        except BadWire as error:
            raise StateError(damaged % (self._directory, str(error)))

    def save(self) -> None:
        """Write keys and settings. Raises StateError; what was there before is then still there."""
        fields = {
            "Version": VERSION,
            "MachineKey": keys.key_text(keys.PRIVATE, self.machine_private),
            "NodeKey": keys.key_text(keys.PRIVATE, self.node_private),
            "Registered": self.registered,
            "Prefs": self.said.as_json(),
            "Server": self.server,
        }
        if self.next_node_private:
            fields["NextNodeKey"] = keys.key_text(keys.PRIVATE, self.next_node_private)
        if self.server_key:
            fields["ServerKey"] = keys.key_text(keys.MACHINE, self.server_key)
        if self.key_undated:
            fields["KeyUndated"] = True
        self._write("/state.json", fields)

    def begin_netmap(self) -> "NetmapFile":
        """Begin to write a netmap; its pieces are those of Netmap.json_pieces(). Raises StateError."""
        return NetmapFile(self._directory + "/netmap.json")

    def load_netmap(self):
        """Return the Netmap last saved, or None if none was. Raises StateError for one that can't be used."""
        path = self._directory + "/netmap.json"
        reader = ResponseReader()
        try:
            pieces = runtime.read_pieces(path, MAX_MESSAGE_BYTES)
            if pieces is None:
                return None
            for piece in pieces:
                reader.feed(piece)
            netmap = Netmap()
            netmap.apply(reader.close())
        except OSError as error:
            raise StateError("%s can't be read: %s; the coordinator will send a new netmap" % (path, reason(error)))
        except BadWire as error:
            raise StateError("%s is damaged (%s); the coordinator will send a new netmap" % (path, error))
        if netmap.node is None:  # a keep-alive is a whole response, too
            raise StateError("%s is damaged (it has no Node); the coordinator will send a new netmap" % path)
        return netmap

    def save_time(self, fields: dict) -> None:
        """Write a trusted time (core.clock.Saved.as_json). Raises StateError."""
        self._write("/time.json", fields)

    def load_time(self):
        """Return what save_time() wrote last, None for what can't be read: it is a help, no more."""
        try:
            data = runtime.read_file(self._directory + "/time.json", _TIME_BYTES)
            return json_text.parse(data or b"null")
        except (OSError, ValueError):
            return None

    def save_trial(self, before: dict) -> None:
        """Write what the settings go back to (Prefs.as_json). Raises StateError."""
        self._write("/trial.json", before)

    def load_trial(self):
        """Return what save_trial() wrote, None if nothing is on trial. What can't be read is nothing."""
        try:
            data = runtime.read_file(self._directory + "/trial.json", _STATE_BYTES)
            before = json_text.parse(data or b"null")
        except (OSError, ValueError):
            return None
        return before if isinstance(before, dict) else None

    def forget_trial(self) -> None:
        """Remove it: confirmed, or gone back. Raises StateError."""
        try:
            runtime.remove_file(self._directory + "/trial.json")
        except OSError as error:
            raise StateError("%s/trial.json can't be removed: %s" % (self._directory, reason(error)))

    def forget_netmap(self) -> None:
        """Remove the saved netmap: it belongs to another coordinator, or to a key that is no more."""
        try:
            runtime.remove_file(self._directory + "/netmap.json")
        except OSError as error:
            raise StateError("the old netmap can't be removed: " + reason(error))

    def save_disco(self, private: bytes) -> None:
        """Keep the disco key for a successor, for as long as the machine runs. Raises StateError."""
        self._write("/tunnel.json", {"Boot": _boot(), "DiscoKey": keys.key_text(keys.PRIVATE, private)})

    def load_disco(self):
        """Return the disco key that a predecessor kept since this machine was switched on, None if there is none."""
        try:
            data = runtime.read_file(self._directory + "/tunnel.json", _STATE_BYTES)
            fields = json_text.parse(data or b"{}")
            return _private(fields, "DiscoKey") if fields.get("Boot") == _boot() else None
        except (OSError, ValueError, AttributeError, TypeError, BadWire):
            return None  # peers will begin their sessions anew, no more

    def forget_disco(self) -> None:
        """Remove it: its sessions have ended. What can't be removed now will be overwritten, or never believed."""
        try:
            runtime.remove_file(self._directory + "/tunnel.json")
        except OSError:
            pass

    def _write(self, name: str, fields: dict) -> None:
        try:
            runtime.write_file(self._directory + name, json.dumps(fields).encode(), 0o600)
        except OSError as error:
            raise _not_written(self._directory + name, error)
        self.problem = ""


class NetmapFile:
    """A netmap being saved, piece by piece; the last one saved is there until keep() is done. Raises StateError."""

    def __init__(self, path: str):
        self._path = path
        try:
            self._file = runtime.Replacement(path, 0o600)
        except OSError as error:
            raise _not_written(path, error)

    def write(self, piece: bytes) -> None:
        try:
            self._file.write(piece)
        except OSError as error:
            raise _not_written(self._path, error)

    def keep(self) -> None:
        try:
            self._file.keep()
        except OSError as error:
            raise _not_written(self._path, error)

    def drop(self) -> None:
        self._file.drop()


def _not_written(path: str, error: OSError) -> StateError:
    return StateError(
        "%s can't be written: %s; make room or mend the disk, nothing was lost so far" % (path, reason(error))
    )


def _boot() -> str:
    """Return what tells this run of the machine from all others."""
    return str(runtime.read_file(_BOOT_ID, 64) or b"", "utf-8").strip()


def _private(fields: dict, name: str) -> bytes:
    return keys.key_from_text(keys.PRIVATE, fields.get(name) or "")
