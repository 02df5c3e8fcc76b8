"""`wayhome relay` as a person or a service manager runs it."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhomed.wire.keys import NODE, key_text

WAYHOME = [sys.executable, "-c", "from wayhome.cli.main import main; main()"]
LOOPBACK = ["--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0"]
# Folders on the path of unix sockets must be short; pytest's are, on Linux.


def wayhome(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [*WAYHOME, *map(str, words)], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@contextlib.contextmanager
def running(state: Path, *words: str) -> Iterator[dict]:
    """Run a relay; gives the facts that it printed."""
    command = [*WAYHOME, "relay", "--state", str(state), *LOOPBACK, "--json", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_it_starts_tells_its_pin_and_keeps_it(tmp_path):
    state = tmp_path / "state"
    with running(state, "--admit-everybody", "--name", "relay.test") as facts:
        assert facts["tls"]
        assert facts["pin"].startswith("sha256-raw:")
        assert facts["listen"][0][0] == "127.0.0.1"
        assert facts["stun"][0][1] > 0
        status = json.loads(wayhome("relay", "status", "--state", state, "--json").stdout)
        assert status["pin"] == facts["pin"]
        assert status["clients"] == []
        assert status["relay"]["connections"] == 0
        people = wayhome("relay", "status", "--state", state)
        assert "Nobody is connected" in people.stdout
        assert stat.S_IMODE((state / "relay.sock").stat().st_mode) == 0o600
    with running(state, "--admit-everybody", "--name", "relay.test") as again:
        assert (again["pin"], again["public_key"]) == (facts["pin"], facts["public_key"])
    for name in ("relay.key", "relay.pem"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600


def test_plain_http_has_no_pin(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(key_text(NODE, bytes(range(32))) + "\n")
    with running(tmp_path / "state", "--plain-http", "--allow-keys", str(keys)) as facts:
        assert (facts["tls"], facts["pin"]) == (False, None)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "--verify-url"),
        (["--verify-url", "mesh.example.net"], "must begin with https"),
        (["--allow-keys", "/nowhere/keys"], "/nowhere/keys"),
        (["--admit-everybody", "--listen", "443"], "0.0.0.0:8443"),
        (["--admit-everybody", "--listen", "192.0.2.1:0"], "--listen names another address"),
        (["--admit-everybody", "--stun-listen", "192.0.2.1:0"], "--stun-listen names another address"),
        (["--admit-everybody", "--cert", "/nowhere/cert"], "--key FILE"),
        (["--admit-everybody", "--cert", "/nowhere/cert", "--key", "/nowhere/key"], "/nowhere/cert"),
        (["--admit-everybody", "--cert", "/c", "--key", "/k", "--plain-http"], "not both"),
        (["--admit-everybody", "--rate", "-1"], "--rate"),
    ],
)
def test_what_it_cannot_do_it_tells_in_a_sentence_with_the_next_step(tmp_path, words, hint):
    done = wayhome("relay", "--state", tmp_path / "state", *LOOPBACK, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("wayhome: ")
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_directory_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    done = wayhome("relay", "--state", tmp_path / "file" / "state", *LOOPBACK, "--admit-everybody")
    assert done.returncode == 1
    assert "--state DIR" in done.stderr


def test_the_status_of_no_relay_tells_how_to_start_one(tmp_path):
    done = wayhome("relay", "status", "--state", tmp_path)
    assert done.returncode == 1
    assert "start it with `wayhome relay`" in done.stderr


def test_help_has_an_example():
    assert "Example: wayhome relay --verify-url" in " ".join(wayhome("relay", "--help").stdout.split())
    assert "Example: wayhome relay status" in wayhome("relay", "status", "--help").stdout
