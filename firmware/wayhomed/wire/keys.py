"""Keys and their text forms. A raw key is 32 bytes; 32 zero bytes mean "absent".

Source: protocol reference, "Keys and their text forms".
"""

from binascii import b2a_base64, hexlify, unhexlify

from ..port import const
from ..port.crypto import x25519_public
from .errors import BadWire

KEY_BYTES = const(32)
ZERO = b"\0" * 32

MACHINE = "mkey:"
NODE = "nodekey:"
DISCO = "discokey:"
PRIVATE = "privkey:"  # of machine and of node keys alike
CHALLENGE = "chalpub:"
NETWORK_LOCK = "nlpub:"


def key_text(prefix: str, key: bytes) -> str:
    """Return the text form: prefix and 64 lower-case hex digits."""
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes, not " + str(len(key)))
    return prefix + hexlify(key).decode()


def key_from_text(prefix: str, text: str) -> bytes:
    """Return the raw key of a text form; hex digits may be upper-case. Raises BadWire for anything else."""
    if not isinstance(text, str) or len(text) != len(prefix) + 2 * KEY_BYTES or not text.startswith(prefix):
        raise BadWire("not a key of the form " + prefix + "<64 hex digits>")
    try:
        return unhexlify(text[len(prefix) :])
    except ValueError:
        raise BadWire("not a key of the form " + prefix + "<64 hex digits>")


def new_private(random32: bytes) -> bytes:
    """Return a private key made of 32 random bytes, clamped at once: WireGuard's tools compare bytes."""
    if len(random32) != KEY_BYTES:
        raise ValueError("a private key is made of 32 bytes, not " + str(len(random32)))
    key = bytearray(random32)
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


def public_of(private: bytes) -> bytes:
    """Return the public key of a private machine, node or disco key."""
    return x25519_public(private)


def short(key: bytes) -> str:
    """Return the form for people and logs: [abcde], the first five base64 characters of the raw key."""
    return "[" + b2a_base64(key)[:5].decode() + "]"
