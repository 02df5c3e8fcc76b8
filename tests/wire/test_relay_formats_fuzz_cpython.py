"""DERP, STUN and disco against input nobody planned, and scapy's reading of the STUN that we write."""

import json
import socket
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.stun import STUN

from wayhomed.port.crypto import box_beforenm, box_seal
from wayhomed.wire import derp, disco, stun
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import public_of

PRIVATE = bytes([0x88]) + bytes([0x55]) * 30 + bytes([0x48])
PUBLIC = public_of(PRIVATE)
NONCE = bytes(24)
SHARED = box_beforenm(PUBLIC, PRIVATE)

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=8)
addresses = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=16, max_size=16).filter(lambda ip: ip[:12] != b"\0" * 10 + b"\xff\xff"),
)
ports = st.integers(0, 65535)
txids = st.binary(min_size=12, max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(frames, st.lists(st.integers(0, 600), max_size=10))
def test_any_frames_come_out_as_they_went_in_however_they_were_cut(sent, places):
    decoder = derp.DerpDecoder()
    stream = b"".join(derp.encode_frame(kind, payload) for kind, payload in sent)
    got = [frame for piece in cut(stream, places) for frame in decoder.feed(piece)]
    assert got == sent
    assert decoder.buffered_bytes() == 0


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_random_bytes_give_the_same_frames_and_the_same_error_however_they_were_cut(stream, places):
    def outcome(pieces):
        decoder = derp.DerpDecoder(100)
        seen = []
        try:
            for piece in pieces:
                decoder.append(piece)
                while (frame := decoder.next_frame()) is not None:
                    seen.append(frame)
        except BadWire as error:
            return seen, str(error)
        return seen, decoder.buffered_bytes()

    assert outcome(cut(stream, places)) == outcome([stream])


@given(st.binary(max_size=200))
def test_every_derp_decoder_knows_one_error_only(payload):
    for decode in (
        derp.decode_server_key,
        lambda p: derp.decode_client_info(p, PRIVATE),
        lambda p: derp.decode_server_info(p, PRIVATE, PUBLIC),
        derp.decode_packet,
        derp.decode_forward_packet,
        derp.decode_note_preferred,
        derp.decode_peer_gone,
        derp.decode_peer_present,
        derp.decode_close_peer,
        derp.decode_ping,
        derp.decode_pong,
        derp.decode_health,
        derp.decode_restarting,
        derp.split_upgrade_response,
    ):
        try:
            decode(payload)
        except BadWire:
            pass


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)


def as_json(document):
    return json.dumps(document).encode()


names = st.sampled_from(["version", "Version", "CanAckPings", "meshKey", "IsProber", "AppName", "x"])


@given(st.one_of(st.binary(max_size=200), st.dictionaries(names, json_like).map(as_json)))
def test_whatever_a_key_holder_seals_the_handshake_knows_one_error_only(plaintext):
    sealed = NONCE + box_seal(SHARED, NONCE, plaintext)
    for decode in (
        lambda: derp.decode_client_info(PUBLIC + sealed, PRIVATE),
        lambda: derp.decode_server_info(sealed, PRIVATE, PUBLIC),
    ):
        try:
            decode()
        except BadWire:
            pass


@given(st.binary(max_size=300))
def test_every_disco_and_stun_decoder_knows_one_error_only(data):
    for decode in (
        disco.decode_message,
        disco.sender_of,
        lambda d: disco.open_message(SHARED, d),
        lambda d: disco.open_message(SHARED, disco.MAGIC + d),
        stun.decode_binding_request,
        stun.decode_binding_response,
        lambda d: stun.decode_binding_response(b"\x01\x01\0" + bytes((len(d) & 0xFC,)) + stun.MAGIC + d),
        stun.is_stun,
        disco.looks_like_disco,
    ):
        try:
            decode(data)
        except BadWire:
            pass


@given(st.lists(st.tuples(addresses, ports), max_size=20), txids, addresses, ports, st.binary(min_size=32, max_size=32))
def test_disco_messages_come_back_as_they_went_in(endpoints, txid, address, port, key):
    assert disco.decode_message(disco.encode_call_me_maybe(endpoints)).endpoints == endpoints
    assert disco.decode_message(disco.encode_pong(txid, address, port)) == (txid, address, port)
    assert disco.decode_message(disco.encode_ping(txid, key, port)) == (txid, key, port)
    sealed = disco.seal_message(SHARED, PUBLIC, NONCE, disco.encode_ping(txid, key))
    assert disco.open_message(SHARED, sealed) == disco.encode_ping(txid, key)


@given(txids, addresses, ports)
def test_stun_answers_come_back_as_they_went_in(txid, address, port):
    assert stun.decode_binding_response(stun.encode_binding_response(txid, address, port)) == (txid, address, port)


@given(txids)
def test_scapy_reads_our_request_as_we_meant_it(txid):
    read = STUN(stun.encode_binding_request(txid))
    assert read.stun_message_type == stun.BINDING_REQUEST
    assert read.transaction_id == int.from_bytes(txid, "big")
    assert read.magic_cookie == 0x2112A442
    assert [(attribute.type, attribute.length) for attribute in read.attributes] == [
        (stun.ATTRIBUTE_SOFTWARE, 8),
        (stun.ATTRIBUTE_FINGERPRINT, 4),
    ]


@given(txids, st.binary(min_size=4, max_size=4), ports)
def test_scapy_finds_the_address_in_our_response(txid, address, port):
    read = STUN(stun.encode_binding_response(txid, address, port))
    (attribute,) = read.attributes
    assert read.stun_message_type == stun.BINDING_RESPONSE
    assert (attribute.type, attribute.address_family) == (stun.ATTRIBUTE_XOR_MAPPED_ADDRESS, 1)
    assert (attribute.xport, attribute.xip) == (port, socket.inet_ntoa(address))
