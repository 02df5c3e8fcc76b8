"""Command lines: declared as data, parsed by one function; MicroPython has no argparse.

A Command lists its Options; parse() gives {option name: value}, help_text() what --help prints.
"""


class UsageError(Exception):
    """The command line can't be understood; the text says what to write instead."""


class Option:
    """One option. value_name "" makes it a switch (True when given); `default` is what stands when it is absent."""

    def __init__(self, name: str, help_text: str, value_name: str = "", default=None):
        self.name = name
        self.help_text = help_text
        self.value_name = value_name
        self.default = default


class Command:
    """One command: `arguments` are the names of its words without a dash, all of them required."""

    def __init__(self, name: str, summary: str, example: str, options: list, arguments: list | tuple = ()):
        self.name = name
        self.summary = summary
        self.example = example
        self.options = options
        self.arguments = arguments


def parse(command: Command, words: list) -> dict:
    """Return values by option name without dashes, and of arguments by theirs; "help" is True if --help was there.

    Raises UsageError.
    """
    known = {option.name: option for option in command.options}
    values = {option.name: False if not option.value_name else option.default for option in command.options}
    values["help"] = False
    given = []
    at = 0
    only_arguments = False
    while at < len(words):
        word = words[at]
        at += 1
        if only_arguments or word == "-" or not word.startswith("-"):
            given.append(word)
            continue
        if word == "--":
            only_arguments = True
            continue
        if word in ("--help", "-h"):
            values["help"] = True
            continue
        name, equals, value = word.partition("=")
        option = known.get(name[2:]) if name.startswith("--") else None
        if option is None:
            raise UsageError("there is no option " + name + _hint(name, known) + "; see " + command.name + " --help")
        if not option.value_name:
            if equals:
                raise UsageError(name + " takes no value")
            values[option.name] = True
            continue
        if not equals:
            if at >= len(words):
                raise UsageError(name + " needs a value: " + name + " " + option.value_name)
            value = words[at]
            at += 1
        values[option.name] = value
    if values["help"]:
        return values
    if len(given) > len(command.arguments):
        raise UsageError("one word too many: " + given[len(command.arguments)] + "; see " + command.name + " --help")
    for index, name in enumerate(command.arguments):
        if index >= len(given):
            raise UsageError("what is missing is " + name + ", for example: " + command.example)
        values[name] = given[index]
    return values


def _hint(name: str, known: dict) -> str:
    """Return " (did you mean --x?)" where one option begins as the mistyped one does."""
    alike = [other for other in sorted(known) if name[2:5] and other.startswith(name[2:5])]
    return " (did you mean --" + alike[0] + "?)" if len(alike) == 1 else ""


def help_text(command: Command) -> str:
    """Return usage, summary, options and an example."""
    lines = ["usage: " + " ".join([command.name] + list(command.arguments) + ["[options]"]), "", command.summary, ""]
    left = []
    for option in command.options:
        left.append("  --" + option.name + (" " + option.value_name if option.value_name else ""))
    left.append("  --help")
    width = max([len(text) for text in left]) + 2
    for index, option in enumerate(command.options):
        standard = ""
        if option.value_name and option.default not in (None, ""):
            standard = " (default: " + str(option.default) + ")"
        lines.append(left[index] + " " * (width - len(left[index])) + option.help_text + standard)
    lines.append(left[-1] + " " * (width - len(left[-1])) + "this text")
    lines += ["", "example: " + command.example]
    return "\n".join(lines)


def whole_number(name: str, text, least: int, most: int) -> int:
    """Return the number that an option's text says. Raises UsageError."""
    text = str(text)
    if not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise UsageError("--%s is a whole number from %d to %d" % (name, least, most))
    return int(text)
