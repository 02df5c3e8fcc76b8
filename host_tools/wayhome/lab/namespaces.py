"""The system calls around namespaces that Python below 3.12 has no door to.

Sources: namespaces(7), unshare(2), setns(2), mount(2), prctl(2).
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Give this process new namespaces of the kinds in flags (for CLONE_NEWPID: its future children)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move this thread into the namespace that descriptor is open on (for CLONE_NEWPID: its future children)."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, filesystem: str, flags: int = 0, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), filesystem.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount on {target}")


def unmount(target: str) -> None:
    """Detach what is mounted on target, and all below it, at once."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(_MNT_DETACH)), f"unmount {target}")


@contextmanager
def children_in(pid_namespace: str) -> Iterator[None]:
    """Within this block, processes started by this thread belong to the given pid namespace (a /proc/PID/ns/pid path).

    The processes keep a pid of ours as well, so signals and waiting work as for any child. No thread may be started
    within the block: the kernel refuses a thread whose process has children elsewhere (EINVAL).
    """
    own = os.open("/proc/thread-self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(pid_namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(other, CLONE_NEWPID)
        finally:
            os.close(other)
        try:
            yield
        finally:
            setns(own, CLONE_NEWPID)
    finally:
        os.close(own)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
