"""The helper's socket: who is listened to, and what nonsense gets."""

import asyncio
import json
import os
import stat
from contextlib import asynccontextmanager

import pytest

from wayhomed.helper.main import Helper, user_id_of
from wayhomed.helper.refusal import Refused
from wayhomed.port.tasks import run_all


@asynccontextmanager
async def serving(path, uids, commands):
    helper = asyncio.create_task(run_all(Helper(str(path), uids, commands).run()))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        helper.cancel()
        await asyncio.gather(helper, return_exceptions=True)


async def ask(path, *parts: bytes) -> dict:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await reader.readline()
    writer.close()
    return json.loads(answer)


def echo(request: dict) -> dict:
    if request.get("refuse"):
        raise Refused("not today")
    if request.get("fail"):
        raise OSError(1, "not permitted")
    return {"heard": request}


async def test_a_command_is_done_and_answered_however_the_line_was_cut(tmp_path):
    async with serving(tmp_path / "s", [os.geteuid()], {"echo": echo}):
        line = b'{"command": "echo", "n": 5}\n'
        for cut in (0, 1, 10, len(line) - 1):
            answer = await ask(tmp_path / "s", line[:cut], line[cut:])
            assert answer == {"result": {"heard": {"command": "echo", "n": 5}}}


async def test_everybody_may_knock_and_only_the_right_users_are_listened_to(tmp_path):
    async with serving(tmp_path / "s", [], {"echo": echo}):
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o666
        assert "may not ask" in (await ask(tmp_path / "s", b'{"command": "echo"}\n'))["error"]


async def test_refusals_and_failures_are_told_and_end_nothing(tmp_path):
    async with serving(tmp_path / "s", [os.geteuid()], {"echo": echo}):
        assert await ask(tmp_path / "s", b'{"command": "echo", "refuse": 1}\n') == {"error": "not today"}
        assert "not permitted" in (await ask(tmp_path / "s", b'{"command": "echo", "fail": 1}\n'))["error"]
        assert "result" in await ask(tmp_path / "s", b'{"command": "echo"}\n')


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"5\n",
        b"\xff\xfe\n",
        b"{}\n",
        b'{"command": 5}\n',
        b'{"command": "slots"}\n',
        b'{"command": null}\n',
        b"[" * 4000 + b"\n",
        b"x" * 5000,
    ],
)
async def test_nonsense_is_refused(tmp_path, line):
    async with serving(tmp_path / "s", [os.geteuid()], {"echo": echo}):
        assert "error" in await ask(tmp_path / "s", line)


async def test_one_that_hangs_up_keeps_nobody_from_asking(tmp_path):
    async with serving(tmp_path / "s", [os.geteuid()], {"echo": echo}):
        _reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b'{"command"')
        writer.close()
        assert "result" in await ask(tmp_path / "s", b'{"command": "echo"}\n')


def test_users_are_found_by_name_or_number():
    assert user_id_of("root") == 0
    assert user_id_of("42") == 42
    assert user_id_of("nobody-of-this-name") is None
