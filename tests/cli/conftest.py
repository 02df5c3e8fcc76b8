"""A running coordinator for the commands to speak to: the registry and its admin socket, in a thread of their own."""

import asyncio
import io
import json
import shlex
import sys
import threading

import pytest

from wayhome.cli.main import main
from wayhome.coordinator.admin_api import start_admin_api
from wayhome.coordinator.model import Device
from wayhome.coordinator.registry import Registry


class Coordinator:
    """A served registry; `do` runs a coroutine or a function of it where it lives."""

    def __init__(self, state):
        self.state = state
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.do(self._start())

    async def _start(self):
        self.registry = await Registry.open(self.state / "wayhome.db")
        self._api = await start_admin_api(self.registry, self.state / "wayhome.sock")

    async def _stop(self):
        await self._api.close()
        await self.registry.close()

    def stop(self):
        self.do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def join(self, secret, number=1, hostname="board", **hostinfo):
        """Bring a device in by an auth key."""
        return self.do(self.registry.register_with_key(device(number, hostname, **hostinfo), secret))

    def begin_login(self, number=1, hostname="board", **hostinfo):
        """Have a device wait for a person."""

        async def begin():
            return self.registry.begin_login(device(number, hostname, **hostinfo))

        return self.do(begin())


def device(number, hostname, **hostinfo):
    told = {"Hostname": hostname, "OS": "linux", "OSVersion": "6.1", "IPNVersion": "1.90.9", **hostinfo}
    return Device(machine_key=bytes([number]) * 32, node_key=bytes([number + 100]) * 32, hostinfo=told, cap=113)


class Ran:
    """What a command printed and how it ended."""

    def __init__(self, status, out, err):
        self.status = status
        self.out = out
        self.err = err

    @property
    def json(self):
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def coordinator(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    running = Coordinator(state)
    yield running
    running.stop()


@pytest.fixture
def wayhome(monkeypatch, capsys, tmp_path):
    """Run `wayhome WORDS` in this process against the test's coordinator; WORDS as typed or as a list."""
    monkeypatch.setenv("WAYHOME_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def run(words):
        words = shlex.split(words) if isinstance(words, str) else list(words)
        monkeypatch.setattr(sys, "argv", ["wayhome", *words])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return run
