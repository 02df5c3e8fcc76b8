"""The keeper: first process of a lab's pid namespace, and holder of all its other namespaces.

Started as `python -m wayhome.lab.keeper LIFELINE` with a JSON order on its standard input:

    {"hosts": [{"name": "nas", "hosts_file": "...", "sysctls": {"net/ipv4/ip_forward": "0"}}, ...]}

and answers with one line of JSON: {"pid": N, "hosts": {"nas": {"net": fd, "mnt": fd, "uts": fd}}}, where each fd is
the keeper's own, so that `nsenter --net=/proc/N/fd/FD` enters it. LIFELINE is the number of an inherited pipe's
reading end. Two things can come out of it:

    end of file   the tool that built the lab is gone (or done): the keeper ends
    one byte      the lab shall stay without its builder: the keeper waits for SIGKILL

The kernel kills every process of a pid namespace when its first process ends, and drops a network namespace with
its interfaces and nftables when nobody holds it. So ending the keeper leaves nothing behind, however it ended: no list
of things to undo has to survive a kill -9.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from . import namespaces
from .namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS

RESOLV_CONF = (
    "# No name server in this lab: names come from /etc/hosts, and any other name fails at once.\n"
    "options timeout:1 attempts:1\n"
)


def main(arguments: list[str]) -> None:
    lifeline = int(arguments[0])
    order = json.load(sys.stdin)
    reading, writing = os.pipe()
    namespaces.unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _keep(order, lifeline, writing)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    if not text:
        # its error is on our standard error already
        sys.exit(1)
    print(json.dumps({"pid": pid, "hosts": json.loads(text)}), flush=True)
    # no interpreter shutdown: the fork shares buffers with us
    os._exit(0)


def _keep(order: dict[str, Any], lifeline: int, answer: int) -> None:
    """Build the namespaces, tell of them, wait for the end. Never returns."""
    try:
        os.setsid()
        # Orphans of the lab become children of its first process; ignored children leave no zombies.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        namespaces.mount("none", "/", "none", namespaces.MS_REC | namespaces.MS_PRIVATE)
        flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
        namespaces.mount("proc", "/proc", "proc", flags)
        base = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        held = {}
        for host in order["hosts"]:
            held[host["name"]] = _make_host(host)
            namespaces.setns(base, CLONE_NEWNS)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        with os.fdopen(answer, "w") as pipe:
            json.dump(held, pipe)
        if os.read(lifeline, 1):
            while True:
                signal.pause()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _make_host(host: dict[str, Any]) -> dict[str, int]:
    """Make one host's namespaces and return our descriptors of them."""
    namespaces.unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS)
    socket.sethostname(host["name"])
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
    resolv_conf = os.path.realpath("/etc/resolv.conf")
    hosts_file = os.path.realpath("/etc/hosts")
    # A /run of its own: control sockets and pid files with fixed names (/run/wireguard) would meet otherwise.
    namespaces.mount("tmpfs", "/run", "tmpfs", flags, "mode=755,size=64m")
    os.mkdir("/run/wireguard", 0o700)
    _replace_file(resolv_conf, "/run/lab-resolv.conf", RESOLV_CONF)
    _replace_file(hosts_file, "/run/lab-hosts", host["hosts_file"])
    # sysfs shows the network devices of the namespace it was mounted from.
    namespaces.unmount("/sys")
    namespaces.mount("sysfs", "/sys", "sysfs", flags | namespaces.MS_NOEXEC)
    for name, value in host["sysctls"].items():
        Path("/proc/sys", name).write_text(value)
    kinds = {"net": CLONE_NEWNET, "mnt": CLONE_NEWNS, "uts": CLONE_NEWUTS}
    # inheritable does not matter: nobody is started from here
    return {kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}


def _replace_file(path: str, content_path: str, content: str) -> None:
    """Show content at path, whether a file is there already or only its folder is (some systems link into /run)."""
    Path(content_path).write_text(content)
    if path.startswith("/run/"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content)
    elif Path(path).exists():
        namespaces.mount(content_path, path, "none", namespaces.MS_BIND)


if __name__ == "__main__":
    main(sys.argv[1:])
