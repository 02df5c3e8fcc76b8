"""Auth keys: their text, and how they are kept.

    wayhome-auth-<id>-<43 characters>

The 43 characters are 256 random bits. Only their SHA-256 is kept: slow password hashing protects secrets that can be
guessed, and these can't be, while a fast hash denies a stranger the chance to keep the coordinator busy with wrong
keys.
The id makes the look-up depend on nothing secret; what is secret is compared in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

SECRET_BYTES = 32
_TEXT = re.compile(r"wayhome-auth-([1-9][0-9]{0,14})-([A-Za-z0-9_-]{43})")


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    return base64.urlsafe_b64encode(random_bytes(SECRET_BYTES)).decode().rstrip("=")


def secret_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def key_text(key_id: int, secret: str) -> str:
    return f"wayhome-auth-{key_id}-{secret}"


def split_key(text: str) -> tuple[int, str] | None:
    """Return (id, secret) of a key's text; None for anything else."""
    match = _TEXT.fullmatch(text.strip()) if len(text) < 200 else None
    return (int(match[1]), match[2]) if match else None


def is_secret_of(secret: str, kept_hash: bytes) -> bool:
    return hmac.compare_digest(secret_hash(secret), kept_hash)
