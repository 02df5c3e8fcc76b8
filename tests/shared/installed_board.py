"""A board on a lab host as the installer makes one: own user, three capabilities, the launcher, either Python.

MicroPython runs the bytecode of `./inv package`, CPython the checkout's sources.

The host's mount namespace gets what such a machine has: the user `wayhome` in its files, and /dev/net/tun as udev makes
it. Nothing of it shows outside the lab.
"""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from wayhome.demo.cast import Board
from wayhome.images import board_package, micropython
from wayhome.lab.lab import Host
from wayhome.lab.waiting import wait_until

ROOT = Path(__file__).parents[2]
USER_ID = 64123
RUNTIMES = ["cpython", "micropython"]

_FURNISH = """
set -eu
cd "$1"
for file in passwd group; do cp /etc/$file $file; done
echo "wayhome:x:$2:$2::/var/lib/wayhome:/usr/sbin/nologin" >>passwd
echo "wayhome:x:$2:" >>group
for file in passwd group; do mount --bind $file /etc/$file; done
rm -f tun; mknod tun c 10 200; chmod 0666 tun; mount --bind tun /dev/net/tun
mkdir -p python site
if [ -n "$3" ]; then mount --bind "$3" python; fi
mount --bind "$4" site
"""


class InstalledBoard(Board):
    """`run` of firmware/package on a lab host. folder is open to every user; state below it is not."""

    def __init__(self, host: Host, runtime: str) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="wayhome-installed-")
        self.folder = Path(self._kept.name)
        self.folder.chmod(0o755)
        super().__init__(host, self.folder)
        self.state = self.folder / "state"
        self.socket = Path("/run/wayhome/wayhomed.sock")
        self._log = self.folder / "log"
        self.root = self.folder / "root"
        self._is_wrapped = False
        package = self._unpacked() if runtime == "micropython" else ROOT / "firmware"
        subprocess.run([package / "package/install", "--service", "none", "--root", self.root], check=True)
        prefix = "" if sys.base_prefix == "/usr" else sys.base_prefix
        words = ["sh", "-c", _FURNISH, "furnish", self.folder, str(USER_ID), prefix, sysconfig.get_paths()["purelib"]]
        host.run(words)
        (self.folder / "bin").mkdir()
        python = self._cpython() if runtime == "cpython" else self._micropython()
        (self.root / "etc/default/wayhome").write_text(f"WAYHOME_PYTHON={python}\n")

    def _unpacked(self) -> Path:
        with tarfile.open(board_package.pack(ROOT / "build")) as archive:
            archive.extractall(self.folder / "unpacked", filter="data")
        return next((self.folder / "unpacked").iterdir())

    def _cpython(self) -> Path:
        # The checkout may lie where only its owner may look; the daemon's user has to find the same Python.
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        program = Path(f"/usr/bin/{name}") if sys.base_prefix == "/usr" else self.folder / "python/bin" / name
        paths = f"LD_LIBRARY_PATH={self.folder}/python/lib PYTHONPATH={self.folder}/site"
        return self._script("python", f'{paths} exec {program} "$@"')

    def _micropython(self) -> Path:
        tree = micropython.fetch(ROOT / "build")
        subprocess.run(["cp", "-a", tree, self.folder / "tree"], check=True)
        words = micropython.command(self.folder / "tree")
        return self._script("micropython", f'exec {" ".join(words[: words.index("-X")])} "$@"')

    def _script(self, name: str, line: str) -> Path:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return path

    def start(self, *more: str, env: dict[str, str] | None = None, before: tuple[str, ...] = ()) -> None:
        """Start it as a service manager would that runs `run` as root, and wait until its local API answers."""
        words: list[str | Path] = [*before, self.root / "usr/lib/wayhome/run", "--state", self.state, *more]
        with self._log.open("ab") as log:
            self._is_wrapped = bool(before)
            self.process = process = self.host.popen(words, stdout=log, stderr=log, env=env)

        def answers() -> bool:
            assert process.poll() is None, self.log_text()[-3000:]
            return self.host.run([*self._wayhomectl(), "log"], check=False).returncode == 0

        wait_until(answers, 60, "the board's local API")

    def stop(self) -> int:
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(30)

    @property
    def pid(self) -> int:
        """The daemon's own process id, also below what it was started by (`before`)."""
        assert self.process is not None
        if not self._is_wrapped:
            return self.process.pid
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def log_text(self) -> str:
        return self._log.read_text()

    def _wayhomectl(self) -> list[str | Path]:
        return [self.root / "usr/bin/wayhomectl"]

    def ctl(self, *words: str, timeout: float = 60) -> Any:
        done = self.host.run([*self._wayhomectl(), *words, "--json"], timeout=timeout)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def up(self, url: str, auth_key: str, *more: str) -> Any:
        key_file = self.folder / "key"
        key_file.write_text(auth_key)
        return self.ctl("up", "--login-server", url, "--auth-key-file", str(key_file), "--hostname", "board", *more)

    def close(self) -> None:
        """Remove the folder, once the lab is down."""
        self._kept.cleanup()
