"""Why a file can't be used, in words."""

_REASONS = {
    1: "not permitted",
    2: "no such directory",
    13: "permission denied",
    20: "a part of its path is a file",
    21: "it is a directory; a file is expected",
    40: "its links lead in a circle",
    27: "a file in it is too large",
    28: "the disk is full",
    30: "the file system is read-only",
    122: "the disk quota is used up",
}


def reason(error: OSError) -> str:
    """Return in words why a file operation failed."""
    return _REASONS.get(error.errno or 0, str(error))
