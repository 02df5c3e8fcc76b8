"""What is written down about running labs: /run/wayhome-lab/NAME/lab.json, one folder a lab.

A process is named by its number and start time, so that a number used again is never taken for it. A lab is running as
long as its keeper is; the record only says where to find it. So a record without its processes is an orphan, and is
removed by whoever comes by next.

A record appears and goes in one step: its folder is filled before, and emptied after, under a name that begins with a
dot and tells which process does it. If that process is killed meanwhile, the same visitors remove the folder.
"""

import json
import os
import re
import secrets
import shutil
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import HostError

ROOT = Path("/run/wayhome-lab")
_FILE = "lab.json"
_OWN_FOLDER = re.compile(r"\.([0-9]+)\.([0-9]+)\.")  # pid and start time of who makes or removes a record in it
_KILL_SECONDS = 15


@dataclass(frozen=True)
class Process:
    """A process on this machine. started: clock ticks after boot (field 22 of /proc/PID/stat, proc(5))."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Return the running process of this number. Raises ProcessLookupError."""
        state, started = _stat(pid)
        if state == "Z":
            raise ProcessLookupError(pid)
        return cls(pid, started)

    def is_running(self) -> bool:
        try:
            return Process.of(self.pid) == self
        except ProcessLookupError:
            return False

    def send(self, number: int) -> None:
        """Send this very process a signal; nothing if it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor is bound to one process: if that is the one meant, the signal cannot reach another.
            if self.is_running():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)


def processes_of(keeper: Process) -> list[Process]:
    """Return what runs in a lab: every process of the keeper's pid namespace but itself."""
    return [Process(pid, started) for pid, state, started in _inside(keeper) if state != "Z"]


def end(keeper: Process) -> None:
    """Kill a lab's keeper, and with it all that runs in the lab. Returns when that is done; raises HostError if it
    does not come to be.

    A process that was started from outside stays a zombie until its parent has looked, and the keeper, dead but for its
    number, stays with it. That is not waited for: nothing runs then, and no namespace is held.
    """
    keeper.send(signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    while keeper.is_running():
        if not _holds_namespaces(keeper):
            states = [state for _, state, _ in _inside(keeper)]
            if states and all(state == "Z" for state in states):
                return
        if time.monotonic() > deadline:
            raise HostError(f"process {keeper.pid} does not end even by SIGKILL; look at it with ps")
        time.sleep(0.002)


def _inside(keeper: Process) -> list[tuple[int, str, int]]:
    """Return pid, state (proc(5)) and start time of everything in the keeper's pid namespace but itself."""
    try:
        namespace = os.readlink(f"/proc/{keeper.pid}/ns/pid")
    except OSError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == keeper.pid:
            continue
        try:
            if os.readlink(entry / "ns/pid") == namespace:
                found.append((int(entry.name), *_stat(int(entry.name))))
        except OSError:
            continue  # it has just ended
    return found


def _holds_namespaces(keeper: Process) -> bool:
    try:
        os.readlink(f"/proc/{keeper.pid}/ns/net")
    except OSError:
        return False
    return True


def _stat(pid: int) -> tuple[str, int]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    # The second field is the name in brackets, and may hold spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


@dataclass(frozen=True)
class Record:
    name: str
    plan: str  # the plan's name or path, as it was asked for
    owner: Process | None  # the tool that takes the lab down; None: it stays until `wayhome lab down`
    keeper: Process | None = None  # None while it is being built
    # host name -> kind of namespace (net, mnt, uts) -> the keeper's descriptor
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    def is_running(self) -> bool:
        return self.keeper is not None and self.keeper.is_running()

    def is_orphan(self) -> bool:
        """Tell whether nobody will ever take this lab down."""
        if self.owner is not None:
            return not self.owner.is_running()
        return not self.is_running()


def claim(record: Record) -> None:
    """Write a new lab's record. Raises HostError if the name is taken."""
    temporary = _own_path()
    try:
        _make_folder(temporary)
        (temporary / _FILE).write_text(_dump(record))
        # rename puts the folder with its record there in one step, and refuses to replace one that holds a record
        temporary.rename(record.folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if record.folder.exists():
            raise HostError(
                f"a lab named {record.name} is there already; see `wayhome lab list`, or give another --name"
            ) from None
        raise HostError(f"cannot write the lab's record below {ROOT}: {error}") from error


def update(record: Record) -> None:
    """Replace a lab's record in one step."""
    temporary = record.folder / f"{_FILE}.new"
    temporary.write_text(_dump(record))
    temporary.rename(record.folder / _FILE)


def remove(record: Record) -> None:
    """Take a record away, with all files in its folder; nothing if it is gone already."""
    temporary = _own_path()
    try:
        record.folder.rename(temporary)
    except FileNotFoundError:
        pass  # somebody else was faster
    shutil.rmtree(temporary, ignore_errors=True)
    _remove_root()


def _remove_root() -> None:
    try:
        ROOT.rmdir()
    except OSError:
        pass  # other labs' records are there


def _own_path() -> Path:
    """Return a new path for a folder that is no record, and that says whose it is."""
    own = Process.of(os.getpid())
    return ROOT / f".{own.pid}.{own.started}.{secrets.token_hex(4)}"


def _make_folder(path: Path) -> None:
    while True:
        ROOT.mkdir(mode=0o755, exist_ok=True)
        try:
            path.mkdir(mode=0o755)
            return
        except FileNotFoundError:
            continue  # another lab was the last, and took ROOT away just now


def _remove_forgotten_folders() -> None:
    """Remove the folders of processes that were killed while they made or removed a record."""
    for folder in ROOT.glob(".*"):
        found = _OWN_FOLDER.match(folder.name)
        if found is not None and not Process(int(found[1]), int(found[2])).is_running():
            shutil.rmtree(folder, ignore_errors=True)
            _remove_root()


def load(name: str) -> Record | None:
    """Return the record of this name, None if there is none."""
    try:
        return _parse((ROOT / name / _FILE).read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_all() -> list[Record]:
    try:
        names = sorted(entry.name for entry in ROOT.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    return [record for name in names if (record := load(name)) is not None]


def remove_orphans() -> list[str]:
    """End and forget the labs whose tools are gone; return their names."""
    removed = []
    for record in load_all():
        if record.is_orphan():
            if record.keeper is not None:
                end(record.keeper)
            remove(record)
            removed.append(record.name)
    _remove_forgotten_folders()
    return removed


def _dump(record: Record) -> str:
    return json.dumps(asdict(record), indent=2) + "\n"


def _parse(text: str) -> Record:
    document = json.loads(text)

    def process(value: Any) -> Process | None:
        return None if value is None else Process(int(value["pid"]), int(value["started"]))

    document["owner"] = process(document["owner"])
    document["keeper"] = process(document["keeper"])
    return Record(**document)
