"""Run by a test: as nobody, with CAP_NET_ADMIN and CAP_NET_RAW alone, does what the data plane does, and a little more.

Prints a word for each thing done, and how the kernel refused what it should.
"""

import asyncio
import ctypes
import errno
import os
import socket
import struct
import sys
import time

from wayhomed.core.dataplane import Plan
from wayhomed.linux.dataplane import DataPlane, Settings
from wayhomed.wire import address, keys

NOBODY = 65534
CLONE_NEWNET = 0x40000000
PR_SET_KEEPCAPS = 8
RIGHTS = 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW
_VERSION_3 = 0x20080522
libc = ctypes.CDLL(None, use_errno=True)


def become_nobody() -> None:
    """Give up root but for the two rights. Source: capset(2), <linux/capability.h>."""
    assert libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header, data = struct.pack("Ii", _VERSION_3, 0), struct.pack("6I", RIGHTS, RIGHTS, 0, 0, 0, 0)
    assert libc.capset(header, data) == 0, os.strerror(ctypes.get_errno())


async def use(folder: str) -> None:
    plane = DataPlane(Settings(folder + "/undo.json", "wayhome0"))
    await plane.start(keys.new_private(b"b" * 32))
    print((await plane.status())["wireguard"])
    plan = Plan()
    plan.addresses = [address.ip_from_text("100.64.0.1"), address.ip_from_text("fd7a:115c:a1e0::1")]
    peer = address.prefix_from_text("100.64.0.2/32")
    plan.peers = {keys.public_of(keys.new_private(b"t" * 32)): {peer}}
    plan.routes = {peer}
    plan.forwarding = True
    await plane.apply(plan)
    assert not plan.problems, plan.problems
    assert not (await plane.status())["problems"]
    print("applied")
    await plane.stop()
    print("stopped")


def refusal(forbidden) -> str:
    try:
        forbidden()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "allowed"


def main(folder: str) -> None:
    assert libc.unshare(CLONE_NEWNET) == 0
    os.chown(folder, NOBODY, NOBODY)
    for way in (folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))):
        os.chmod(way, 0o755)
    become_nobody()
    asyncio.run(use(folder))
    print(refusal(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())))
    print(refusal(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("0.0.0.0", 53))))
    print(refusal(lambda: os.open("/dev/rtc0", os.O_RDONLY)))


main(sys.argv[1])
