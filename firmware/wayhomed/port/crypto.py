"""All the cryptography there is, the same calls on both Pythons; libsodium does the work.

Arguments are bytes-like, results bytes. Wrong lengths of keys and nonces are a bug of the caller: ValueError. What a
stranger can cause (a failed check, a weak public key, input shorter than its tag) is CryptoError.
Lengths are checked here because ffi would read past the end of what it was given.
"""

import hashlib

from . import MICROPYTHON
from .crypto_error import CryptoError

if MICROPYTHON:
    from . import crypto_micropython as _backend
else:
    from . import crypto_cpython as _backend

__all__ = [
    "CryptoError",
    "aead_open",
    "aead_seal",
    "blake2s",
    "box_beforenm",
    "box_open",
    "box_seal",
    "same_bytes",
    "sha256",
    "x25519",
    "x25519_public",
]

KEY_BYTES = 32
TAG_BYTES = 16  # of both AEAD and box
AEAD_NONCE_BYTES = 12
BOX_NONCE_BYTES = 24

blake2s = _backend.blake2s


def x25519(private: bytes, public: bytes) -> bytes:
    """Return the 32 bytes that both sides share. Raises CryptoError if all are zero. Source: RFC 7748 section 6.1."""
    _check(private, KEY_BYTES)
    _check(public, KEY_BYTES)
    return _backend.x25519(private, public)


def x25519_public(private: bytes) -> bytes:
    """Return the public key of a private one."""
    _check(private, KEY_BYTES)
    return _backend.x25519_public(private)


def aead_seal(key: bytes, nonce: bytes, plaintext: "bytes | memoryview", ad: bytes) -> bytes:
    """Return ciphertext and tag, 16 bytes longer than the plaintext. ChaCha20-Poly1305, RFC 8439 section 2.8."""
    _check(key, KEY_BYTES)
    _check(nonce, AEAD_NONCE_BYTES)
    return _backend.aead_seal(key, nonce, plaintext, ad)


def aead_open(key: bytes, nonce: bytes, ciphertext: "bytes | memoryview", ad: bytes) -> bytes:
    """Return the plaintext of what aead_seal made. Raises CryptoError if any of the four is another's."""
    _check(key, KEY_BYTES)
    _check(nonce, AEAD_NONCE_BYTES)
    if len(ciphertext) < TAG_BYTES:
        raise CryptoError("sealed text is shorter than its tag")
    return _backend.aead_open(key, nonce, ciphertext, ad)


def box_beforenm(public: bytes, private: bytes) -> bytes:
    """Return the key that box_seal and box_open use between these two. Raises CryptoError for a weak public key."""
    _check(public, KEY_BYTES)
    _check(private, KEY_BYTES)
    return _backend.box_beforenm(public, private)


def box_seal(shared: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    """Return tag and ciphertext of NaCl's crypto_box (XSalsa20-Poly1305), 16 bytes longer than the plaintext."""
    _check(shared, KEY_BYTES)
    _check(nonce, BOX_NONCE_BYTES)
    return _backend.box_seal(shared, nonce, plaintext)


def box_open(shared: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """Return the plaintext of what box_seal made. Raises CryptoError if any of the three is another's."""
    _check(shared, KEY_BYTES)
    _check(nonce, BOX_NONCE_BYTES)
    if len(sealed) < TAG_BYTES:
        raise CryptoError("sealed text is shorter than its tag")
    return _backend.box_open(shared, nonce, sealed)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def same_bytes(a: bytes, b: bytes) -> bool:
    """Compare secrets; the time it takes tells nothing but their lengths."""
    return len(a) == len(b) and _backend.same_bytes(a, b)


def _check(value: bytes, length: int) -> None:
    if len(value) != length:
        raise ValueError("expected " + str(length) + " bytes, got " + str(len(value)))
