"""The service files, as the tools that read them judge them; and what the installer lays out."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "firmware/package"
UNITS = ["wayhomed.service", "wayhomed-helper.service"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a file system with all of it, as `install --root` makes one."""
    root = tmp_path_factory.mktemp("root")
    for service in ("systemd", "procd", "busybox"):
        subprocess.run([PACKAGE / "install", "--service", service, "--root", root], check=True)
    return root


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_calls_the_sandbox_ok(installed, unit):
    words = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--root={installed}",
        "--no-pager",
        "--threshold=49",
        unit,
    ]
    done = subprocess.run([*words, unit], capture_output=True, text=True, check=False)
    verdict = re.search(r"Overall exposure level for \S+: ([\d.]+) (\w+)", done.stdout)
    assert verdict, done.stdout + done.stderr
    assert done.returncode == 0 and verdict[2] in ("OK", "SAFE"), verdict[0]
    assert "Unknown" not in done.stderr, done.stderr


def keys_of(unit):
    lines = (PACKAGE / "systemd" / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_daemon_gets_its_three_rights_and_may_still_write_the_kernels_network_settings():
    unit = keys_of("wayhomed.service")
    three = "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE"
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"] == three
    assert unit["User"] == "wayhome"
    assert "ProtectKernelTunables" not in unit
    assert unit["DeviceAllow"] == "/dev/net/tun rw" and "PrivateDevices" not in unit


def test_the_helper_gets_the_right_to_set_the_clock_and_no_other():
    unit = keys_of("wayhomed-helper.service")
    assert unit["CapabilityBoundingSet"] == "CAP_SYS_TIME"
    assert "AmbientCapabilities" not in unit and "ProtectClock" not in unit


def test_systemd_watches_the_daemon_and_starts_it_again_for_ever():
    unit = keys_of("wayhomed.service")
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) >= 60
    assert unit["Restart"] == "always" and unit["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("unit", UNITS)
def test_what_a_unit_starts_is_installed(installed, unit):
    program = keys_of(unit)["ExecStart"].split()[0]
    assert (installed / program[1:]).stat().st_mode & 0o111


def test_the_installed_files_are_those_of_the_checkout(installed):
    sources = {path.relative_to(ROOT / "firmware") for path in (ROOT / "firmware/wayhomed").rglob("*.py")}
    library = installed / "usr/lib/wayhome"
    assert {path.relative_to(library) for path in (library / "wayhomed").rglob("*.py")} == sources
    assert not list(installed.rglob("*.new"))


def test_installing_again_keeps_what_was_set_by_hand_and_adds_no_line_twice(installed):
    default = installed / "etc/default/wayhome"
    default.write_text("WAYHOME_HEAP=4M\n")
    configuration = installed / "etc/wayhome/wayhomed.conf"
    assert "#login-server" in configuration.read_text()
    configuration.write_text("hostname = attic\n")
    before = (installed / "etc/inittab").read_text()
    subprocess.run([PACKAGE / "install", "--service", "busybox", "--root", installed], check=True)
    assert default.read_text() == "WAYHOME_HEAP=4M\n"
    assert configuration.read_text() == "hostname = attic\n"
    assert (installed / "etc/inittab").read_text() == before
    assert before.count("wayhome/run --state") == 1


def test_the_installer_asks_for_the_service_manager(tmp_path):
    done = subprocess.run([PACKAGE / "install", "--root", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--service systemd, procd, busybox or none" in done.stderr
    assert not list(tmp_path.iterdir())


def test_systemds_own_tools_read_the_user_and_the_folders(installed):
    subprocess.run(["systemd-sysusers", f"--root={installed}", "wayhome.conf"], check=True, capture_output=True)
    assert re.search(r"^wayhome:", (installed / "etc/passwd").read_text(), re.MULTILINE)
    text = (PACKAGE / "systemd/wayhome.tmpfiles").read_text()
    assert "d /run/wireguard 0770 root wayhome" in text


@pytest.mark.parametrize("script", ["install", "launcher", "run", "openwrt/wayhomed.init"])
def test_the_scripts_are_plain_shell(script):
    for shell in (["sh"], ["busybox", "sh"]):
        subprocess.run([*shell, "-n", PACKAGE / script], check=True)


def test_busyboxs_init_gets_lines_of_its_own_form():
    lines = [line for line in (PACKAGE / "busybox/inittab").read_text().splitlines() if not line.startswith("#")]
    assert lines and all(re.fullmatch(r"::respawn:/\S+( \S+)*", line) for line in lines)


def test_a_launcher_without_any_python_says_so(installed, tmp_path):
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        ["/bin/sh", installed / "usr/bin/wayhomectl", "status"],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "neither micropython nor python3" in done.stderr
