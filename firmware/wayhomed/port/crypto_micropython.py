"""libsodium through ffi behind port.crypto, which checks lengths. BLAKE2s-256 is our own: libsodium has only BLAKE2b.

ffi signatures: p and P are pointers (P: const), Q a 64-bit length (on 32-bit machines too), L a size_t.
Source: libsodium's headers crypto_scalarmult.h, crypto_box.h, crypto_aead_chacha20poly1305.h, utils.h.
"""

import ffi

from .blake2s import blake2s
from .crypto_error import CryptoError

__all__ = ["blake2s"]

# Debian 12 to 13 and OpenWrt carry soname 23; 26 is libsodium 1.0.19 and later.
_SONAMES = ("libsodium.so.23", "libsodium.so.26", "libsodium.so")


def _open_libsodium():
    for name in _SONAMES:
        try:
            return ffi.open(name)
        except OSError:
            pass
    raise OSError("libsodium is missing; install the package libsodium23 (Debian) or libsodium (OpenWrt)")


_sodium = _open_libsodium()
if _sodium.func("i", "sodium_init", "")() < 0:
    raise OSError("libsodium cannot start: no source of randomness")

_scalarmult = _sodium.func("i", "crypto_scalarmult", "pPP")
_scalarmult_base = _sodium.func("i", "crypto_scalarmult_base", "pP")
_beforenm = _sodium.func("i", "crypto_box_beforenm", "pPP")
_easy_afternm = _sodium.func("i", "crypto_box_easy_afternm", "pPQPP")
_open_easy_afternm = _sodium.func("i", "crypto_box_open_easy_afternm", "pPQPP")
_aead_encrypt = _sodium.func("i", "crypto_aead_chacha20poly1305_ietf_encrypt", "ppPQPQpPP")
_aead_decrypt = _sodium.func("i", "crypto_aead_chacha20poly1305_ietf_decrypt", "pppPQPQPP")
_memcmp = _sodium.func("i", "sodium_memcmp", "PPL")


def x25519(private: bytes, public: bytes) -> bytes:
    shared = bytearray(32)
    if _scalarmult(shared, private, public) != 0:
        raise CryptoError("weak public key")
    return bytes(shared)


def x25519_public(private: bytes) -> bytes:
    public = bytearray(32)
    _scalarmult_base(public, private)
    return bytes(public)


def aead_seal(key: bytes, nonce: bytes, plaintext: "bytes | memoryview", ad: bytes) -> bytes:
    sealed = bytearray(len(plaintext) + 16)
    _aead_encrypt(sealed, None, plaintext, len(plaintext), ad, len(ad), None, nonce, key)
    return bytes(sealed)


def aead_open(key: bytes, nonce: bytes, ciphertext: "bytes | memoryview", ad: bytes) -> bytes:
    plaintext = bytearray(len(ciphertext) - 16)
    if _aead_decrypt(plaintext, None, None, ciphertext, len(ciphertext), ad, len(ad), nonce, key) != 0:
        raise CryptoError("the check of sealed text failed")
    return bytes(plaintext)


def box_beforenm(public: bytes, private: bytes) -> bytes:
    shared = bytearray(32)
    if _beforenm(shared, public, private) != 0:
        raise CryptoError("weak public key")
    return bytes(shared)


def box_seal(shared: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    sealed = bytearray(len(plaintext) + 16)
    _easy_afternm(sealed, plaintext, len(plaintext), nonce, shared)
    return bytes(sealed)


def box_open(shared: bytes, nonce: bytes, sealed: bytes) -> bytes:
    plaintext = bytearray(len(sealed) - 16)
    if _open_easy_afternm(plaintext, sealed, len(sealed), nonce, shared) != 0:
        raise CryptoError("the check of sealed text failed")
    return bytes(plaintext)


def same_bytes(a: bytes, b: bytes) -> bool:
    return _memcmp(a, b, len(a)) == 0
