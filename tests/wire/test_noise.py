from binascii import unhexlify

from shared.expect import raises
from wayhomed.wire import keys, noise
from wayhomed.wire.errors import BadWire

MACHINE = keys.new_private(b"\x11" * 32)
MACHINE_EPHEMERAL = keys.new_private(b"\x22" * 32)
SERVER = keys.new_private(b"\x33" * 32)
SERVER_EPHEMERAL = keys.new_private(b"\x44" * 32)
STRANGER = keys.new_private(b"\x77" * 32)
SERVER_PUBLIC = keys.public_of(SERVER)

# Vectors of the protocol reference, version 113
MESSAGE_1 = unhexlify(
    "00710100600faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f2061d2949213e755bc180b5d5dbbd8c50a2a1beb69"
    "f8940d24cab4606a34cd5d41f9d17afbcd2c70cdff7c982b922df1bd9a57bb432d58e197f5f11b644c054435"
)
MESSAGE_2 = unhexlify(
    "020030ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b0eddc22d979a1022201bb5cd3643c054"
)
HANDSHAKE_HASH = unhexlify("dd297d1d3fa4d71605d3b77e1b173181c073110e4cdf9672828fcdfe4f138b87")
TO_SERVER = unhexlify("d9811dd6a320dc8484bb37ea989640c99f99a8582f50b829e347bd75da510717")
TO_CLIENT = unhexlify("8561e3fd4551ed82ee22220925e41e923d64b1c04b856f8ec1eaa544a511a427")
SERVER_RECORDS = (
    unhexlify("040015916b2f8d08168f8cec88cc3a625b975d5566051b63"),
    unhexlify("040015c1106eb50797a16fe0b0aa429d431066b28ec4eacb"),
)


def initiator():
    return noise.Initiator(MACHINE, SERVER_PUBLIC, 113, MACHINE_EPHEMERAL)


def sessions():
    """Return (client's, server's) session of one handshake."""
    client = initiator()
    responded = noise.respond(client.message, SERVER, SERVER_EPHEMERAL)
    return client.response_received(responded.message), responded.session


def test_the_initiator_writes_message_1_of_the_reference():
    assert initiator().message == MESSAGE_1
    assert len(MESSAGE_1) == noise.INITIATION_BYTES


def test_the_responder_writes_message_2_of_the_reference_and_learns_version_and_machine_key():
    responded = noise.respond(MESSAGE_1, SERVER, SERVER_EPHEMERAL)
    assert responded.message == MESSAGE_2
    assert responded.version == 113
    assert responded.machine_public == keys.public_of(MACHINE)
    assert responded.session.handshake_hash == HANDSHAKE_HASH
    assert len(MESSAGE_2) == noise.RESPONSE_BYTES


def test_both_sides_hold_the_same_handshake_hash():
    client, server = sessions()
    assert client.handshake_hash == server.handshake_hash == HANDSHAKE_HASH


def test_records_are_those_of_the_reference_with_a_big_endian_counter():
    client, server = sessions()
    for record in SERVER_RECORDS:
        assert server.seal(b"hello") == record
        assert client.feed(record) == b"hello"


def test_the_keys_of_the_reference_are_those_in_use():
    client, server = sessions()
    same_server = noise.Session(TO_CLIENT, TO_SERVER, HANDSHAKE_HASH)
    assert same_server.seal(b"hello") == SERVER_RECORDS[0]
    assert same_server.feed(client.seal(b"to server")) == b"to server"
    assert server.seal(b"hello") == SERVER_RECORDS[0]


def test_plaintext_goes_both_ways():
    client, server = sessions()
    assert server.feed(client.seal(b"question")) == b"question"
    assert client.feed(server.seal(b"answer")) == b"answer"


def test_the_same_plaintext_comes_out_however_the_records_were_cut():
    _, server = sessions()
    stream = server.seal(b"first") + server.seal(b"second") + server.seal(b"third")
    for cut in range(len(stream) + 1):
        client, _ = sessions()
        assert client.feed(stream[:cut]) + client.feed(stream[cut:]) == b"firstsecondthird"


def test_the_same_plaintext_comes_out_byte_by_byte():
    client, server = sessions()
    got = b""
    for byte in server.seal(b"first") + server.seal(b"second"):
        got += client.feed(bytes([byte]))
    assert got == b"firstsecond"


def test_long_plaintext_is_split_into_records_of_at_most_4096_bytes():
    client, server = sessions()
    data = bytes(range(251)) * 50
    sealed = server.seal(data)
    lengths = []
    start = 0
    while start < len(sealed):
        lengths.append(noise.frame_length(sealed[start:]))
        start += lengths[-1]
    assert lengths == [4096, 4096, 4096, 3 + 12550 - 3 * 4077 + 16]
    assert client.feed(sealed) == data


def test_sealing_nothing_sends_nothing():
    client, server = sessions()
    assert server.seal(b"") == b""
    assert client.feed(server.seal(b"next")) == b"next"


def sealed_record(plaintext, counter=0):
    """A server's record with any plaintext, also one that seal() would not make."""
    from wayhomed.port.crypto import aead_seal

    sealed = aead_seal(TO_CLIENT, bytes(4) + counter.to_bytes(8, "big"), plaintext, b"")
    return b"\x04" + len(sealed).to_bytes(2, "big") + sealed


def test_a_record_of_no_plaintext_is_skipped():
    client, _ = sessions()
    assert client.feed(sealed_record(b"")) == b""
    assert client.feed(sealed_record(b"next", 1)) == b"next"


def test_the_longest_record_is_read_and_one_byte_more_is_refused_by_its_header():
    client, _ = sessions()
    assert client.feed(sealed_record(bytes(4077))) == bytes(4077)
    raises(BadWire, client.feed, sealed_record(bytes(4078), 1)[:3])


def test_a_whole_record_that_is_too_long_is_refused_though_it_is_sealed_well():
    client, _ = sessions()
    raises(BadWire, client.feed, sealed_record(bytes(4078)))


def test_a_record_shorter_than_its_tag_is_refused():
    for length in range(16):
        client, _ = sessions()
        raises(BadWire, client.feed, b"\x04\x00" + bytes([length]) + bytes(length))


def test_only_records_may_follow_the_handshake():
    record = sealed_record(b"hello")
    for kind in (0, 1, 2, 3, 5, 255):
        client, _ = sessions()
        raises(BadWire, client.feed, bytes([kind]) + record[1:])


def test_a_record_changed_on_the_way_is_refused():
    for i in range(3, len(SERVER_RECORDS[0])):
        client, _ = sessions()
        changed = bytearray(SERVER_RECORDS[0])
        changed[i] ^= 1
        raises(BadWire, client.feed, bytes(changed))


def test_records_repeated_or_out_of_order_are_refused():
    client, _ = sessions()
    raises(BadWire, client.feed, SERVER_RECORDS[1])
    client, _ = sessions()
    raises(BadWire, client.feed, SERVER_RECORDS[0] + SERVER_RECORDS[0])


def test_a_record_sent_back_to_its_sender_is_refused():
    _, server = sessions()
    raises(BadWire, server.feed, server.seal(b"hello"))


def test_a_session_ends_before_its_counter_runs_out():
    last = 0xFFFFFFFFFFFFFFFE
    server = noise.Session(TO_CLIENT, TO_SERVER, HANDSHAKE_HASH, sealed=last)
    client = noise.Session(TO_SERVER, TO_CLIENT, HANDSHAKE_HASH, opened=last)
    assert client.feed(server.seal(b"last")) == b"last"
    raises(BadWire, server.seal, b"one too many")
    raises(BadWire, client.feed, sealed_record(b"one too many", last + 1))


def test_an_initiation_changed_anywhere_is_refused():
    for i in range(len(MESSAGE_1)):
        changed = bytearray(MESSAGE_1)
        changed[i] ^= 1
        raises(BadWire, noise.respond, bytes(changed), SERVER, SERVER_EPHEMERAL)


def test_an_initiation_of_another_length_is_refused():
    for cut in range(len(MESSAGE_1)):
        raises(BadWire, noise.respond, MESSAGE_1[:cut], SERVER, SERVER_EPHEMERAL)
    raises(BadWire, noise.respond, MESSAGE_1 + b"\0", SERVER, SERVER_EPHEMERAL)


def test_an_initiation_for_another_server_is_refused():
    raises(BadWire, noise.respond, MESSAGE_1, STRANGER, SERVER_EPHEMERAL)


def test_an_initiation_whose_key_gives_no_secret_is_refused():
    raises(BadWire, noise.respond, MESSAGE_1[:5] + bytes(32) + MESSAGE_1[37:], SERVER, SERVER_EPHEMERAL)


def test_a_server_without_a_real_key_is_refused():
    raises(BadWire, noise.Initiator, MACHINE, bytes(32), 113, MACHINE_EPHEMERAL)


def test_a_response_changed_anywhere_is_refused():
    for i in range(len(MESSAGE_2)):
        changed = bytearray(MESSAGE_2)
        changed[i] ^= 1
        raises(BadWire, initiator().response_received, bytes(changed))


def test_a_response_of_another_length_is_refused():
    for cut in range(len(MESSAGE_2)):
        raises(BadWire, initiator().response_received, MESSAGE_2[:cut])
    raises(BadWire, initiator().response_received, MESSAGE_2 + b"\0")


def test_a_response_by_another_server_is_refused():
    responded = noise.respond(
        noise.Initiator(MACHINE, keys.public_of(STRANGER), 113, MACHINE_EPHEMERAL).message, STRANGER, SERVER_EPHEMERAL
    )
    raises(BadWire, initiator().response_received, responded.message)


def test_a_record_in_place_of_the_response_is_refused():
    record = b"\x04" + MESSAGE_2[1:]
    raises(BadWire, initiator().response_received, record)


def test_each_version_has_its_own_handshake():
    for version in (0, 113, 145, 65535):
        client = noise.Initiator(MACHINE, SERVER_PUBLIC, version, MACHINE_EPHEMERAL)
        responded = noise.respond(client.message, SERVER, SERVER_EPHEMERAL)
        assert responded.version == version
        assert client.response_received(responded.message).handshake_hash == responded.session.handshake_hash


def test_a_servers_refusal_carries_its_text():
    error = raises(BadWire, initiator().response_received, noise.encode_error("too old, please update"))
    assert "too old, please update" in str(error)


def test_a_refusals_text_is_made_fit_for_a_log():
    text = str(raises(BadWire, initiator().response_received, noise.encode_error("a\n\x1b[31m\x7fb\x9b" + "x" * 4000)))
    assert "a??[31m?b??x" in text  # the last is a C1 control: to some terminals the beginning of an escape sequence
    assert len(text) < 260
    raises(BadWire, initiator().response_received, b"\x03\x00\x02\xff\xfe")
    raises(BadWire, initiator().response_received, b"\x03\x00\x00")


def test_an_error_frame_has_type_3_and_its_length():
    assert noise.encode_error("no") == b"\x03\x00\x02no"
    assert len(noise.encode_error("x" * 5000)) == 4096


def test_a_reader_knows_when_the_servers_frame_is_whole():
    for cut in range(3):
        assert noise.frame_length(MESSAGE_2[:cut]) == 0
    for cut in range(3, len(MESSAGE_2)):
        assert noise.frame_length(MESSAGE_2[:cut]) == 51
    assert noise.frame_length(noise.encode_error("no") + b"behind") == 5
    assert noise.frame_length(b"\x04\x0f\xfd") == 4096


def test_a_frame_of_the_wrong_length_or_type_is_known_by_its_header():
    for header in (
        b"\x02\x00\x2f",
        b"\x02\x00\x31",
        b"\x03\x0f\xfe",
        b"\x04\x0f\xfe",
        b"\x04\xff\xff",
        b"\x00\x00\x30",
    ):
        raises(BadWire, noise.frame_length, header)
    for header in (b"\x01\x00\x60", b"\x05\x00\x30", b"HTT"):
        raises(BadWire, noise.frame_length, header)
