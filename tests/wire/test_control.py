from binascii import a2b_base64, b2a_base64

from shared.expect import raises
from wayhomed.wire import control, keys
from wayhomed.wire.errors import BadWire

MESSAGE_1 = bytes(range(101))
CHALLENGE = bytes(range(32))
ANSWER = control.UPGRADE_RESPONSE
EARLY = control.encode_early_payload(CHALLENGE)
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def early(payload):
    return b"\xff\xff\xffTS" + len(payload).to_bytes(4, "big") + payload


def test_the_upgrade_request_is_written_as_the_reference_shows_it():
    lines = control.encode_upgrade_request("hs.example.net", MESSAGE_1).split(b"\r\n")
    assert lines[0] == b"POST /ts2021 HTTP/1.1"
    assert lines[1:4] == [b"Host: hs.example.net", b"Upgrade: tailscale-control-protocol", b"Connection: upgrade"]
    assert lines[4].startswith(b"X-Tailscale-Handshake: ")
    assert a2b_base64(lines[4][23:]) == MESSAGE_1
    assert lines[5:] == [b"Content-Length: 0", b"", b""]


def test_the_handshake_header_gives_message_1_back():
    text = b2a_base64(MESSAGE_1)[:-1].decode()
    assert control.decode_handshake_header(text) == MESSAGE_1


def test_a_handshake_header_of_another_length_is_refused():
    for length in (0, 1, 99, 100, 102, 103, 1000):
        raises(BadWire, control.decode_handshake_header, b2a_base64(bytes(length))[:-1].decode())
    text = b2a_base64(MESSAGE_1)[:-1].decode()
    raises(BadWire, control.decode_handshake_header, text[:-1])
    raises(BadWire, control.decode_handshake_header, text + "=")


def test_a_handshake_header_that_is_not_base64_is_refused():
    text = b2a_base64(MESSAGE_1)[:-1].decode()
    for wrong in ("-", "_", " ", "\n", "\0", "é", "=", "~", "@", "`", "[", "{"):
        raises(BadWire, control.decode_handshake_header, wrong + text[1:])
        raises(BadWire, control.decode_handshake_header, text[:70] + wrong + text[71:])
    raises(BadWire, control.decode_handshake_header, "A" * 133 + "===")


def test_the_server_answers_with_101():
    reader = control.UpgradeResponseReader()
    assert reader.feed(ANSWER) == b""


def test_bytes_behind_the_answer_belong_to_noise_however_they_were_cut():
    stream = ANSWER + b"noise"
    for cut in range(len(stream) + 1):
        reader = control.UpgradeResponseReader()
        first = reader.feed(stream[:cut])
        if first is None:
            assert reader.feed(stream[cut:]) == b"noise"
        else:
            assert first == b"noise"[: cut - len(ANSWER)]


def test_the_name_of_the_protocol_is_compared_without_case():
    reader = control.UpgradeResponseReader()
    assert reader.feed(b"HTTP/1.1 101 OK\r\nuPGRADE: Tailscale-Control-Protocol\r\n\r\n") == b""


def test_any_other_answer_is_refused_with_its_status():
    for status in (b"200 OK", b"404 Not Found", b"301 Moved", b"500 Oops"):
        error = raises(BadWire, control.UpgradeResponseReader().feed, b"HTTP/1.1 " + status + b"\r\n\r\n")
        assert status[:3].decode() in str(error)
    upgrade = b"Upgrade: tailscale-control-protocol\r\n\r\n"
    raises(BadWire, control.UpgradeResponseReader().feed, b"HTTP/1.1 200 OK\r\n" + upgrade)


def test_a_change_to_another_protocol_is_refused():
    raises(BadWire, control.UpgradeResponseReader().feed, b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n\r\n")
    raises(BadWire, control.UpgradeResponseReader().feed, b"HTTP/1.1 101 OK\r\n\r\n")


def test_an_early_payload_is_magic_length_and_json():
    text = b'{"nodeKeyChallenge": "chalpub:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}'
    assert early(text) == EARLY


def test_the_early_payload_is_taken_off_however_it_was_cut():
    stream = EARLY + SETTINGS
    for cut in range(len(stream) + 1):
        reader = control.EarlyPayloadReader()
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == SETTINGS
        assert reader.challenge == CHALLENGE


def test_http2_without_an_early_payload_passes_untouched_however_it_was_cut():
    stream = SETTINGS + b"more"
    for cut in range(len(stream) + 1):
        reader = control.EarlyPayloadReader()
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == stream
        assert reader.challenge is None


def test_the_magic_is_looked_for_once_only():
    reader = control.EarlyPayloadReader()
    assert reader.feed(SETTINGS) == SETTINGS
    assert reader.feed(EARLY) == EARLY
    assert reader.challenge is None
    reader = control.EarlyPayloadReader()
    assert reader.feed(EARLY + EARLY) == EARLY


def test_an_announced_early_payload_over_the_limit_is_refused_before_it_came():
    header = b"\xff\xff\xffTS"
    raises(BadWire, control.EarlyPayloadReader().feed, header + b"\xff\xff\xff\xff")
    raises(BadWire, control.EarlyPayloadReader().feed, header + (65_537).to_bytes(4, "big"))
    assert control.EarlyPayloadReader().feed(header + (65_536).to_bytes(4, "big")) == b""
    whole = b'{"pad":"' + b"x" * (65_537 - 10) + b'"}'
    raises(BadWire, control.EarlyPayloadReader().feed, early(whole))
    assert control.EarlyPayloadReader().feed(early(whole[:10] + whole[11:])) == b""


def test_unknown_fields_of_an_early_payload_are_ignored():
    reader = control.EarlyPayloadReader()
    assert reader.feed(early(b'{"somethingNew": {"a": [1]}}') + SETTINGS) == SETTINGS
    assert reader.challenge is None
    assert control.EarlyPayloadReader().feed(early(b'{"nodeKeyChallenge": null}')) == b""


def test_a_broken_early_payload_is_refused():
    # MicroPython's json reads some broken texts, as "{", and so they are not in this list.
    node = keys.key_text(keys.NODE, CHALLENGE).encode()
    for payload in (
        b"", b"no", b"[]", b"5", b'"text"', b"null", b'{"nodeKeyChallenge": 5}', b'{"nodeKeyChallenge": ""}',
        b'{"nodeKeyChallenge": "' + node + b'"}', b"\xff\xfe", b'{"nodeKeyChallenge": ["chalpub:"]}', b"[" * 60_000,
    ):  # fmt: skip
        raises(BadWire, control.EarlyPayloadReader().feed, early(payload))


def test_map_frames_are_little_endian():
    assert control.encode_map_frame(b"{}") == b"\x02\0\0\0{}"
    assert control.encode_map_frame(bytes(0x0102))[:4] == b"\x02\x01\0\0"
    raises(ValueError, control.encode_map_frame, b"")


def test_map_frames_come_out_the_same_however_the_bytes_were_cut():
    stream = control.encode_map_frame(b"first") + control.encode_map_frame(b"second")
    for cut in range(len(stream) + 1):
        decoder = control.MapFrameDecoder(100)
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == [b"first", b"second"]


def test_an_empty_map_frame_is_refused():
    raises(BadWire, control.MapFrameDecoder(100).feed, b"\0\0\0\0")
    raises(BadWire, control.MapFrameDecoder(100).feed, control.encode_map_frame(b"first") + b"\0\0\0\0")


def test_a_map_frame_over_the_limit_is_refused_by_its_header():
    decoder = control.MapFrameDecoder(100)
    assert decoder.feed(control.encode_map_frame(bytes(100))) == [bytes(100)]
    raises(BadWire, decoder.feed, b"\x65\0\0\0")
    raises(BadWire, control.MapFrameDecoder(100).feed, control.encode_map_frame(bytes(101)))
    raises(BadWire, control.MapFrameDecoder(100).feed, b"\xff\xff\xff\xff")
    assert control.MapFrameDecoder().feed((4_194_304).to_bytes(4, "little")) == []
    raises(BadWire, control.MapFrameDecoder().feed, (4_194_305).to_bytes(4, "little"))


def test_a_map_message_is_handed_on_as_it_comes():
    stream = control.encode_map_frame(b"first") + control.encode_map_frame(b"second!")
    for size in (1, 2, 3, 4, 5, 9, 100):
        cutter = control.MapFrameCutter(100)
        messages = [b""]
        for at in range(0, len(stream), size):
            for piece, is_last in cutter.feed(stream[at : at + size]):
                messages[-1] += piece
                if is_last:
                    messages.append(b"")
        assert messages == [b"first", b"second!", b""], size


def test_a_map_message_without_bytes_or_with_too_many_is_refused_at_its_length():
    raises(BadWire, control.MapFrameCutter(100).feed, b"\0\0\0\0x")
    raises(BadWire, control.MapFrameCutter(100).feed, (101).to_bytes(4, "little"))
    cutter = control.MapFrameCutter(100)
    assert cutter.feed((100).to_bytes(4, "little")) == []
    assert cutter.feed(bytes(60)) == [(bytes(60), False)]
    raises(BadWire, cutter.feed, bytes(40) + b"\xff\xff\xff\xff")
