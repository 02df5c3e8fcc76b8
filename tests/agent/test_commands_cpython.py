"""wayhomectl's commands as the documentation and their own --help have them."""

import re
import shlex
from pathlib import Path

import pytest

from wayhomed.agent import options
from wayhomed.agent.wayhomectl import COMMANDS

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^(?:\$ )?(?:sudo )?(?:\.venv/bin/)?(wayhomectl .*)$", re.MULTILINE)
_INLINE = re.compile(r"`(wayhomectl [^`]+)`")


def documented():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        lines = [line for block in _BLOCK.findall(text) for line in _COMMAND.findall(block)]
        for line in dict.fromkeys(lines + _INLINE.findall(text)):
            yield path.relative_to(ROOT).as_posix(), line


def understood(line):
    _program, name, *words = shlex.split(line, comments=True)
    command = COMMANDS[name]
    if command.arguments and not [word for word in words if not word.startswith("-")]:
        words.append("somebody")  # a text speaks of `wayhomectl ping` as such
    options.parse(command, words)


@pytest.mark.parametrize(("document", "line"), sorted(set(documented())))
def test_a_command_in_the_documentation_is_understood(document, line):
    understood(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_each_help_is_understood(name):
    understood(COMMANDS[name].example)


def test_every_command_is_told_in_the_pages_of_the_board():
    pages = ("docs/wayhomed.md", "docs/lan/")
    told = {line.split()[1] for document, line in documented() if document.startswith(pages)}
    assert told == set(COMMANDS)
