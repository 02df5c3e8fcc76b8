"""What the helper answers to a wish that it does not grant."""


class Refused(Exception):
    """A request that is not understood or not granted; the text says why."""
