from binascii import unhexlify

from shared.expect import raises
from wayhomed.wire import disco
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import ZERO, public_of

A_PRIVATE = unhexlify("50" + "55" * 31)
B_PRIVATE = unhexlify("60" + "66" * 31)
A_PUBLIC = unhexlify("38ab664bd86f77d7e66bdd9ae0792913a94fd8b33a1260027e4b46c1f4884c67")
B_PUBLIC = unhexlify("219e4d800da968d2a5fcb009c784f4746c7138edb9ee4844b739e830b05cf424")
SHARED = unhexlify("b6ef1ad8e5f6be50ef861f19399ec05ec370ff39763d6ef2847a52495aad9bb4")
NONCE = bytes(range(24))
TXID = bytes(range(12))
NODE_KEY = unhexlify("1cf579aba45a10ba1d1ef06d91fca2aa9ed0a1150515653155405d0b18cb9a67")
PING = unhexlify("0100000102030405060708090a0b1cf579aba45a10ba1d1ef06d91fca2aa9ed0a1150515653155405d0b18cb9a67")
PONG = unhexlify("0200000102030405060708090a0b00000000000000000000ffffc6336407a2a9")
PING_PACKET = unhexlify(
    "5453f09f92ac38ab664bd86f77d7e66bdd9ae0792913a94fd8b33a1260027e4b46c1f4884c67"
    "000102030405060708090a0b0c0d0e0f1011121314151617"
    "65b635929a83953b6c69388f55721ffb71167a120f6557f295bdce00c882ff0d"
    "3df87a7af5af24ba8ec956de579084a47c85b27aee519b2a287900ebf8d2"
)
PONG_PACKET = unhexlify(
    "5453f09f92ac219e4d800da968d2a5fcb009c784f4746c7138edb9ee4844b739e830b05cf424"
    "000102030405060708090a0b0c0d0e0f1011121314151617"
    "ea7b81a147e7199c22da44a5afb88d3d72167a120f6557f295bdce00c882e3f8"
    "4453de20e51539a4815b0111913db8dd"
)
SEEN = (b"\xc6\x33\x64\x07", 41641)
SEEN_V6 = (unhexlify("20010db8000000000000000000000007"), 1)


def test_keys_and_shared_key_are_those_of_the_vectors_in_both_directions():
    assert public_of(A_PRIVATE) == A_PUBLIC
    assert public_of(B_PRIVATE) == B_PUBLIC
    assert disco.shared_key(B_PUBLIC, A_PRIVATE) == SHARED
    assert disco.shared_key(A_PUBLIC, B_PRIVATE) == SHARED
    raises(BadWire, disco.shared_key, bytes(32), A_PRIVATE)


def test_the_ping_is_the_one_of_the_vectors():
    assert disco.encode_ping(TXID, NODE_KEY) == PING
    assert disco.seal_message(SHARED, A_PUBLIC, NONCE, PING) == PING_PACKET
    assert len(PING_PACKET) == 124
    assert disco.sender_of(PING_PACKET) == A_PUBLIC
    assert disco.open_message(SHARED, PING_PACKET) == PING
    assert disco.decode_message(PING) == disco.Ping(TXID, NODE_KEY, 0)


def test_the_pong_is_the_one_of_the_vectors():
    assert disco.encode_pong(TXID, *SEEN) == PONG
    assert disco.seal_message(SHARED, B_PUBLIC, NONCE, PONG) == PONG_PACKET
    assert len(PONG_PACKET) == 110
    assert disco.sender_of(PONG_PACKET) == B_PUBLIC
    assert disco.decode_message(disco.open_message(SHARED, PONG_PACKET)) == disco.Pong(TXID, *SEEN)


def test_a_message_of_which_any_byte_is_changed_or_missing_does_not_open():
    for length in range(len(PONG_PACKET)):
        raises(BadWire, disco.open_message, SHARED, PONG_PACKET[:length])
    for i in range(len(PONG_PACKET)):
        if 6 <= i < 38:
            continue  # the sender's key chooses the shared key; it is not inside the box
        changed = PONG_PACKET[:i] + bytes((PONG_PACKET[i] ^ 1,)) + PONG_PACKET[i + 1 :]
        raises(BadWire, disco.open_message, SHARED, changed)
    raises(BadWire, disco.open_message, ZERO, PONG_PACKET)


def test_disco_is_recognised_by_magic_and_length():
    assert disco.looks_like_disco(PING_PACKET)
    assert disco.looks_like_disco(PING_PACKET[:62])
    assert not disco.looks_like_disco(PING_PACKET[:61])
    assert not disco.looks_like_disco(b"X" + PING_PACKET[1:])
    assert not disco.looks_like_disco(b"")
    raises(BadWire, disco.sender_of, PING_PACKET[:61])


def test_a_ping_may_be_padded_and_may_lack_the_node_key():
    padded = disco.encode_ping(TXID, NODE_KEY, 1000)
    assert len(padded) == len(PING) + 1000
    assert disco.decode_message(padded) == disco.Ping(TXID, NODE_KEY, 1000)
    assert disco.decode_message(PING[:14]) == disco.Ping(TXID, ZERO, 0)
    assert disco.decode_message(PING[:45]) == disco.Ping(TXID, ZERO, 0)
    raises(BadWire, disco.decode_message, PING[:13])


def test_a_pong_may_be_longer_but_not_shorter():
    assert disco.decode_message(PONG + b"more") == disco.Pong(TXID, *SEEN)
    assert disco.decode_message(disco.encode_pong(TXID, *SEEN_V6)) == disco.Pong(TXID, *SEEN_V6)
    for length in range(2, len(PONG)):
        raises(BadWire, disco.decode_message, PONG[:length])


def test_call_me_maybe_lists_endpoints_of_both_families():
    plaintext = disco.encode_call_me_maybe([SEEN, SEEN_V6])
    assert len(plaintext) == 2 + 2 * 18
    assert disco.decode_message(plaintext) == disco.CallMeMaybe([SEEN, SEEN_V6])


def test_a_call_me_maybe_that_is_empty_odd_or_of_tomorrow_lists_nothing():
    plaintext = disco.encode_call_me_maybe([SEEN])
    assert disco.decode_message(plaintext[:2]) == disco.CallMeMaybe([])
    assert disco.decode_message(plaintext[:-1]) == disco.CallMeMaybe([])
    assert disco.decode_message(plaintext + b"x") == disco.CallMeMaybe([])
    assert disco.decode_message(b"\x03\x01" + plaintext[2:]) == disco.CallMeMaybe([])


def test_of_a_call_me_maybe_only_so_many_endpoints_are_looked_at():
    plaintext = disco.encode_call_me_maybe([SEEN] * (disco.ENDPOINTS_MOST + 5))
    assert len(disco.decode_message(plaintext).endpoints) == disco.ENDPOINTS_MOST


def test_unknown_types_are_ignored_and_a_message_without_type_is_refused():
    for message_type in (0, 4, 5, 6, 7, 8, 9, 10, 255):
        assert disco.decode_message(bytes((message_type, 0)) + bytes(72)) is None
    raises(BadWire, disco.decode_message, b"")
    raises(BadWire, disco.decode_message, b"\x01")
