"""DERP's limits at their very edges: the last thing allowed and the first thing refused."""

from shared.expect import raises
from wayhomed.port.crypto import box_beforenm, box_seal
from wayhomed.wire import derp
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import new_private, public_of

SERVER = new_private(b"\x88" * 32)
CLIENT = new_private(b"\x99" * 32)
NONCE = bytes(range(24))
KEYS = bytes(range(64))
NUMBER_MOST = 1 << 53
APP_NAME_MOST = 200
CLIENT_INFO_MOST = 262_144
HTTP_HEAD_MOST = 8_192
PACKET_MOST = 65_536


def client_info(text):
    """A ClientInfo payload with any text in its box."""
    return public_of(CLIENT) + NONCE + box_seal(box_beforenm(public_of(SERVER), CLIENT), NONCE, text)


def server_info(text):
    """A ServerInfo payload with any text in its box."""
    return NONCE + box_seal(box_beforenm(public_of(CLIENT), SERVER), NONCE, text)


def test_a_frame_that_is_whole_to_the_byte_is_taken():
    decoder = derp.DerpDecoder(100)
    frame = derp.encode_frame(derp.KEEP_ALIVE, b"")
    decoder.append(frame)
    assert decoder.next_frame() == (derp.KEEP_ALIVE, b"")
    assert decoder.next_frame() is None
    frame = derp.encode_frame(derp.HEALTH, b"text")
    decoder.append(frame[:-1])
    assert decoder.next_frame() is None
    decoder.append(frame[-1:])
    assert decoder.next_frame() == (derp.HEALTH, b"text")
    assert decoder.buffered_bytes() == 0


def test_an_empty_box_is_no_json_and_a_shorter_one_is_cut_short():
    error = raises(BadWire, derp.decode_client_info, client_info(b""), SERVER)
    assert "JSON" in str(error)
    error = raises(BadWire, derp.decode_client_info, client_info(b"")[:-1], SERVER)
    assert "cut short" in str(error)
    error = raises(BadWire, derp.decode_server_info, server_info(b""), CLIENT, public_of(SERVER))
    assert "JSON" in str(error)
    error = raises(BadWire, derp.decode_server_info, server_info(b"")[:-1], CLIENT, public_of(SERVER))
    assert "cut short" in str(error)


def test_a_client_info_may_have_256_kib_and_not_a_byte_more():
    text = b'{"version":2}'
    longest = client_info(text + b" " * (CLIENT_INFO_MOST - len(client_info(text))))
    assert len(longest) == CLIENT_INFO_MOST
    assert derp.decode_client_info(longest, SERVER)[1].version == 2
    longer = client_info(text + b" " * (CLIENT_INFO_MOST - len(client_info(text)) + 1))
    raises(BadWire, derp.decode_client_info, longer, SERVER)


def test_numbers_of_the_handshake_have_their_bounds():
    def rate(text):
        fields = b'{"version":2,"TokenBucketBytesPerSecond":' + text + b"}"
        return derp.decode_server_info(server_info(fields), CLIENT, public_of(SERVER)).bytes_per_second

    assert rate(b"0") == 0
    raises(BadWire, rate, b"-1")
    assert rate(str(NUMBER_MOST).encode()) == NUMBER_MOST
    raises(BadWire, rate, str(NUMBER_MOST + 1).encode())


def test_texts_of_the_handshake_have_their_bounds():
    longest = "a" * APP_NAME_MOST
    frame = derp.encode_client_info(CLIENT, public_of(SERVER), NONCE, True, longest)
    assert derp.decode_client_info(frame[derp.HEADER_BYTES :], SERVER)[1].app_name == longest
    frame = derp.encode_client_info(CLIENT, public_of(SERVER), NONCE, True, longest + "a")
    raises(BadWire, derp.decode_client_info, frame[derp.HEADER_BYTES :], SERVER)


def test_a_forwarded_packet_may_be_empty_and_may_have_64_kib():
    assert derp.decode_forward_packet(KEYS) == (KEYS[:32], KEYS[32:], b"")
    packet = bytes(PACKET_MOST)
    assert derp.decode_forward_packet(KEYS + packet) == (KEYS[:32], KEYS[32:], packet)
    raises(BadWire, derp.decode_forward_packet, KEYS + packet + b"\0")
    raises(BadWire, derp.decode_forward_packet, KEYS[:63])


def test_an_answer_to_the_upgrade_without_a_status_line_is_refused():
    raises(BadWire, derp.split_upgrade_response, b"\r\n\r\n")
    raises(BadWire, derp.split_upgrade_response, b"HTTP/1.1 10\r\n\r\n")
    assert derp.split_upgrade_response(b"HTTP/1.1 101\r\n\r\nframes") == b"frames"


def test_an_answer_to_the_upgrade_is_waited_for_up_to_the_limit():
    start = b"HTTP/1.1 101 OK\r\nA: "
    almost = start + b"x" * (HTTP_HEAD_MOST - 1 - len(start))
    assert derp.split_upgrade_response(almost) is None
    raises(BadWire, derp.split_upgrade_response, almost + b"x")
