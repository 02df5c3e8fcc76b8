"""The root of errors that are meant for a person at a terminal."""


class HostError(Exception):
    """Something the user can act on; the text says what happened and what to do next. Commands print it and exit 1."""
