import asyncio

from shared.expect import raises
from wayhomed.port import process


def run(script, environment):
    async def start_and_wait():
        return await process.Child(["sh", "-c", script], environment).wait()

    return asyncio.run(start_and_wait())


def test_a_childs_exit_code_is_heard():
    assert run("exit 7", {}) == 7
    assert run("exit 0", {}) == 0
    assert run("kill -9 $$", {}) == -9


def test_a_child_gets_our_environment_and_what_is_added():
    assert run('test -n "$PATH" && test "$WAYHOME_TEST" = "a=b c"', {"WAYHOME_TEST": "a=b c"}) == 0
    assert run('test "$PATH" = "$SAME"', {"PATH": "/bin:/usr/bin", "SAME": "/bin:/usr/bin"}) == 0


def test_a_child_is_ended_even_if_it_will_not_go():
    async def start_and_end(script):
        child = process.Child(["sh", "-c", script], {})
        assert child.exit_code() is None
        await process.end(child, 0.05)
        return child.exit_code()

    assert asyncio.run(start_and_end("exec sleep 60")) in (-15, -9)
    assert asyncio.run(start_and_end("trap '' TERM; while :; do sleep 1; done")) in (-15, -9)


def test_a_program_that_is_missing_is_an_oserror():
    assert raises(OSError, process.Child, ["no-such-program-anywhere"], {}).errno == 2
