"""Private keys on disk: one line `privkey:<64 hex digits>`, readable by their owner alone."""

import os
from collections.abc import Callable
from pathlib import Path

from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import PRIVATE, key_from_text, key_text, new_private

from .errors import HostError


def load_or_make_key(path: Path, random_bytes: Callable[[int], bytes]) -> tuple[bytes, bool]:
    """Return the private key kept at `path`, and whether it was made just now. Raises HostError."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        key = new_private(random_bytes(32))
        write_private(path, key_text(PRIVATE, key) + "\n")
        return key, True
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"cannot read the key {path}: {error}") from error
    try:
        return key_from_text(PRIVATE, text), False
    except BadWire as error:
        raise HostError(f"{path} holds no private key ({error}); put the right file back, or remove it") from None


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all. Raises HostError."""
    temporary = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror or error}; is there room, and may you?") from error


def sync_directory(path: Path) -> None:
    """Have the kernel put a rename on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
