import struct

from shared.expect import raises
from wayhomed.wire import ntp
from wayhomed.wire.errors import BadWire

NONCE = bytes(range(8))
QUESTION = ntp.encode_request(NONCE)
NOON = 1_795_435_200  # 2026-11-23 12:00 UTC
BUILD = 1_793_491_200


def answer(**changes):
    return ntp.encode_answer(QUESTION, NOON * 1000, NOON * 1000 + 3, **changes)


def changed(at, *values):
    made = bytearray(answer())
    made[at : at + len(values)] = bytes(values)
    return bytes(made)


def test_the_question_has_the_right_header_and_no_time_of_ours():
    assert len(QUESTION) == 48
    assert QUESTION[0] == 0x23, "leap 0, version 4, mode 3"
    assert QUESTION[1:40] == bytes(39)
    assert QUESTION[40:] == NONCE


def test_an_answer_is_read_as_it_was_written():
    read = ntp.decode_answer(answer(stratum=3, root_distance_ms=250), NONCE, BUILD)
    assert (read.stratum, read.received_ms, read.sent_ms) == (3, NOON * 1000, NOON * 1000 + 3)
    assert 249 <= read.root_distance_ms <= 250
    assert read.refusal == ""


def test_an_answer_written_by_hand_is_understood():
    # leap 0, version 4, mode 4; stratum 1; root delay 1 s, root dispersion 1/2 s; 2026-11-23 12:00:00.5
    seconds = NOON + 2_208_988_800
    made = struct.pack(">BBbbII4s", 0x24, 1, 6, -20, 0x10000, 0x8000, b"GPS\0") + bytes(8) + NONCE
    made += struct.pack(">IIII", seconds, 0x80000000, seconds, 0x80000000)
    read = ntp.decode_answer(made, NONCE, BUILD)
    assert read.sent_ms == NOON * 1000 + 500
    assert read.root_distance_ms == 1000


def test_what_follows_the_packet_is_not_looked_at():
    assert ntp.decode_answer(answer() + bytes(20), NONCE, BUILD).sent_ms == NOON * 1000 + 3


def test_the_era_is_the_one_that_has_begun():
    after_2036 = 2_100_000_000
    made = ntp.encode_answer(QUESTION, after_2036 * 1000, after_2036 * 1000)
    assert ntp.decode_answer(made, NONCE, BUILD).sent_ms == after_2036 * 1000
    # What lies before the time that has passed for sure can only be of the next era.
    assert ntp.decode_answer(answer(), NONCE, NOON + 1).sent_ms == (NOON + 2**32) * 1000 + 3
    assert ntp.decode_answer(answer(), NONCE, NOON).sent_ms == NOON * 1000 + 3


def times(received, sent):
    """An answer with these times, each (seconds since 1900 or 2036, 32-bit part of one)."""
    return answer()[:32] + struct.pack(">IIII", received[0], received[1], sent[0], sent[1])


def test_the_second_in_which_an_era_begins_is_a_time():
    begins_s = 2**32 - 2_208_988_800
    read = ntp.decode_answer(times((0, 2**31), (0, 3 * 2**30)), NONCE, BUILD)
    assert (read.received_ms, read.sent_ms) == (begins_s * 1000 + 500, begins_s * 1000 + 750)
    read = ntp.decode_answer(times((1, 0), (2, 0)), NONCE, BUILD)
    assert (read.received_ms, read.sent_ms) == (begins_s * 1000 + 1000, begins_s * 1000 + 2000)


def test_a_time_of_nothing_but_zeros_is_none():
    # Only the zeros are wrong here: in the new era they would come behind, or before, the other.
    raises(BadWire, ntp.decode_answer, times((0, 0), (1, 0)), NONCE, BUILD)
    raises(BadWire, ntp.decode_answer, times((2**32 - 1, 0), (0, 0)), NONCE, BUILD)
    raises(BadWire, ntp.decode_answer, times((0, 0), (0, 0)), NONCE, BUILD)


def test_versions_3_and_4_are_understood():
    for version in (3, 4):
        assert ntp.decode_answer(changed(0, version << 3 | 4), NONCE, BUILD).stratum == 2


def test_strata_1_to_15_have_a_time():
    for stratum in (1, 15):
        assert ntp.decode_answer(answer(stratum=stratum), NONCE, BUILD).stratum == stratum


def test_an_answer_to_another_question_is_refused():
    raises(BadWire, ntp.decode_answer, answer(), bytes(8), BUILD)
    made = bytearray(answer())
    for place in range(24, 32):
        made[place] ^= 1
        raises(BadWire, ntp.decode_answer, bytes(made), NONCE, BUILD)
        made[place] ^= 1


def test_what_is_no_servers_answer_is_refused():
    for mode in (0, 1, 2, 3, 5, 6, 7):
        raises(BadWire, ntp.decode_answer, changed(0, 0x20 | mode), NONCE, BUILD)
    raises(BadWire, ntp.decode_answer, QUESTION, NONCE, BUILD)
    for version in (0, 1, 2, 5, 6, 7):
        raises(BadWire, ntp.decode_answer, changed(0, version << 3 | 4), NONCE, BUILD)


def test_a_server_that_has_no_time_itself_is_refused():
    raises(BadWire, ntp.decode_answer, changed(0, 0xE4), NONCE, BUILD)
    for stratum in (16, 17, 255):
        raises(BadWire, ntp.decode_answer, changed(1, stratum), NONCE, BUILD)
    raises(BadWire, ntp.decode_answer, answer()[:40] + bytes(8), NONCE, BUILD)
    raises(BadWire, ntp.decode_answer, answer()[:32] + bytes(8) + answer()[40:], NONCE, BUILD)


def test_a_server_that_answers_before_it_was_asked_is_refused():
    made = ntp.encode_answer(QUESTION, NOON * 1000, NOON * 1000 - 1)
    raises(BadWire, ntp.decode_answer, made, NONCE, BUILD)


def test_a_kiss_of_death_is_told_by_its_letters():
    assert ntp.decode_answer(answer(refusal="RATE"), NONCE, BUILD).refusal == "RATE"
    assert ntp.decode_answer(answer(refusal="\x1b[2J"), NONCE, BUILD).refusal == "J"
    raises(BadWire, ntp.decode_answer, answer(refusal="RATE"), bytes(8), BUILD)  # not from whom we asked


def test_what_is_too_short_or_too_long_is_refused():
    for length in range(48):
        raises(BadWire, ntp.decode_answer, answer()[:length], NONCE, BUILD)
    assert ntp.decode_answer(answer() + bytes(1024 - 48), NONCE, BUILD).stratum == 2
    raises(BadWire, ntp.decode_answer, answer() + bytes(1025 - 48), NONCE, BUILD)
    raises(BadWire, ntp.encode_answer, QUESTION[:47], 0, 0)
    raises(BadWire, ntp.encode_answer, answer(), 0, 0)  # an answer is no question
