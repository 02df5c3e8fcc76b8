from binascii import hexlify, unhexlify

from shared.expect import raises
from wayhomed.port import crypto
from wayhomed.port.blake2s import blake2s as blake2s_in_python
from wayhomed.port.crypto import CryptoError

KEY = bytes(range(0x80, 0xA0))
NONCE = unhexlify("070000004041424344454647")
AD = unhexlify("50515253c0c1c2c3c4c5c6c7")
SUNSCREEN = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
SUNSCREEN += b"sunscreen would be it."


def test_x25519_agrees_with_rfc_7748():
    scalar = unhexlify("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = unhexlify("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    shared = unhexlify("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    assert crypto.x25519(scalar, point) == shared


def test_both_sides_of_x25519_share_a_secret():
    a = bytes(range(32))
    b = bytes(range(32, 64))
    assert crypto.x25519(a, crypto.x25519_public(b)) == crypto.x25519(b, crypto.x25519_public(a))


def test_a_public_key_that_gives_an_all_zero_secret_is_refused():
    raises(CryptoError, crypto.x25519, KEY, bytes(32))
    raises(CryptoError, crypto.box_beforenm, bytes(32), KEY)


def test_aead_agrees_with_rfc_8439():
    sealed = crypto.aead_seal(KEY, NONCE, SUNSCREEN, AD)
    assert hexlify(sealed[:16]) == b"d31a8d34648e60db7b86afbc53ef7ec2"
    assert hexlify(sealed[-16:]) == b"1ae10b594f09e26a7e902ecbd0600691"
    assert crypto.aead_open(KEY, NONCE, sealed, AD) == SUNSCREEN


def test_aead_opens_nothing_that_was_changed():
    sealed = crypto.aead_seal(KEY, NONCE, b"hello", AD)
    for i in range(len(sealed)):
        changed = bytearray(sealed)
        changed[i] ^= 1
        raises(CryptoError, crypto.aead_open, KEY, NONCE, bytes(changed), AD)
    raises(CryptoError, crypto.aead_open, KEY, NONCE, sealed, b"")
    raises(CryptoError, crypto.aead_open, KEY, bytes(12), sealed, AD)
    raises(CryptoError, crypto.aead_open, bytes(32), NONCE, sealed, AD)


def test_sealed_text_shorter_than_its_tag_is_refused():
    for length in range(16):
        raises(CryptoError, crypto.aead_open, KEY, NONCE, bytes(length), b"")
        raises(CryptoError, crypto.box_open, KEY, bytes(24), bytes(length))


def test_an_empty_text_can_be_sealed():
    assert crypto.aead_open(KEY, NONCE, crypto.aead_seal(KEY, NONCE, b"", b""), b"") == b""
    assert crypto.box_open(KEY, bytes(24), crypto.box_seal(KEY, bytes(24), b"")) == b""


def test_box_agrees_with_the_vectors_of_the_protocol_reference():
    a = unhexlify("5055555555555555555555555555555555555555555555555555555555555555")
    b = unhexlify("6066666666666666666666666666666666666666666666666666666666666666")
    shared = unhexlify("b6ef1ad8e5f6be50ef861f19399ec05ec370ff39763d6ef2847a52495aad9bb4")
    assert crypto.box_beforenm(crypto.x25519_public(b), a) == shared
    assert crypto.box_beforenm(crypto.x25519_public(a), b) == shared
    ping = unhexlify("0100000102030405060708090a0b1cf579aba45a10ba1d1ef06d91fca2aa9ed0a1150515653155405d0b18cb9a67")
    sealed = unhexlify(
        "65b635929a83953b6c69388f55721ffb71167a120f6557f295bdce00c882ff0d3df87a7af5af24ba8ec956de579084a47c85b27aee519b2a"
        "287900ebf8d2"
    )
    nonce = bytes(range(24))
    assert crypto.box_seal(shared, nonce, ping) == sealed
    assert crypto.box_open(shared, nonce, sealed) == ping


def test_box_opens_what_the_other_side_sealed_and_nothing_else():
    a = bytes(range(32))
    b = bytes(range(32, 64))
    nonce = bytes(range(24))
    sealed = crypto.box_seal(crypto.box_beforenm(crypto.x25519_public(b), a), nonce, b"hello")
    shared = crypto.box_beforenm(crypto.x25519_public(a), b)
    assert len(sealed) == 5 + 16
    assert crypto.box_open(shared, nonce, sealed) == b"hello"
    for i in range(len(sealed)):
        changed = bytearray(sealed)
        changed[i] ^= 1
        raises(CryptoError, crypto.box_open, shared, nonce, bytes(changed))
    raises(CryptoError, crypto.box_open, shared, bytes(24), sealed)


def test_any_bytes_like_argument_will_do():
    sealed = crypto.aead_seal(bytearray(KEY), memoryview(NONCE), memoryview(SUNSCREEN)[:5], bytearray(AD))
    assert sealed == crypto.aead_seal(KEY, NONCE, SUNSCREEN[:5], AD)
    assert crypto.aead_open(KEY, NONCE, memoryview(sealed), AD) == SUNSCREEN[:5]


def test_wrong_lengths_of_keys_and_nonces_are_bugs():
    for length in (0, 31, 33):
        wrong = bytes(length)
        raises(ValueError, crypto.x25519, wrong, KEY)
        raises(ValueError, crypto.x25519, KEY, wrong)
        raises(ValueError, crypto.x25519_public, wrong)
        raises(ValueError, crypto.aead_seal, wrong, NONCE, b"", b"")
        raises(ValueError, crypto.aead_open, wrong, NONCE, bytes(16), b"")
        raises(ValueError, crypto.box_beforenm, wrong, KEY)
        raises(ValueError, crypto.box_beforenm, KEY, wrong)
        raises(ValueError, crypto.box_seal, wrong, bytes(24), b"")
        raises(ValueError, crypto.box_open, wrong, bytes(24), bytes(16))
    for length in (11, 13):
        raises(ValueError, crypto.aead_seal, KEY, bytes(length), b"", b"")
        raises(ValueError, crypto.aead_open, KEY, bytes(length), bytes(16), b"")
    for length in (23, 25):
        raises(ValueError, crypto.box_seal, KEY, bytes(length), b"")
        raises(ValueError, crypto.box_open, KEY, bytes(length), bytes(16))


def test_blake2s_agrees_with_rfc_7693():
    abc = b"508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert hexlify(crypto.blake2s(b"abc")) == abc
    assert hexlify(blake2s_in_python(b"abc")) == abc


def test_both_blake2s_agree_at_the_edges_of_blocks():
    for length in (0, 1, 63, 64, 65, 127, 128, 129, 300):
        data = bytes([i & 255 for i in range(length)])
        assert crypto.blake2s(data) == blake2s_in_python(data)


def test_sha256_is_sha256():
    assert hexlify(crypto.sha256(b"abc")) == b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_same_bytes_compares():
    assert crypto.same_bytes(b"secret", b"secret")
    assert not crypto.same_bytes(b"secret", b"secreT")
    assert not crypto.same_bytes(b"secret", b"secret ")
    assert crypto.same_bytes(b"", b"")
