"""BLAKE2s-256 without a key, for runtimes whose hashlib lacks it. Source: RFC 7693 sections 2.6, 2.7, 3.1 and 3.2."""

import struct

from . import const

_MASK = const(0xFFFFFFFF)
_BLOCK_BYTES = const(64)
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PARAMETERS = const(0x01010020)  # 32 bytes of digest, no key, one leaf
# Ten rounds; in each, the order in which the sixteen message words are used (SIGMA).
_ORDERS = (
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
    b"\x0e\x0a\x04\x08\x09\x0f\x0d\x06\x01\x0c\x00\x02\x0b\x07\x05\x03",
    b"\x0b\x08\x0c\x00\x05\x02\x0f\x0d\x0a\x0e\x03\x06\x07\x01\x09\x04",
    b"\x07\x09\x03\x01\x0d\x0c\x0b\x0e\x02\x06\x05\x0a\x04\x00\x0f\x08",
    b"\x09\x00\x05\x07\x02\x04\x0a\x0f\x0e\x01\x0b\x0c\x06\x08\x03\x0d",
    b"\x02\x0c\x06\x0a\x00\x0b\x08\x03\x04\x0d\x07\x05\x0f\x0e\x01\x09",
    b"\x0c\x05\x01\x0f\x0e\x0d\x04\x0a\x00\x07\x06\x03\x09\x02\x08\x0b",
    b"\x0d\x0b\x07\x0e\x0c\x01\x03\x09\x05\x00\x0f\x04\x08\x06\x02\x0a",
    b"\x06\x0f\x0e\x09\x0b\x03\x00\x08\x0c\x02\x0d\x07\x01\x04\x0a\x05",
    b"\x0a\x02\x08\x04\x07\x06\x01\x05\x0f\x0b\x09\x0e\x03\x0c\x0d\x00",
)
# The columns, then the diagonals, of the 4 by 4 words that one round mixes.
_QUARTERS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def blake2s(data: bytes) -> bytes:
    """Return the 32-byte digest of data."""
    state = list(_IV)
    state[0] ^= _PARAMETERS
    done = 0
    while len(data) - done > _BLOCK_BYTES:
        done += _BLOCK_BYTES
        _compress(state, struct.unpack_from("<16I", data, done - _BLOCK_BYTES), done, 0)
    rest = bytes(data[done:])
    _compress(state, struct.unpack("<16I", rest + bytes(_BLOCK_BYTES - len(rest))), len(data), _MASK)
    return struct.pack("<8I", *state)


def _compress(state: list, words: tuple, count: int, last: int) -> None:
    """Mix one block's words into the state; count is the bytes so far, last all ones for the final block."""
    v = state + list(_IV)
    v[12] ^= count & _MASK
    v[13] ^= count >> 32
    v[14] ^= last
    for order in _ORDERS:
        i = 0
        for ia, ib, ic, id_ in _QUARTERS:
            a = v[ia]
            b = v[ib]
            c = v[ic]
            d = v[id_]
            a = (a + b + words[order[i]]) & _MASK
            d ^= a
            d = (d >> 16) | (d << 16) & _MASK
            c = (c + d) & _MASK
            b ^= c
            b = (b >> 12) | (b << 20) & _MASK
            a = (a + b + words[order[i + 1]]) & _MASK
            d ^= a
            d = (d >> 8) | (d << 24) & _MASK
            c = (c + d) & _MASK
            b ^= c
            v[ia] = a
            v[ib] = (b >> 7) | (b << 25) & _MASK
            v[ic] = c
            v[id_] = d
            i += 2
    for i in range(8):
        state[i] ^= v[i] ^ v[i + 8]
