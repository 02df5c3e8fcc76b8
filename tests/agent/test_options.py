"""The option parser."""

from shared.expect import raises
from wayhomed.agent.options import Command, Option, UsageError, help_text, parse, whole_number

COMMAND = Command(
    "tool go",
    "Goes somewhere.",
    "tool go --fast home",
    [
        Option("fast", "do not dawdle"),
        Option("way", "by which road", "ROAD", "main"),
        Option("load", "what to carry", "THING"),
    ],
    ["PLACE"],
)


def test_switches_values_and_arguments_are_read():
    for words in (
        ["--fast", "--way", "back", "home"],
        ["home", "--way=back", "--fast"],
        ["--fast", "--way=back", "--", "home"],
    ):
        values = parse(COMMAND, words)
        assert values["fast"] is True
        assert values["way"] == "back"
        assert values["load"] is None
        assert values["PLACE"] == "home"


def test_absent_options_have_their_defaults():
    values = parse(COMMAND, ["home"])
    assert values["fast"] is False
    assert values["way"] == "main"


def test_a_value_may_be_empty_or_begin_with_a_dash():
    assert parse(COMMAND, ["home", "--load="])["load"] == ""
    assert parse(COMMAND, ["home", "--load", ""])["load"] == ""
    assert parse(COMMAND, ["home", "--load", "-x"])["load"] == "-x"


def test_mistakes_say_what_to_write():
    for words, part in (
        ([], "PLACE"),
        (["a", "b"], "one word too many: b"),
        (["--fas", "a"], "did you mean --fast?"),
        (["--unknown", "a"], "--help"),
        (["-f", "a"], "--help"),
        (["a", "--way"], "--way ROAD"),
        (["a", "--fast=1"], "takes no value"),
    ):
        assert part in str(raises(UsageError, parse, COMMAND, words)), words


def test_help_needs_no_arguments_and_shows_everything():
    assert parse(COMMAND, ["--help"])["help"] is True
    text = help_text(COMMAND)
    for part in (
        "usage: tool go PLACE [options]",
        "Goes somewhere.",
        "--way ROAD",
        "(default: main)",
        "example: tool go",
    ):
        assert part in text, part


def test_numbers_are_whole_and_in_range():
    assert whole_number("count", "12", 1, 100) == 12
    for text in ("", "0", "101", "-1", "1.5", "x", "9" * 30):
        raises(UsageError, whole_number, "count", text, 1, 100)
