"""A virtual machine with Debian's own kernel, where the host's kernel may lack what is tested (WireGuard among it).

    with Guest(build) as guest:
        print(guest.run(["wg", "--version"]).stdout)

QEMU emulates the processor, so it runs anywhere, some ten times slower than the machine. The guest ends with its `with`
block, or when this program ends, however it ends. Nothing leads out of it but the networks that it is given.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import HostError
from . import guest_files
from .guest_files import BOARD, HOST, Root
from .guest_tap import open_tap
from .interpreter import python_environment

__all__ = ["BOARD", "HOST", "Guest", "GuestError", "GuestProcess", "Network"]

# The frames of guest_agent.py.
_HEADER = struct.Struct(">BII")
_START, _INPUT, _INPUT_END, _SIGNAL = 1, 2, 3, 4
_READY, _OUTPUT, _ERROR, _ENDED, _TAKEN = 16, 17, 18, 19, 20
_PIECE = 32768
_BOOT_SECONDS = 240
_ANSWER_SECONDS = 60
_LAST_WORDS = 60  # lines of the console in an error: a panic with its trace
_ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

_MACHINES = {
    "amd64": ("qemu-system-x86_64", ["-M", "q35", "-cpu", "max,-cx16,-la57"], "ttyS0"),
    # a real core's features, and one that QEMU emulates faster than `max`
    "arm64": ("qemu-system-aarch64", ["-M", "virt", "-cpu", "cortex-a72"], "ttyAMA0"),
}


class GuestError(HostError):
    """The guest could not be started, has ended, or a command in it failed; the text has its last words."""


@dataclass(frozen=True)
class Network:
    """A network interface of a guest: eth0 is the first one.

    tap: the interface on this side. namespace: the path of the network namespace it lies in, None for our own. Whoever
    starts the guest connects it (to a bridge, or with an address); it is there once the guest's start() has returned,
    and gone with the guest.
    """

    tap: str
    namespace: str | None = None


class Guest:
    """A virtual machine. boot_seconds: from its start until it took the first command.

    disks: files whose content is that of /dev/vda, /dev/vdb and so on; they outlive the guest, as far as it had written
    them out. watchdog (amd64 alone): there is a /dev/watchdog; the guest ends when it is not fed.
    """

    def __init__(
        self,
        build: Path,
        *,
        architecture: str = "amd64",
        memory_mb: int = 1024,
        processors: int = 1,
        root: Root = HOST,
        networks: Sequence[Network] = (),
        disks: Sequence[Path] = (),
        watchdog: bool = False,
        counts_instructions: bool = False,
    ) -> None:
        self.architecture = architecture
        self.boot_seconds = 0.0
        self._build = build
        self._memory_mb = memory_mb
        self._processors = processors
        self._root = root
        self._networks = tuple(networks)
        self._disks = tuple(disks)
        self._watchdog = watchdog
        self._counts_instructions = counts_instructions
        self._processes: dict[int, GuestProcess] = {}
        self._next_number = 1
        self._sending = threading.Lock()
        self._ready = threading.Event()
        self._has_ended = threading.Event()
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Guest":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Boot it; return once it takes commands. Raises GuestError, or what fetching its parts raises (apt_root)."""
        emulator, machine, console = _MACHINES[self.architecture]
        if shutil.which(emulator) is None:
            raise GuestError(f"{emulator} is not installed: apt install qemu-system-x86 qemu-system-arm")
        files = guest_files.prepare(self._build, self.architecture, self._root)
        self._folder = tempfile.TemporaryDirectory(prefix="wayhome-guest-")
        self._console = Path(self._folder.name, "console")
        reading, self._lifeline = os.pipe()
        ours, theirs = socket.socketpair()
        taps = [open_tap(network.tap, network.namespace) for network in self._networks]
        words = [emulator, *machine, "-accel", "tcg", "-smp", str(self._processors), "-m", str(self._memory_mb)]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-kernel", str(files.kernel), "-initrd", str(files.initramfs)]
        words += ["-append", f"console={console} panic=-1 quiet loglevel=4 mitigations=off audit=0 cryptomgr.notests"]
        words += ["-serial", f"file:{self._console}", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        words += ["-chardev", f"socket,id=agent,fd={theirs.fileno()}", "-device", "virtserialport,chardev=agent,nr=1"]
        if self._root == HOST:
            words += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
            words += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
        for number, tap in enumerate(taps):
            words += ["-netdev", f"tap,id=net{number},fd={tap}"]
            words += ["-device", f"virtio-net-pci,netdev=net{number},mac=52:54:00:00:00:{number + 1:02x},romfile="]
        for number, disk in enumerate(self._disks):
            words += ["-drive", f"file={disk},format=raw,if=none,id=disk{number}"]
            words += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        if self._counts_instructions:
            words += ["-icount", "shift=2"]
        if self._watchdog:
            words += ["-device", "i6300esb", "-action", "watchdog=poweroff"]
        started = time.monotonic()
        with Path(self._folder.name, "emulator").open("wb") as complaints:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "wayhome.lab.guest_keeper", str(reading), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=[reading, theirs.fileno(), *taps],
                env=python_environment(),
                start_new_session=True,
            )
        os.close(reading)
        theirs.close()
        for tap in taps:
            os.close(tap)
        self._port = ours
        threading.Thread(target=self._listen, daemon=True).start()
        in_time = self._ready.wait(_BOOT_SECONDS)
        if not in_time or self._has_ended.is_set():
            why = "ended while it booted" if in_time else f"was not up after {_BOOT_SECONDS} s"
            last_words = self.last_words()
            self.stop()
            raise GuestError(f"the guest {why}:\n{last_words}")
        self.boot_seconds = time.monotonic() - started

    def stop(self) -> None:
        """Switch it off, as by its plug. Harmless if it has ended."""
        if self._keeper is None:
            return
        os.close(self._lifeline)
        self._keeper.wait()
        self._keeper = None
        self._port.shutdown(socket.SHUT_RDWR)
        self._has_ended.wait()
        self._port.close()
        self._folder.cleanup()

    def is_running(self) -> bool:
        return self._keeper is not None and not self._has_ended.is_set()

    def run(
        self,
        words: Sequence[str | Path],
        *,
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        folder: str | Path = "/",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest to its end and return it with its output as text.

        env adds to a small environment. Raises GuestError with the command's output if check is set and it failed, and
        with the console's last lines if the guest has ended; subprocess.TimeoutExpired (all of the command's session
        is killed) after so many seconds.
        """
        process = self.popen(words, env=env, folder=folder)
        try:
            if input is not None:
                process.write(input.encode() if isinstance(input, str) else input, timeout)
            process.close_input()
            process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        done = subprocess.CompletedProcess(process.words, process.wait(0), process.stdout, process.stderr)
        if check and done.returncode != 0:
            raise GuestError(
                f"in the guest, `{' '.join(process.words)}` failed with status {done.returncode}:\n"
                f"{done.stdout[-4000:]}{done.stderr[-4000:]}".rstrip()
            )
        return done

    def popen(
        self, words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, folder: str | Path = "/"
    ) -> "GuestProcess":
        """Start a command in the guest, in a session of its own, and return it. Raises GuestError."""
        if not self.is_running():
            raise GuestError(f"the guest does not run:\n{self.last_words()}")
        with self._sending:
            number, self._next_number = self._next_number, self._next_number + 1
            process = self._processes[number] = GuestProcess(self, number, [str(word) for word in words])
        order = {"words": process.words, "environment": {**_ENVIRONMENT, **(env or {})}, "folder": str(folder)}
        self.send(_START, number, json.dumps(order).encode())
        return process

    def put(self, path: str | Path, content: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest, making its folder."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self.run(["sh", "-eu", "-c", script, "put", path, f"{mode:o}"], input=content)

    def get(self, path: str | Path) -> bytes:
        """Return the content of a file in the guest."""
        process = self.popen(["cat", path])
        if process.wait(_ANSWER_SECONDS):
            raise GuestError(f"in the guest, {path} can't be read: {process.stderr.strip()}")
        return process.output_bytes

    def processor_seconds(self) -> dict[str, float]:
        """Return what the guest's processors have done since it booted, in seconds of its own clock.

        user, system, softirq (where forwarding happens), interrupts, idle; busy is the sum of all but idle. Source:
        proc_stat(5); a tick is 10 ms on Debian's kernels for both architectures.
        """
        ticks = [int(word) for word in self.get("/proc/stat").split(b"\n")[0].split()[1:]]
        user, nice, system, idle, waiting, interrupts, softirq = (tick / 100 for tick in ticks[:7])
        spent = {"user": user + nice, "system": system, "softirq": softirq, "interrupts": interrupts}
        return {**spent, "idle": idle + waiting, "busy": sum(spent.values())}

    def console(self) -> str:
        """Return what the kernel has written to its console."""
        try:
            return self._console.read_text(errors="replace").replace("\r", "")
        except (OSError, AttributeError):
            return ""

    def last_words(self) -> str:
        """Return the console's end, and what the emulator itself complained of."""
        lines = self.console().strip().split("\n")[-_LAST_WORDS:]
        try:
            lines += Path(self._folder.name, "emulator").read_text().strip().split("\n")[-3:]
        except (OSError, AttributeError):
            pass
        return "\n".join(lines)

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a frame to the guest's agent. Raises GuestError."""
        try:
            with self._sending:
                self._port.sendall(_HEADER.pack(kind, number, len(payload)) + payload)
        except OSError:
            raise GuestError(f"the guest has ended:\n{self.last_words()}") from None

    def _listen(self) -> None:
        """Take what the agent sends until the guest ends."""
        try:
            for kind, number, payload in self._frames():
                if kind == _READY:
                    self._ready.set()
                elif number in self._processes:
                    self._processes[number].take(kind, payload)
                    if kind == _ENDED:
                        del self._processes[number]
        finally:
            self._has_ended.set()
            self._ready.set()
            for process in list(self._processes.values()):
                process.guest_has_ended()

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        with self._port.makefile("rb") as stream:
            try:
                while len(header := stream.read(_HEADER.size)) == _HEADER.size:
                    kind, number, length = _HEADER.unpack(header)
                    yield kind, number, stream.read(length)
            except OSError:
                return


class GuestProcess:
    """A command that runs in a guest. Made by Guest.popen; its output is kept as it comes."""

    def __init__(self, guest: Guest, number: int, words: list[str]) -> None:
        self.words = words
        self.returncode: int | None = None
        self._guest = guest
        self._number = number
        self._output = bytearray()
        self._error = bytearray()
        self._changed = threading.Condition()
        self._lost = False
        self._input_taken = True

    @property
    def output_bytes(self) -> bytes:
        with self._changed:
            return bytes(self._output)

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self.output_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        with self._changed:
            return self._error.decode(errors="replace")

    def poll(self) -> int | None:
        """Return its exit code (negative: a signal's number), None while it runs. Raises GuestError."""
        self._check()
        return self.returncode

    def wait(self, timeout: float = _ANSWER_SECONDS) -> int:
        """Return the exit code once it has ended. Raises subprocess.TimeoutExpired (it runs on), GuestError."""
        with self._changed:
            self._changed.wait_for(lambda: self.returncode is not None or self._lost, timeout)
        self._check()
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.words, timeout, self.output_bytes, self.stderr.encode())
        return self.returncode

    def lines(self, timeout: float) -> Iterator[str]:
        """Give each line of its output as it comes, without its end, until it ends.

        Raises subprocess.TimeoutExpired if it is not through after so many seconds, GuestError.
        """
        deadline = time.monotonic() + timeout
        given = 0
        while fresh := self._fresh_lines(given, deadline):
            given += len(fresh)
            yield from fresh.decode(errors="replace").splitlines()

    def _fresh_lines(self, given: int, deadline: float) -> bytes:
        """Return the whole lines beyond so many bytes once there are any; nothing at its end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._output.find(b"\n", given) >= 0 or self.returncode is not None or self._lost,
                deadline - time.monotonic(),
            )
            if self.returncode is not None:
                return bytes(self._output[given:])
            fresh = bytes(self._output[given : self._output.rfind(b"\n") + 1])
        self._check()
        if not fresh:
            raise subprocess.TimeoutExpired(self.words, 0, self.output_bytes, self.stderr.encode())
        return fresh

    def write(self, content: bytes, timeout: float = _ANSWER_SECONDS) -> None:
        """Write to its standard input; return once it has taken all of it, or has ended or closed it."""
        for at in range(0, len(content), _PIECE):
            self._input_taken = False
            self._guest.send(_INPUT, self._number, content[at : at + _PIECE])
            with self._changed:
                self._changed.wait_for(lambda: self._input_taken or self.returncode is not None or self._lost, timeout)
            self._check()
            if self.returncode is not None:
                return
            if not self._input_taken:
                raise subprocess.TimeoutExpired(self.words, timeout, self.output_bytes, self.stderr.encode())

    def close_input(self) -> None:
        self._guest.send(_INPUT_END, self._number)

    def signal(self, number: int) -> None:
        """Send a signal to it and all of its process group."""
        self._guest.send(_SIGNAL, self._number, bytes([number]))

    def kill(self) -> None:
        """End it and all of its process group, if the guest still runs."""
        if self._guest.is_running() and self.returncode is None:
            self.signal(9)

    def take(self, kind: int, payload: bytes) -> None:
        """Take a frame that the agent has sent for this process."""
        with self._changed:
            if kind == _OUTPUT:
                self._output += payload
            elif kind == _ERROR:
                self._error += payload
            elif kind == _TAKEN:
                self._input_taken = True
            elif kind == _ENDED:
                (self.returncode,) = struct.unpack(">i", payload)
            self._changed.notify_all()

    def guest_has_ended(self) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def _check(self) -> None:
        if self._lost and self.returncode is None:
            raise GuestError(f"the guest has ended while `{' '.join(self.words)}` ran:\n{self._guest.last_words()}")
