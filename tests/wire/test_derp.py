from binascii import unhexlify

from shared.expect import raises
from wayhomed.port.crypto import box_beforenm, box_seal
from wayhomed.wire import derp
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import public_of

SERVER_PRIVATE = unhexlify("88" * 31 + "48")
CLIENT_PRIVATE = unhexlify("98" + "99" * 30 + "59")
SERVER_PUBLIC = public_of(SERVER_PRIVATE)
CLIENT_PUBLIC = public_of(CLIENT_PRIVATE)
NONCE = bytes(range(24))
SERVER_KEY_FRAME = unhexlify(
    "010000002844455250f09f949130d3c865a48fceb3d6118577cf2e5f228d6ff69866264757785b253cb7a4806a"
)
CLIENT_INFO_FRAME = unhexlify(
    "0200000068ba193836cff1f4e866c139715d306408d26a76f76d638a39afc1001084d25411"
    "000102030405060708090a0b0c0d0e0f1011121314151617"
    "5e110e1ac113be272b2b62852e4a01fc15c35255b737e005406a6c955f4a0324708c6278a952cfe76384cff5b3a3b979"
)
SERVER_INFO_FRAME = unhexlify(
    "0300000035000102030405060708090a0b0c0d0e0f1011121314151617"
    "a2703bab378e5d374b384896c58f1f5d15c35255b737e005406a6c950e"
)
KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))


def payload_of(frame, frame_type):
    """Cut one frame and return its payload."""
    frames = derp.DerpDecoder().feed(frame)
    assert [kind for kind, _ in frames] == [frame_type]
    return frames[0][1]


def client_info_of(json_text):
    """Return a ClientInfo payload that holds any text."""
    return CLIENT_PUBLIC + NONCE + box_seal(box_beforenm(SERVER_PUBLIC, CLIENT_PRIVATE), NONCE, json_text)


def test_the_server_key_frame_is_the_one_of_the_vectors():
    assert derp.encode_server_key(SERVER_PUBLIC) == SERVER_KEY_FRAME
    assert derp.decode_server_key(payload_of(SERVER_KEY_FRAME, derp.SERVER_KEY)) == SERVER_PUBLIC


def test_the_client_info_frame_is_the_one_of_the_vectors():
    assert derp.encode_client_info(CLIENT_PRIVATE, SERVER_PUBLIC, NONCE) == CLIENT_INFO_FRAME
    key, info = derp.decode_client_info(payload_of(CLIENT_INFO_FRAME, derp.CLIENT_INFO), SERVER_PRIVATE)
    assert key == CLIENT_PUBLIC
    assert info == derp.ClientInfo(2, True, "", False, "")


def test_the_server_info_frame_is_the_one_of_the_vectors():
    assert derp.encode_server_info(SERVER_PRIVATE, CLIENT_PUBLIC, NONCE) == SERVER_INFO_FRAME
    info = derp.decode_server_info(payload_of(SERVER_INFO_FRAME, derp.SERVER_INFO), CLIENT_PRIVATE, SERVER_PUBLIC)
    assert info == derp.ServerInfo(2, 0, 0)


def test_frames_come_out_the_same_however_the_bytes_were_cut():
    stream = CLIENT_INFO_FRAME + derp.encode_keep_alive() + derp.encode_ping(b"12345678")
    whole = derp.DerpDecoder().feed(stream)
    assert [kind for kind, _ in whole] == [derp.CLIENT_INFO, derp.KEEP_ALIVE, derp.PING]
    for cut in range(len(stream) + 1):
        decoder = derp.DerpDecoder()
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == whole
        assert decoder.buffered_bytes() == 0
    decoder = derp.DerpDecoder()
    one_by_one = []
    for i in range(len(stream)):
        one_by_one += decoder.feed(stream[i : i + 1])
    assert one_by_one == whole


def test_frames_taken_one_by_one_are_those_of_feed():
    stream = derp.encode_keep_alive() + derp.encode_ping(b"12345678") + CLIENT_INFO_FRAME[:20]
    decoder = derp.DerpDecoder()
    decoder.append(stream)
    assert decoder.next_frame() == (derp.KEEP_ALIVE, b"")
    assert decoder.next_frame() == (derp.PING, b"12345678")
    assert decoder.next_frame() is None
    decoder.append(CLIENT_INFO_FRAME[20:])
    assert decoder.feed(b"") == derp.DerpDecoder().feed(CLIENT_INFO_FRAME)
    assert decoder.next_frame() is None


def test_a_frame_over_the_limit_is_refused_by_its_announced_length():
    decoder = derp.DerpDecoder(100)
    assert len(decoder.feed(derp.encode_frame(derp.SEND_PACKET, b"x" * 100))) == 1
    raises(BadWire, decoder.feed, b"\x04\0\0\0\x65")
    one_more = derp.DerpDecoder(100)
    one_more.append(b"\x04\xff\xff\xff\xff")
    raises(BadWire, one_more.next_frame)
    raises(BadWire, derp.DerpDecoder().feed, b"\x05\x00\x10\x00\x01")
    assert derp.DerpDecoder().feed(b"\x05\x00\x10\x00\x00") == []


def test_the_limit_may_change_between_frames():
    decoder = derp.DerpDecoder(10)
    decoder.append(derp.encode_keep_alive() + derp.encode_frame(derp.HEALTH, b"x" * 50))
    assert decoder.next_frame() == (derp.KEEP_ALIVE, b"")
    decoder.max_payload = 50
    assert decoder.feed(b"") == [(derp.HEALTH, b"x" * 50)]


def test_a_decoder_keeps_nothing_of_a_buffer_that_its_caller_uses_again():
    reused = bytearray(derp.encode_frame(derp.HEALTH, b"abc"))
    decoder = derp.DerpDecoder()
    assert decoder.feed(memoryview(reused)[:6]) == []
    reused[:6] = b"??????"
    assert decoder.feed(b"bc") == [(derp.HEALTH, b"abc")]


def test_a_server_key_may_be_followed_by_bytes_of_the_future_but_not_be_cut_short():
    payload = SERVER_KEY_FRAME[5:]
    assert derp.decode_server_key(payload + b"future") == SERVER_PUBLIC
    for length in range(len(payload)):
        raises(BadWire, derp.decode_server_key, payload[:length])
    raises(BadWire, derp.decode_server_key, b"X" + payload[1:])


def test_a_client_info_of_which_any_byte_is_changed_or_missing_is_refused():
    payload = CLIENT_INFO_FRAME[5:]
    for length in range(len(payload)):
        raises(BadWire, derp.decode_client_info, payload[:length], SERVER_PRIVATE)
    for i in range(0, len(payload), 7):
        changed = payload[:i] + bytes((payload[i] ^ 1,)) + payload[i + 1 :]
        raises(BadWire, derp.decode_client_info, changed, SERVER_PRIVATE)
    raises(BadWire, derp.decode_client_info, payload, CLIENT_PRIVATE)
    raises(BadWire, derp.decode_client_info, bytes(len(payload)), SERVER_PRIVATE)


def test_a_client_info_over_256_kib_is_refused_though_its_box_opens():
    most = derp.CLIENT_INFO_MOST_BYTES - 32 - 24 - 16
    text = b'{"version":2}'
    fits = client_info_of(text + b" " * (most - len(text)))
    assert derp.decode_client_info(fits, SERVER_PRIVATE)[0] == CLIENT_PUBLIC
    raises(BadWire, derp.decode_client_info, client_info_of(text + b" " * (most + 1 - len(text))), SERVER_PRIVATE)


def test_names_in_the_handshake_are_read_without_regard_to_case_and_unknown_ones_ignored():
    text = b'{"Version":3,"canAckPings":false,"MESHKEY":"ab","isProber":true,"AppName":"x","new":{"a":[1]}}'
    _, info = derp.decode_client_info(client_info_of(text), SERVER_PRIVATE)
    assert info == derp.ClientInfo(3, False, "ab", True, "x")
    _, info = derp.decode_client_info(client_info_of(b'{"version":null,"AppName":null}'), SERVER_PRIVATE)
    assert info == derp.ClientInfo(0, False, "", False, "")


def test_wrong_types_in_the_handshake_are_refused():
    for text in (
        b"",
        b"[]",
        b"7",
        b"nonsense",
        b'"text"',
        b"[" * 20000,
        b'{"version":"2"}',
        b'{"version":true}',
        b'{"version":-1}',
        b'{"version":1.5}',
        b'{"version":99999999999999999999999}',
        b'{"version":2,"CanAckPings":1}',
        b'{"version":2,"CanAckPings":"yes"}',
        b'{"version":2,"meshKey":7}',
        b'{"version":2,"IsProber":[]}',
        b'{"version":2,"AppName":{}}',
        b'{"version":2,"AppName":"' + b"x" * 201 + b'"}',
        b'{"version":2,"meshKey":"' + b"0" * 65 + b'"}',
    ):
        raises(BadWire, derp.decode_client_info, client_info_of(text), SERVER_PRIVATE)


def test_an_application_name_travels_in_the_client_info():
    frame = derp.encode_client_info(CLIENT_PRIVATE, SERVER_PUBLIC, NONCE, False, 'a "quoted" näme')
    _, info = derp.decode_client_info(frame[5:], SERVER_PRIVATE)
    assert info == derp.ClientInfo(2, False, "", False, 'a "quoted" näme')


def test_a_rate_limit_travels_in_the_server_info():
    frame = derp.encode_server_info(SERVER_PRIVATE, CLIENT_PUBLIC, NONCE, 1000000, derp.RATE_BURST_LEAST_BYTES)
    info = derp.decode_server_info(frame[5:], CLIENT_PRIVATE, SERVER_PUBLIC)
    assert info == derp.ServerInfo(2, 1000000, 65568)


def test_a_server_info_of_which_any_byte_is_missing_is_refused():
    payload = SERVER_INFO_FRAME[5:]
    for length in range(len(payload)):
        raises(BadWire, derp.decode_server_info, payload[:length], CLIENT_PRIVATE, SERVER_PUBLIC)
    raises(BadWire, derp.decode_server_info, payload, SERVER_PRIVATE, SERVER_PUBLIC)


def test_a_weak_key_in_the_handshake_is_refused():
    raises(BadWire, derp.encode_client_info, CLIENT_PRIVATE, bytes(32), NONCE)
    raises(BadWire, derp.encode_server_info, SERVER_PRIVATE, bytes(32), NONCE)


def test_packets_carry_their_key():
    assert derp.encode_send_packet(KEY, b"data")[:5] == b"\x04\0\0\0\x24"
    assert derp.decode_packet(payload_of(derp.encode_send_packet(KEY, b"data"), derp.SEND_PACKET)) == (KEY, b"data")
    assert derp.decode_packet(payload_of(derp.encode_recv_packet(KEY, b""), derp.RECV_PACKET)) == (KEY, b"")
    raises(BadWire, derp.decode_packet, KEY[:31])
    assert len(derp.decode_packet(KEY + bytes(65536))[1]) == 65536
    raises(BadWire, derp.decode_packet, KEY + bytes(65537))


def test_forwarded_packets_carry_two_keys():
    payload = payload_of(derp.encode_forward_packet(KEY, OTHER_KEY, b"data"), derp.FORWARD_PACKET)
    assert derp.decode_forward_packet(payload) == (KEY, OTHER_KEY, b"data")
    raises(BadWire, derp.decode_forward_packet, payload[:63])
    raises(BadWire, derp.decode_forward_packet, KEY + OTHER_KEY + bytes(65537))


def test_note_preferred_is_exactly_one_byte():
    assert derp.encode_note_preferred(True) == b"\x07\0\0\0\x01\x01"
    assert derp.encode_note_preferred(False) == b"\x07\0\0\0\x01\0"
    assert derp.decode_note_preferred(b"\x01") is True
    assert derp.decode_note_preferred(b"\0") is False
    raises(BadWire, derp.decode_note_preferred, b"")
    raises(BadWire, derp.decode_note_preferred, b"\x01\0")


def test_a_peer_gone_without_reason_means_disconnected():
    payload = payload_of(derp.encode_peer_gone(KEY, derp.GONE_NOT_HERE), derp.PEER_GONE)
    assert derp.decode_peer_gone(payload) == (KEY, derp.GONE_NOT_HERE)
    assert derp.decode_peer_gone(KEY) == (KEY, derp.GONE_DISCONNECTED)
    raises(BadWire, derp.decode_peer_gone, KEY[:31])


def test_a_peer_present_may_leave_out_address_and_flags():
    frame = derp.encode_peer_present(KEY, b"\xc6\x33\x64\x07", 41641, derp.PRESENT_REGULAR)
    payload = payload_of(frame, derp.PEER_PRESENT)
    assert len(payload) == 51
    assert derp.decode_peer_present(payload) == (KEY, b"\xc6\x33\x64\x07", 41641, 1)
    assert derp.decode_peer_present(payload[:50]) == (KEY, b"\xc6\x33\x64\x07", 41641, 0)
    assert derp.decode_peer_present(payload[:49]) == (KEY, b"", 0, 0)
    assert derp.decode_peer_present(KEY) == (KEY, b"", 0, 0)
    raises(BadWire, derp.decode_peer_present, KEY[:31])


def test_the_frames_between_relays():
    assert derp.encode_watch_conns() == b"\x10\0\0\0\0"
    assert derp.decode_close_peer(payload_of(derp.encode_close_peer(KEY), derp.CLOSE_PEER)) == KEY
    raises(BadWire, derp.decode_close_peer, KEY[:31])
    raises(BadWire, derp.decode_close_peer, KEY + b"x")


def test_a_ping_has_8_to_1000_bytes_and_its_pong_the_first_8():
    assert derp.decode_ping(payload_of(derp.encode_ping(b"12345678"), derp.PING)) == b"12345678"
    assert derp.decode_ping(b"12345678" + bytes(992)) == b"12345678"
    raises(BadWire, derp.decode_ping, b"1234567")
    raises(BadWire, derp.decode_ping, bytes(1001))
    assert derp.decode_pong(payload_of(derp.encode_pong(b"12345678"), derp.PONG)) == b"12345678"
    raises(BadWire, derp.decode_pong, b"1234567")


def test_health_and_restarting():
    assert derp.decode_health(payload_of(derp.encode_health("no coffee ☕"), derp.HEALTH)) == "no coffee ☕"
    assert derp.decode_health(b"") == ""
    raises(BadWire, derp.decode_health, b"\xff\xfe")
    payload = payload_of(derp.encode_restarting(1500, 70000), derp.RESTARTING)
    assert derp.decode_restarting(payload) == (1500, 70000)
    raises(BadWire, derp.decode_restarting, payload[:7])


def test_the_upgrade_request_names_host_and_ideal_node_and_fast_start():
    assert derp.encode_upgrade_request("derp.example.net") == (
        b"GET /derp HTTP/1.1\r\nHost: derp.example.net\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    )
    text = derp.encode_upgrade_request("h", "900b", True)
    assert b"\r\nIdeal-Node: 900b\r\n" in text
    assert b"\r\nDerp-Fast-Start: 1\r\n" in text


def test_the_upgrade_response_gives_back_the_bytes_behind_it_however_it_was_cut():
    response = derp.encode_upgrade_response(SERVER_PUBLIC)
    assert b"\r\nDerp-Public-Key: 30d3c865a48fceb3d6118577cf2e5f228d6ff69866264757785b253cb7a4806a\r\n" in response
    for length in range(len(response)):
        assert derp.split_upgrade_response(response[:length]) is None
    assert derp.split_upgrade_response(response) == b""
    assert derp.split_upgrade_response(bytearray(response + SERVER_KEY_FRAME)) == SERVER_KEY_FRAME


def test_another_answer_than_101_is_refused_at_once():
    for answer in (
        b"HTTP/1.1 403 Forbidden\r\n",
        b"HTTP/1.1 1010\r\n",
        b"HTTP/1.0 101 x\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"SSH-2.0",
        b"\x16",
        b"\x15\x03\x01",
        b"HTTP/1.1 101 Switching" + bytes(derp.HTTP_HEAD_MOST_BYTES),
    ):
        raises(BadWire, derp.split_upgrade_response, answer)
    refusal = raises(BadWire, derp.split_upgrade_response, b"HTTP/1.1 403 Forbidden\r\nServer: x\r\n")
    assert str(refusal)[-22:] == "HTTP/1.1 403 Forbidden"
    assert str(raises(BadWire, derp.split_upgrade_response, b"\x1b[2J\xff\r\n"))[-6:] == ": ?[2J?"[-6:]
