"""The one error of every decoder, and what may stand in its text."""


class BadWire(Exception):
    """Bytes no honest peer would send. The link that brought them ends; the daemon goes on."""


def shown(text: bytes) -> str:
    """Return a stranger's text for an error's: printable ASCII, all else as "?", so that it moves nobody's cursor."""
    return "".join([chr(byte) if 32 <= byte < 127 else "?" for byte in text])
