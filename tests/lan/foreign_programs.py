"""Real firewalls of Debian 12, run beside a board in a mount and process namespace of their own.

Their packages are unpacked below build/, not installed: an installed firewalld would start on the machine that runs
the tests. There they lie over /usr, /etc and /var of this machine for the programs of one test, which may write there:
what they write is gone with them.
"""

import fcntl
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from linux.home_network import Namespace
from shared import places
from wayhome.images.apt_root import AptRoot, NoDebianMirror

SUITE = "bookworm"
_IPTABLES = ("iptables", "libip4tc2", "libip6tc2", "libxtables12", "libnetfilter-conntrack3", "libnfnetlink0")
_PACKAGES = (
    *_IPTABLES,
    "ufw",
    "firewalld",
    "python3-firewall",
    "python3-nftables",
    "python3-gi",
    "python3-dbus",
    "gir1.2-glib-2.0",
    "libgirepository-1.0-1",
    "libglib2.0-0",
    "dbus-daemon",
    "dbus-bin",
    "libdbus-1-3",
    "libapparmor1",
    "libexpat1",
    "docker.io",
    "containerd",
    "runc",
    "libdevmapper1.02.1",
)
_PATIENCE_S = 120  # only ends what has failed

_BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""

_ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs over /mnt
for folder in usr etc var; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    over=lowerdir="$1"/$folder:/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work
    mount -t overlay -o "$over" over /$folder
done
mount -t proc proc /proc
mount -t tmpfs run /run
mkdir -p /run/dbus /run/lock
for program in iptables ip6tables; do
    for suffix in "" -save -restore; do ln -sf $program-$2$suffix /usr/sbin/$program$suffix; done
done
[ -d /etc/ufw ] && cp /usr/share/ufw/iptables/*.rules /usr/share/ufw/*.init /usr/share/ufw/ufw.conf /etc/ufw/
mount -t tmpfs cgroup /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup
echo ready
exec sleep infinity
"""


def unpacked() -> Path:
    """Return the folder with the programs, fetched once; skips the test where there is no Debian mirror."""
    place = places.ROOT / "build" / "foreign-programs"
    place.mkdir(parents=True, exist_ok=True)
    tree, listing = place / "tree", place / "packages.list"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tree.is_dir() and listing.is_file() and listing.read_text() == "\n".join(_PACKAGES)):
            apt = AptRoot(place / "apt", SUITE)
            (place / "apt").mkdir(exist_ok=True)
            try:
                apt.unpack(apt.fetch(list(_PACKAGES)), tree)
            except NoDebianMirror as error:
                pytest.skip(str(error))
            # as on a system of today, where these are links into /usr
            for folder in ("lib", "sbin", "bin"):
                if (tree / folder).is_dir():
                    subprocess.run(["cp", "-a", f"{tree}/{folder}/.", f"{tree}/usr/{folder}/"], check=True)
            (tree / "var").mkdir(exist_ok=True)
            listing.write_text("\n".join(_PACKAGES))
    return tree


class Programs:
    """The programs, inside a network namespace. iptables: which of its kinds is called so, "nft" or "legacy"."""

    def __init__(self, space: Namespace, iptables: str = "nft"):
        self._space = space
        words = ["ip", "netns", "exec", space.name, "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*words, "sh", "-c", _ENTER, "sh", str(unpacked()), iptables], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._enter = ["nsenter", "-t", children[0], "-m", "-p", "-n"]

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.send_signal(signal.SIGKILL)  # its child, the first process in there, goes with it, and so do all
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, command: str) -> str:
        """Run a command of the shell's."""
        done = self.attempt(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def attempt(self, command: str) -> subprocess.CompletedProcess[str]:
        # nft has to be of the board's release: an older one dies of SIGSEGV when it lists what a newer one has made
        nft = f'nft() {{ command {shlex.join(self._space.nft)} "$@"; }}\n'
        return subprocess.run(
            [*self._enter, "sh", "-c", nft + command],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def start(self, command: str, asked: str) -> None:
        """Start a program that stays, and wait until a question to it is answered."""
        self.run(f"({command}) >/run/log 2>&1 &")
        end = time.monotonic() + _PATIENCE_S
        while self.attempt(asked).returncode:
            assert time.monotonic() < end, self.run("cat /run/log")
            time.sleep(0.05)

    def start_firewalld(self) -> None:
        self.run(f"cat >/run/bus.conf <<'END'\n{_BUS}\nEND\ndbus-daemon --config-file=/run/bus.conf --fork")
        self.start("exec firewalld --nofork --nopid", "firewall-cmd --state")

    def start_docker(self) -> None:
        self.run("mkdir -p /mnt/docker /run/docker")
        where = "--data-root /mnt/docker --exec-root /run/docker --pidfile /run/docker.pid -H unix:///run/docker.sock"
        self.start(f"exec dockerd {where} --storage-driver vfs", "docker -H unix:///run/docker.sock info")
