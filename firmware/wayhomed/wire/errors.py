"""The one error of every decoder."""


class BadWire(Exception):
    """Bytes no honest peer would send. The link that brought them ends; the daemon goes on."""
