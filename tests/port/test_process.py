import asyncio

from shared.expect import raises
from shared.forked import exit_code_of
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


def replaced_by(script):
    """Return the exit code of a process that became a shell with this script."""
    return exit_code_of(lambda: process.replace(["sh", "-c", script]))


def test_a_process_becomes_another_program_and_keeps_its_environment():
    assert replaced_by('test -n "$PATH" && exit 7') == 7


def test_what_was_open_is_closed_when_a_process_becomes_another_program():
    with open("/proc/self/cmdline", "rb"):
        # the shell itself has /proc/self/fd open while it lists it
        assert replaced_by("set -- /proc/self/fd/*; test $# -le 4 && exit 7") == 7


def test_signals_wait_for_the_program_that_a_process_becomes():
    # SIGHUP, SIGINT, SIGUSR1 and SIGTERM; a shell lets them wait, for it asks for none
    assert replaced_by("kill -TERM $$; kill -HUP $$; kill -USR1 $$; exit 7") == 7


def becomes_what_is_missing():
    try:
        process.replace(["no-such-program-anywhere"])
    except OSError as error:
        return error.errno


def test_becoming_a_program_that_is_missing_is_an_oserror():
    assert exit_code_of(becomes_what_is_missing) == 2


def test_a_process_knows_the_words_that_it_was_started_with():
    words = process.own_words()
    assert words[0]
    assert [word for word in words if "python" in word or "pytest" in word]
