"""The commands in the documentation work as they stand there, and so do the examples in --help."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from wayhome.cli.main import app

ROOT = Path(__file__).parents[2]
# What the documentation has where a reader has something else.
CODE = "BCDF-GHJK"
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^ *(?:Example: )?(wayhome .*?)(?: +\(or: .*)?$", re.MULTILINE)
_PROMPT = re.compile(r"^(?:\$ )?(?:sudo (?:-u \w+ )?)?(?:\.venv/bin/)?(?=wayhome )")


def commands_in(text):
    """Return the `wayhome ...` command lines of a text's code blocks, comments and prompts taken off."""
    lines = (line for block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines())
    found = [_PROMPT.sub("", line) for line in lines if _PROMPT.match(line)]
    return [shlex.split(line, comments=True) for line in found]


def documents():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def parse(words):
    """Have the command line parsed as it would be before it runs; raises what a user would be told."""
    context = typer.main.get_command(app).make_context("wayhome", list(words[1:]), resilient_parsing=False)
    while getattr(context.command, "commands", None):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return  # a group that does something by itself
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def every_command(command=None, path=("wayhome",)):
    """Return (path, command) of all that can be run."""
    command = command or typer.main.get_command(app)
    if not getattr(command, "commands", None):
        return [(path, command)]
    return [found for name, sub in command.commands.items() for found in every_command(sub, (*path, name))]


@pytest.mark.parametrize(
    ("document", "words"),
    [(path.relative_to(ROOT).as_posix(), words) for path in documents() for words in commands_in(path.read_text())],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_command_in_the_documentation_is_understood(document, words):
    parse(words)


COMMANDS = {" ".join(path): command for path, command in every_command()}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_examples_that_are_understood(path):
    command = COMMANDS[path]
    assert command.help
    examples = _EXAMPLE.findall(command.epilog or "")
    assert examples, f"{path} --help shows no example"
    for line in examples:
        words = shlex.split(line)
        assert line.startswith(path)
        parse(words)


def test_the_commands_of_the_coordinators_page_work_in_the_order_in_which_they_stand_there(wayhome, coordinator):
    commands = commands_in((ROOT / "docs" / "coordinator.md").read_text())
    assert len(commands) > 30
    number = 0
    for words in commands:
        if words[1] == "serve":
            continue
        if CODE in words:
            number += 1
            hostname = ("annas-phone", "stranger")[number - 1]
            words = [coordinator.begin_login(number, hostname).code if word == CODE else word for word in words]
        if words[1:3] == ["route", "list"]:
            secret = wayhome("key create --user anna --json").json["key"]
            coordinator.join(secret, 9, "board", RoutableIPs=["192.168.1.0/24"])
        if "--state" in words:
            # the reader's server is another than the test's
            del words[words.index("--state") :]
        if "delete" in words:
            words = [*words, "--yes"]
        ran = wayhome(words[1:])
        assert ran.status == 0, f"{' '.join(words)}: {ran.err}"


def test_the_page_tells_the_server_from_its_clients(wayhome):
    assert commands_in("```sh\n$ sudo -u wayhome wayhome node list  # all\ntailscale up\nwayhomectl up\n```\n") == [
        ["wayhome", "node", "list"]
    ]
