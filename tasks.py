"""Invoke tasks: each parses and hands over. Run them as ./inv TASK; ./inv --list shows all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

ROOT = Path(__file__).parent
PYTHON = str(ROOT / ".venv/bin/python")

# What is asked of the system beside Python, by the command that proves it is there.
LAB_PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "wireguard-go": "wireguard-go",
    "ping": "iputils-ping",
    "conntrack": "conntrack",
    "curl": "curl",
}
TEST_PACKAGES = {
    **LAB_PACKAGES,
    "wg": "wireguard-tools",
    "tcpdump": "tcpdump",
    "dpkg-deb": "dpkg",
    "chromium": "chromium",
    "git": "git",
    "systemd-analyze": "systemd",
    "strace": "strace",
    "dnsmasq": "dnsmasq-base",
    "unbound": "unbound",
    "openssl": "openssl",
    "busybox": "busybox-static",
    "qemu-arm": "qemu-user",
}
# Emulated machines with Debian's kernel, for the tests and benchmarks that the host's own kernel cannot run.
GUEST_PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "qemu-system-aarch64": "qemu-system-arm"}
BENCH_PACKAGES = {**GUEST_PACKAGES, "turnserver": "coturn"}
# Libraries have no command: the file that the dynamic loader knows stands for them.
LIBRARIES = {"libnftables.so.1": "libnftables1"}


@task(
    help={
        "json": "write what was measured to this file",
        "keep": "leave the lab up afterwards, with a hint how to look around in it",
        "record": "draw this run into this folder: picture.svg, and demo.svg, which moves",
    }
)
def demo(c: Context, json: str = "", keep: bool = False, record: str = "") -> None:
    """Build a home behind CGNAT in a lab and reach its NAS from a café. Example: ./inv demo --json demo.json"""
    del c
    _ensure_packages(LAB_PACKAGES, "to build the demo's networks (namespaces, NATs, userspace WireGuard)")
    words = ["-m", "wayhome.demo"]
    words += ["--json", str(Path(json).resolve())] if json else []
    words += ["--keep"] if keep else []
    words += ["--record", str(Path(record).resolve())] if record else []
    _exit_with(_run_as_root([PYTHON, *words]))


@task(
    help={
        "fast": "leave out virtual machines, browsers and other processors than this machine's",
        "select": "only tests whose name matches this pytest -k expression",
        "workers": "how many processes run tests side by side",
    }
)
def test(c: Context, fast: bool = False, select: str = "", workers: int = 2) -> None:
    """Run every test; ends with pytest's summary line. Example: ./inv test --fast"""
    del c
    packages = dict(TEST_PACKAGES)
    if fast:
        del packages["chromium"], packages["qemu-arm"]
    else:
        packages |= GUEST_PACKAGES
    _ensure_packages(packages, "for the tests (networks from namespaces, userspace WireGuard, captures, a browser)")
    words = [PYTHON, "-m", "pytest", "-q", "-n", str(workers), "--dist", "loadfile"]
    if fast:
        words += ["-m", "not boards and not browser and not emulated"]
    if select:
        words += ["-k", select]
    if os.geteuid() != 0:
        # as root the lab's tests run too; nothing of root's is left in the checkout
        words += ["-p", "no:cacheprovider"]
    _exit_with(_run_as_root(words))


@task(
    help={
        "name": "which benchmark; ./inv bench --list names them",
        "json": "write the figures to this file",
    },
)
def bench(c: Context, name: str, json: str = "") -> None:
    """Measure ours and the alternative side by side. Example: ./inv bench wire --json wire.json"""
    del c
    _ensure_packages({**LAB_PACKAGES, **BENCH_PACKAGES}, "for the benchmarks (networks, and what we compare with)")
    words = [PYTHON, "-m", "wayhome.bench", name]
    words += ["--json", str(Path(json).resolve())] if json else []
    _exit_with(_run_as_root(words))


@task(name="bench-list")
def bench_list(c: Context) -> None:
    """Name every benchmark and what it measures; ./inv bench --list is the same."""
    del c
    _exit_with(subprocess.run([PYTHON, "-m", "wayhome.bench", "--list"], cwd=ROOT, check=False).returncode)


@task(
    iterable=["modules"],
    help={
        "modules": "only this module of wire/; may be given more than once",
        "jobs": "how many mutants are tried side by side",
    },
)
def mutation(c: Context, modules: list[str], jobs: int = 2) -> None:
    """Take away each check of wire/ in turn and name those that no test misses. Example: ./inv mutation -m derp"""
    del c
    words = [PYTHON, str(ROOT / "tests/mutation/run.py"), *modules, "--jobs", str(jobs)]
    _exit_with(subprocess.run(words, cwd=ROOT, check=False).returncode)


@task
def package(c: Context) -> None:
    """Pack the board's daemon for MicroPython: compiled, with its installer, build/wayhomed-*-micropython.tar.gz."""
    del c
    _exit_with(subprocess.run([PYTHON, "-m", "wayhome.images.board_package"], cwd=ROOT, check=False).returncode)


@task
def lint(c: Context) -> None:
    """Check style, types and the arrows between folders, as the tests do."""
    del c
    _exit_with(subprocess.run([PYTHON, "-m", "pytest", "-q", "tests/checks"], cwd=ROOT, check=False).returncode)


@task(name="format")
def format_(c: Context) -> None:
    """Format all code and put its imports in order."""
    del c
    for words in (["check", "--fix", "-q"], ["format", "-q"]):
        subprocess.run([PYTHON, "-m", "ruff", *words, "."], cwd=ROOT, check=False)


@task
def lock(c: Context) -> None:
    """Renew requirements.lock: every package's newest version with its hashes, for Python 3.11 and later."""
    del c
    subprocess.run([PYTHON, "-m", "pip", "-q", "install", "uv"], cwd=ROOT, check=True)
    words = [
        "pip",
        "compile",
        "pyproject.toml",
        "--group",
        "dev",
        "--universal",
        "--python-version",
        "3.11",
        "--upgrade",
    ]
    words += [
        "--generate-hashes",
        "--no-header",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "-o",
        "requirements.lock",
    ]
    subprocess.run([str(ROOT / ".venv/bin/uv"), "-q", *words], cwd=ROOT, check=True)


def _ensure_packages(wanted: dict[str, str], why: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for command, package in wanted.items() if shutil.which(command, path=path) is None]
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    missing += [package for library, package in LIBRARIES.items() if library not in known]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Exit(
            f"inv: please install {', '.join(missing)} {why}; only Debian and Ubuntu are set up by themselves", 1
        )
    print(f"inv: installing {', '.join(missing)} {why}", file=sys.stderr)
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    for words in ([*quiet, "update"], [*quiet, "-y", "--no-install-recommends", "install", *missing]):
        if _run_as_root(words, stdout=subprocess.DEVNULL):
            raise Exit(
                f"inv: apt-get could not install {', '.join(missing)}; install them by hand and run this again", 1
            )


def _run_as_root(words: list[str], stdout: int | None = None) -> int:
    """Run a command as root, by sudo where needed; return its exit status."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise Exit("inv: this needs root, for network namespaces; run it as root or install sudo", 1)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        words = ["sudo", "--preserve-env=PATH,PYTHONDONTWRITEBYTECODE,TERM,COLORTERM,NO_COLOR,COLUMNS,CI", *words]
    return _run_to_its_end(words, environment, stdout)


def _run_to_its_end(words: list[str], environment: dict[str, str], stdout: int | None) -> int:
    """Run a command; return its exit status as a shell has it.

    Ctrl-C reaches the command as well. It gets the time to end in order; subprocess.run would kill it after 0.25 s.
    """
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=stdout) as process:
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                continue
            return status if status >= 0 else 128 - status


def _exit_with(status: int) -> None:
    if status:
        raise Exit(code=status)
