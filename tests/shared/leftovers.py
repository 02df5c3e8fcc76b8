"""Tests that build networks must leave none behind: checked once, when all tests of the session are over.

Every process that a test starts inherits a mark in its environment. What still runs at the end with that mark, in
another network or process namespace than ours, is a leftover, and its environment tells which test has started it. A
namespace lives by its processes, by names in the file system or by open descriptors; all three are looked at.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_MARK = "WAYHOME_TEST_SESSION"
_SECONDS = 10
_SESSIONS = Path(tempfile.gettempdir(), f"wayhome-tests-{os.getuid()}")


@pytest.fixture(scope="session", autouse=True)
def nothing_of_a_lab_is_left_behind():
    os.environ[_MARK] = secrets.token_hex(8)
    _SESSIONS.mkdir(exist_ok=True)
    sign = _SESSIONS / str(os.getpid())
    sign.touch()
    before = _machine_wide()
    yield
    sign.unlink(missing_ok=True)
    deadline = time.monotonic() + _SECONDS
    while (left := _left_behind(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in _marked_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "left behind by tests:\n" + "\n".join(left)


def _left_behind(before: set[str]) -> list[str]:
    left = [f"process {pid}: {_command(pid)} (started by {_test_of(pid)})" for pid in _marked_processes()]
    left += [f"lab record {name}" for name in _own_records()]
    left += _held_descriptors()
    # What has no owner cannot be told from what others are just using; the session that ends last looks at it.
    if not _others_are_testing():
        left += sorted(_machine_wide() - before)
    return left


def _others_are_testing() -> bool:
    """Tell whether another session (or another worker of this one) runs tests on this machine."""
    for sign in _SESSIONS.iterdir():
        if Path("/proc", sign.name).exists():
            return True
        sign.unlink(missing_ok=True)
    return False


def _marked_processes() -> list[int]:
    mark = f"{_MARK}={os.environ[_MARK]}".encode()
    own = _namespaces("self")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _namespaces(entry.name) not in (own, None):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _namespaces(pid: str) -> tuple[str, str] | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/net"), os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None  # ended, or another user's


def _own_records() -> list[str]:
    """Return the labs whose record names this process as their owner."""
    found = []
    for path in Path("/run/wayhome-lab").glob("*/lab.json"):
        try:
            owner = json.loads(path.read_text())["owner"]
        except OSError:
            continue
        if owner and owner["pid"] == os.getpid():
            found.append(path.parent.name)
    return found


def _held_descriptors() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith(("net:[", "mnt:[", "pid:[", "uts:[")):
            found.append(f"descriptor {descriptor.name} of this process on {target}")
    return found


def _machine_wide() -> set[str]:
    """Return what tests could have left in the machine's own network: named namespaces, interfaces, nftables."""
    found = {f"network namespace {path}" for path in Path("/run/netns").glob("*")}
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("nft"):
        links = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout
        found |= {f"interface {link['ifname']}" for link in json.loads(links)}
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        found |= {f"nftables {table}" for table in tables.splitlines()}
    return found


def _command(pid: int) -> str:
    return _words(pid, "cmdline").decode(errors="replace").replace("\0", " ")[:200]


def _test_of(pid: int) -> str:
    for word in _words(pid, "environ").split(b"\0"):
        if word.startswith(b"PYTEST_CURRENT_TEST="):
            return word.partition(b"=")[2].decode(errors="replace")
    return "no test"


def _words(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b"(has just ended)"
