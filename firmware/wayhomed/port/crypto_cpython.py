"""PyNaCl's bindings behind port.crypto, which checks lengths."""

import hashlib
from hmac import compare_digest as same_bytes

import nacl.bindings as sodium
import nacl.exceptions

from .crypto_error import CryptoError

__all__ = ["same_bytes"]


def blake2s(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def x25519(private: bytes, public: bytes) -> bytes:
    try:
        return sodium.crypto_scalarmult(bytes(private), bytes(public))
    except nacl.exceptions.RuntimeError:
        raise CryptoError("weak public key")


def x25519_public(private: bytes) -> bytes:
    return sodium.crypto_scalarmult_base(bytes(private))


def aead_seal(key: bytes, nonce: bytes, plaintext: "bytes | memoryview", ad: bytes) -> bytes:
    return sodium.crypto_aead_chacha20poly1305_ietf_encrypt(bytes(plaintext), bytes(ad), bytes(nonce), bytes(key))


def aead_open(key: bytes, nonce: bytes, ciphertext: "bytes | memoryview", ad: bytes) -> bytes:
    try:
        return sodium.crypto_aead_chacha20poly1305_ietf_decrypt(bytes(ciphertext), bytes(ad), bytes(nonce), bytes(key))
    except nacl.exceptions.CryptoError:
        raise CryptoError("the check of sealed text failed")


def box_beforenm(public: bytes, private: bytes) -> bytes:
    try:
        return sodium.crypto_box_beforenm(bytes(public), bytes(private))
    except nacl.exceptions.RuntimeError:
        raise CryptoError("weak public key")


def box_seal(shared: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    return sodium.crypto_box_easy_afternm(bytes(plaintext), bytes(nonce), bytes(shared))


def box_open(shared: bytes, nonce: bytes, sealed: bytes) -> bytes:
    try:
        return sodium.crypto_box_open_easy_afternm(bytes(sealed), bytes(nonce), bytes(shared))
    except nacl.exceptions.CryptoError:
        raise CryptoError("the check of sealed text failed")
