"""What the relay decides, on a clock of our own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.people import (
    ANNE,
    BERT,
    CARL,
    DORA,
    NONCE,
    SERVER_PRIVATE,
    SERVER_PUBLIC,
    WIREGUARD,
    Table,
    disco,
    number_of,
    wireguard,
)
from wayhome.relay.core import NoRoom, State
from wayhome.relay.settings import RelaySettings
from wayhomed.port.crypto import box_beforenm, box_seal
from wayhomed.wire import derp


def received_packets(frames):
    """Return (source key, number in the packet) of each RecvPacket."""
    return [(p[:32], number_of(p[32:])) for kind, p in frames if kind == derp.RECV_PACKET]


# --- handshake ---


def test_a_new_connection_is_told_the_servers_key():
    table = Table()
    session = table.arrive()
    ((kind, payload),) = table.sent_to(session)
    assert kind == derp.SERVER_KEY
    assert derp.decode_server_key(payload) == SERVER_PUBLIC


def test_an_admitted_client_is_told_its_rate():
    table = Table(RelaySettings(client_bytes_per_second=1_000_000, client_burst_bytes=100_000))
    session = table.arrive()
    table.sent_to(session)
    table.send(session, ANNE.hello)
    assert table.sent_to(session) == []
    table.core.admitted(session, "home", table.now)
    ((kind, payload),) = table.sent_to(session)
    assert kind == derp.SERVER_INFO
    info = derp.decode_server_info(payload, ANNE.private, SERVER_PUBLIC)
    assert info == derp.ServerInfo(2, 1_000_000, 100_000)
    assert session.state is State.OPEN


def test_a_client_that_is_not_admitted_is_out():
    table = Table()
    session = table.arrive()
    table.send(session, ANNE.hello)
    table.core.admitted(session, None, table.now)
    assert session.state is State.ENDED
    assert session in table.core.ready
    assert table.core.counters()["endings"] == {"not admitted": 1}
    assert table.core.counters()["open_connections"] == 0


def test_the_handshake_comes_out_the_same_however_its_bytes_were_cut():
    whole = ANNE.hello + derp.encode_note_preferred(True) + derp.encode_send_packet(BERT.public, wireguard(7))
    for cut in range(len(whole) + 1):
        table = Table()
        bert = table.join(BERT)
        session = table.arrive()
        table.send(session, whole[:cut])
        table.send(session, whole[cut:])
        assert session.state is State.ASKING
        assert table.sent_to(bert) == []
        table.core.admitted(session, "home", table.now)
        table.send(session, b"")
        assert session.is_home
        assert received_packets(table.sent_to(bert)) == [(ANNE.public, 7)]


def test_a_first_frame_that_is_not_client_info_ends_the_connection():
    for frame in (
        derp.encode_keep_alive(),
        derp.encode_ping(b"12345678"),
        derp.encode_frame(0x77, b"x"),
        b"GET / HTTP",
    ):
        table = Table()
        session = table.arrive()
        table.send(session, frame)
        assert session.state is State.ENDED


def test_a_client_info_over_the_limit_is_refused_by_its_announced_length():
    table = Table()
    session = table.arrive()
    table.send(session, b"\x02\0\0\x40\x01")
    assert session.state is State.ENDED
    assert session.end_reason == "bad bytes"


def test_a_client_info_that_proves_nothing_ends_the_connection():
    for payload in (
        b"",
        bytes(103),
        ANNE.hello[5:-1],
        BERT.public + ANNE.hello[37:],
        ANNE.public + NONCE + box_seal(box_beforenm(SERVER_PUBLIC, ANNE.private), NONCE, b"[]"),
        bytes(32) + ANNE.hello[37:],
    ):
        table = Table()
        session = table.arrive()
        table.send(session, derp.encode_frame(derp.CLIENT_INFO, payload))
        assert session.state is State.ENDED


def test_a_handshake_has_ten_seconds_also_while_admission_is_asked_for():
    table = Table()
    silent, asking = table.arrive(), table.arrive()
    table.send(asking, ANNE.hello)
    open_session = table.join(BERT)
    table.wait(9)
    assert silent.state is State.SHAKING
    table.wait(2)
    assert silent.state is State.ENDED
    assert asking.state is State.ENDED
    assert open_session.state is State.OPEN
    table.core.admitted(asking, "home", table.now)
    assert asking.state is State.ENDED
    assert table.core.counters()["endings"] == {"slow handshake": 2}


def test_a_flood_while_admission_is_asked_for_ends_the_connection():
    table = Table()
    session = table.arrive()
    table.send(session, ANNE.hello)
    for _ in range(20):
        table.send(session, bytes(65536))
    assert session.state is State.ENDED


def test_a_mesh_key_gives_no_rights():
    table = Table()
    session = table.arrive()
    text = b'{"meshKey":"' + b"00" * 32 + b'","version":2}'
    sealed = ANNE.public + NONCE + box_seal(box_beforenm(SERVER_PUBLIC, ANNE.private), NONCE, text)
    table.send(session, derp.encode_frame(derp.CLIENT_INFO, sealed))
    table.core.admitted(session, "home", table.now)
    table.send(session, derp.encode_watch_conns())
    assert session.state is State.ENDED


# --- packets ---


def test_a_packet_reaches_its_receiver_with_the_senders_key():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.send_packet(anne, BERT, wireguard(1))
    table.send_packet(anne, BERT, disco(2))
    assert sorted(received_packets(table.sent_to(bert))) == [(ANNE.public, 1), (ANNE.public, 2)]
    table.send_packet(bert, ANNE, wireguard(3))
    assert received_packets(table.sent_to(anne)) == [(BERT.public, 3)]
    counters = table.core.counters()
    assert counters["packets_in"] == 3
    assert counters["packets_out"] == 3


def test_packets_keep_their_order():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.send(anne, b"".join(derp.encode_send_packet(BERT.public, wireguard(n)) for n in range(32)))
    assert [n for _, n in received_packets(table.sent_to(bert))] == list(range(32))


def test_a_burst_in_one_piece_loses_nothing_if_its_receiver_reads():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    burst = b"".join(derp.encode_send_packet(BERT.public, wireguard(n)) for n in range(1000))
    got = []
    more = table.core.received(anne, burst, table.now)
    got += received_packets(table.sent_to(bert))
    while more:
        more = table.core.received(anne, b"", table.now)
        got += received_packets(table.sent_to(bert))
    assert [n for _, n in got] == list(range(1000))
    assert table.core.counters()["drops"] == {}


def test_a_packet_may_have_64_kib_and_no_byte_more():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.send_packet(anne, BERT, wireguard(1, 65536))
    assert received_packets(table.sent_to(bert)) == [(ANNE.public, 1)]
    table.send_packet(anne, BERT, wireguard(1, 65537))
    assert anne.state is State.ENDED


def test_a_packet_without_its_key_ends_the_connection():
    table = Table()
    anne = table.join(ANNE)
    table.send(anne, derp.encode_frame(derp.SEND_PACKET, bytes(31)))
    assert anne.state is State.ENDED
    assert table.core.counters()["endings"] == {"bad bytes": 1}


def test_packets_stay_within_their_mesh():
    table = Table()
    anne, bert, stranger = table.join(ANNE, "home"), table.join(BERT, "home"), table.join(CARL, "elsewhere")
    table.send_packet(stranger, BERT, wireguard(1))
    table.send_packet(stranger, BERT, disco(1))
    assert table.sent_to(bert) == []
    # what the stranger hears is what it would hear of a key that is nowhere
    assert table.sent_to(stranger) == [(derp.PEER_GONE, BERT.public + b"\x01")]
    table.send_packet(anne, BERT, wireguard(2))
    assert received_packets(table.sent_to(bert)) == [(ANNE.public, 2)]
    table.core.lost(stranger)
    assert table.sent_to(bert) == []


def test_what_is_neither_disco_nor_wireguard_is_dropped_and_counted():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    for junk in (
        b"",
        b"x",
        b"GET / HTTP/1.1\r\n\r\n" + bytes(40),
        bytes(100),
        b"\x01\0\0\0" + bytes(100),
        b"\x02\0\0\0" + bytes(100),
        b"\x03\0\0\0" + bytes(100),
        b"\x04\0\0\0" + bytes(27),
        b"\x04\0\0\1" + bytes(60),
        b"\x05\0\0\0" + bytes(60),
        disco(0)[:61],
    ):
        table.send_packet(anne, BERT, junk)
    assert table.sent_to(bert) == []
    assert anne.state is State.OPEN
    assert table.core.counters()["drops"] == {"neither disco nor WireGuard": 11}


def test_all_kinds_of_wireguard_pass():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    for kind, size in ((1, 148), (2, 92), (3, 64), (4, 32), (4, 1452)):
        table.send_packet(anne, BERT, bytes((kind, 0, 0, 0)) + bytes(size - 4))
    assert len(table.sent_to(bert)) == 5


def test_tailcats_greeting_passes_in_the_senders_own_name_only():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    greeting = b"meow\x01" + ANNE.public + bytes(32)
    table.send_packet(anne, BERT, greeting)
    assert table.sent_to(bert) == [(derp.RECV_PACKET, ANNE.public + greeting)]
    table.send_packet(bert, ANNE, b"meow\x02")
    assert table.sent_to(anne) == [(derp.RECV_PACKET, BERT.public + b"meow\x02")]
    for other in (
        greeting[:-1],
        greeting + b"x",
        b"meow\x02" + greeting[5:],
        b"meow\x01" + CARL.public + bytes(32),
        b"meow\x02?",
    ):
        table.send_packet(anne, BERT, other)
    assert table.sent_to(bert) == []
    assert table.core.counters()["drops"] == {"neither disco nor WireGuard": 5}


# --- who is there ---


def test_a_disco_message_to_nobody_is_answered_three_times_and_then_once_a_second():
    table = Table()
    anne = table.join(ANNE)
    for _ in range(10):
        table.send_packet(anne, BERT, disco(1))
    assert table.sent_to(anne) == [(derp.PEER_GONE, BERT.public + bytes((derp.GONE_NOT_HERE,)))] * 3
    table.now += 1.0
    for _ in range(10):
        table.send_packet(anne, BERT, disco(1))
    assert len(table.sent_to(anne)) == 1
    assert table.core.counters()["drops"] == {"nobody there": 20}


def test_a_wireguard_packet_to_nobody_is_dropped_without_a_word():
    table = Table()
    anne = table.join(ANNE)
    table.send_packet(anne, BERT, WIREGUARD)
    assert table.sent_to(anne) == []
    assert table.core.counters()["drops"] == {"nobody there": 1}


def test_those_who_got_packets_from_a_client_are_told_when_it_leaves_and_nobody_else():
    table = Table()
    anne, bert, carl, dora = (table.join(person) for person in (ANNE, BERT, CARL, DORA))
    table.send_packet(anne, BERT, wireguard(1))
    table.send_packet(carl, ANNE, wireguard(1))
    table.send_packet(dora, BERT, wireguard(1))
    for session in (anne, bert, carl, dora):
        table.sent_to(session)
    table.core.lost(anne)
    assert table.sent_to(bert) == [(derp.PEER_GONE, ANNE.public + bytes((derp.GONE_DISCONNECTED,)))]
    assert table.sent_to(carl) == []
    assert table.sent_to(dora) == []


def test_the_newest_connection_of_a_key_receives_then_the_one_heard_last():
    table = Table()
    bert = table.join(BERT)
    old = table.join(ANNE)
    new = table.join(ANNE)
    table.send_packet(bert, ANNE, wireguard(1))
    assert len(table.sent_to(new)) == 1
    table.send(old, derp.encode_ping(b"12345678"))
    table.sent_to(old)
    table.send_packet(bert, ANNE, wireguard(2))
    assert len(table.sent_to(old)) == 1
    assert table.sent_to(new) == []
    assert {s.state for s in (old, new)} == {State.OPEN}


def test_when_one_of_two_connections_closes_the_other_receives_and_nobody_is_gone():
    table = Table()
    bert, old, new = table.join(BERT), table.join(ANNE), table.join(ANNE)
    table.send_packet(new, BERT, wireguard(1))
    table.sent_to(bert)
    table.core.lost(new)
    assert table.sent_to(bert) == []
    table.send_packet(bert, ANNE, wireguard(2))
    assert len(table.sent_to(old)) == 1
    table.core.lost(old)
    assert table.sent_to(bert) == [(derp.PEER_GONE, ANNE.public + b"\0")]


def test_of_too_many_connections_of_one_key_the_oldest_ends():
    table = Table(RelaySettings(connections_per_key=2))
    first, second, third = (table.join(ANNE) for _ in range(3))
    assert [s.state for s in (first, second, third)] == [State.ENDED, State.OPEN, State.OPEN]


def test_a_disconnected_key_is_out_with_all_its_connections_also_one_about_to_be_admitted():
    table = Table()
    bert = table.join(BERT)
    sessions = [table.join(ANNE), table.join(ANNE), table.arrive()]
    table.send(sessions[2], ANNE.hello)
    assert table.core.disconnect(ANNE.public) == 3
    assert {s.state for s in sessions} == {State.ENDED}
    table.core.admitted(sessions[2], "home", table.now)
    assert sessions[2].state is State.ENDED
    assert bert.state is State.OPEN
    assert table.core.disconnect(ANNE.public) == 0


def test_only_so_many_receivers_are_remembered_for_a_sender():
    table = Table(RelaySettings(remembered_receivers=1))
    anne, bert, carl = table.join(ANNE), table.join(BERT), table.join(CARL)
    table.send_packet(anne, BERT, wireguard(1))
    table.send_packet(anne, CARL, wireguard(1))
    table.sent_to(bert), table.sent_to(carl)
    table.core.lost(anne)
    assert table.sent_to(bert) == []
    assert len(table.sent_to(carl)) == 1


# --- other frames ---


def test_a_ping_is_answered_with_its_first_eight_bytes():
    table = Table()
    anne = table.join(ANNE)
    table.send(anne, derp.encode_frame(derp.PING, b"12345678and more"))
    assert table.sent_to(anne) == [(derp.PONG, b"12345678")]


@pytest.mark.parametrize(
    "frame",
    [
        derp.encode_frame(derp.PING, b"1234567"),
        derp.encode_frame(derp.PING, bytes(1001)),
        derp.encode_frame(derp.NOTE_PREFERRED, b""),
        derp.encode_frame(derp.NOTE_PREFERRED, b"\1\1"),
        derp.encode_forward_packet(BERT.public, CARL.public, WIREGUARD),
        derp.encode_watch_conns(),
        derp.encode_close_peer(BERT.public),
        b"\x77\xff\xff\xff\xff",
    ],
)
def test_frames_that_a_client_may_not_send_end_its_connection_and_disturb_nobody(frame):
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.send(anne, frame)
    assert anne.state is State.ENDED
    assert bert.state is State.OPEN
    assert table.sent_to(bert) == []


def test_frames_of_tomorrow_and_of_servers_are_skipped():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    odd = b"".join(
        derp.encode_frame(kind, b"??") for kind in (0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x13, 0x77, 0xFF)
    )
    table.send(anne, odd + derp.encode_send_packet(BERT.public, wireguard(1)))
    assert anne.state is State.OPEN
    assert len(table.sent_to(bert)) == 1
    assert table.core.counters()["frames_skipped"] == 10


def test_home_is_noted():
    table = Table()
    anne = table.join(ANNE)
    table.send(anne, derp.encode_note_preferred(True))
    assert anne.is_home
    table.send(anne, derp.encode_note_preferred(False))
    assert not anne.is_home


# --- time ---


def test_keep_alives_come_every_60_seconds_and_the_jitter_chosen_at_the_start():
    table = Table(jitter=0.9999)
    anne = table.join(ANNE)
    table.jitter = 0.0
    bert = table.join(BERT)
    table.wait(59)
    assert table.sent_to(bert) == []
    table.wait(2)
    assert table.sent_to(bert) == [(derp.KEEP_ALIVE, b"")]
    assert table.sent_to(anne) == []
    table.wait(5)
    assert table.sent_to(anne) == [(derp.KEEP_ALIVE, b"")]
    table.wait(60 * 65)
    assert len(table.sent_to(bert)) in (32, 33)  # the rest went out of the bounded queue, nobody read them here
    assert bert.state is State.OPEN


def test_nobody_connected_needs_no_timer():
    table = Table()
    assert table.core.next_timer() is None
    anne = table.join(ANNE)
    assert table.core.next_timer() is not None
    table.core.lost(anne)
    assert table.core.next_timer() is None


def test_a_client_that_takes_no_bytes_for_two_seconds_is_out():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.core.writing_blocked(bert, table.now)
    table.wait(1.5)
    table.core.writing_progressed(bert, table.now)
    table.wait(1.5)
    assert bert.state is State.OPEN
    table.wait(2)
    assert bert.state is State.ENDED
    assert bert.end_reason == "took no bytes"
    assert anne.state is State.OPEN


def test_a_client_that_takes_bytes_again_stays():
    table = Table()
    bert = table.join(BERT)
    table.core.writing_blocked(bert, table.now)
    table.wait(1)
    table.core.writing_resumed(bert)
    table.wait(100)
    assert bert.state is State.OPEN


def test_who_sends_faster_than_announced_is_read_later():
    table = Table(RelaySettings(client_bytes_per_second=100_000, client_burst_bytes=70_000))
    anne, bert = table.join(ANNE), table.join(BERT)
    for n in range(50):
        table.send_packet(anne, BERT, wireguard(n, 1000))
        table.sent_to(bert)
    assert anne.read_again_at <= table.now
    for n in range(50):
        table.send_packet(anne, BERT, wireguard(n, 1000))
        table.sent_to(bert)
    assert anne.read_again_at == pytest.approx(table.now + (100 * 1037 - 70_000) / 100_000)
    assert table.core.counters()["drops"] == {}
    table.now += 10
    table.send(anne, derp.encode_keep_alive())
    assert anne.read_again_at <= table.now


# --- fairness and bounds ---


def test_a_slow_reader_loses_its_own_oldest_packets_and_nobody_elses():
    table = Table()
    anne, bert, carl = table.join(ANNE), table.join(BERT), table.join(CARL)
    table.core.writing_blocked(bert, table.now)
    got = []
    for n in range(100):
        table.send_packet(anne, BERT, wireguard(n))
        table.send_packet(anne, CARL, wireguard(n))
        got += received_packets(table.sent_to(carl))
    assert [n for _, n in got] == list(range(100))
    assert [n for _, n in received_packets(table.sent_to(bert))] == list(range(68, 100))
    assert table.core.counters()["drops"] == {"slow reader": 68}
    assert anne.state is State.OPEN


def test_data_does_not_push_out_disco_nor_disco_data_and_both_are_served_in_turn():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.core.writing_blocked(bert, table.now)
    for n in range(40):
        table.send_packet(anne, BERT, disco(n))
    for n in range(1000, 1100):
        table.send_packet(anne, BERT, wireguard(n))
    numbers = [n for _, n in received_packets(table.sent_to(bert))]
    assert numbers[0::2] == list(range(8, 40))
    assert numbers[1::2] == list(range(1068, 1100))


def test_large_packets_for_a_slow_reader_are_bounded_in_bytes():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    table.core.writing_blocked(bert, table.now)
    for n in range(40):
        table.send_packet(anne, BERT, wireguard(n, 60_000))
        assert bert.queue.size_bytes <= table.settings.queue_bytes
    assert [n for _, n in received_packets(table.sent_to(bert))] == [36, 37, 38, 39]


def test_a_flood_of_pings_by_somebody_who_does_not_read_is_bounded():
    table = Table()
    anne = table.join(ANNE)
    table.core.writing_blocked(anne, table.now)
    table.send(anne, derp.encode_ping(b"12345678") * 5000)
    assert len(table.sent_to(anne)) == table.settings.queue_packets
    assert anne.state is State.OPEN


def test_connections_are_bounded_in_all_and_per_source():
    table = Table(RelaySettings(connections=5, connections_per_source=3))
    for _ in range(3):
        table.arrive("192.0.2.1")
    with pytest.raises(NoRoom) as error:
        table.arrive("192.0.2.1")
    assert error.value.limit == "connections_per_source"
    for n in range(2):
        table.arrive(f"198.51.100.{n}")
    with pytest.raises(NoRoom) as error:
        table.arrive("198.51.100.77")
    assert error.value.limit == "connections"
    table.core.lost(next(iter(table.core.sessions)))
    table.arrive("198.51.100.77")
    assert table.core.counters()["refusals"] == {"connections": 1, "connections_per_source": 1}


def test_of_too_many_unfinished_handshakes_the_oldest_ends_and_an_honest_client_gets_in():
    table = Table(RelaySettings(handshakes=10))
    idle = [table.arrive(f"192.0.2.{n}") for n in range(10)]
    anne = table.join(ANNE, source="198.51.100.1")
    assert anne.state is State.OPEN
    assert idle[0].state is State.ENDED
    assert [s.state for s in idle[1:]] == [State.SHAKING] * 9


def test_ten_thousand_idle_connections_are_held_to_the_limit_and_leave_nothing():
    table = Table(RelaySettings(handshakes=50))
    sessions = [table.arrive(f"192.0.2.{n % 250}") for n in range(10_000)]
    assert sum(s.state is State.SHAKING for s in sessions) == 50
    assert len(table.core.sessions) == 50
    table.wait(11)
    assert table.core.sessions == set()
    assert table.core.counters()["open_connections"] == 0
    assert table.core.next_timer() is None


def test_what_waited_for_somebody_who_leaves_is_forgotten_and_counted():
    table = Table()
    anne, bert = table.join(ANNE), table.join(BERT)
    for n in range(5):
        table.send_packet(anne, BERT, wireguard(n))
    table.core.lost(bert)
    assert bert.queue.packets == 0
    assert table.core.counters()["drops"] == {"receiver left": 5}
    assert bert not in table.core.ready


def test_a_burst_below_the_largest_packet_is_no_setting():
    with pytest.raises(ValueError):
        RelaySettings(client_bytes_per_second=1000, client_burst_bytes=1000)


# --- anything at all ---

any_frame = st.one_of(
    st.tuples(st.integers(0, 255), st.binary(max_size=80)).map(lambda f: derp.encode_frame(*f)),
    st.sampled_from([derp.encode_send_packet(BERT.public, wireguard(1)), derp.encode_ping(b"12345678")]),
    st.binary(max_size=40),
)


@given(st.lists(any_frame, max_size=12), st.lists(st.integers(0, 400), max_size=5), st.booleans())
def test_whatever_a_client_sends_disturbs_nobody_else_and_ends_the_same_however_it_was_cut(frames, places, admitted):
    stream = (ANNE.hello if admitted else b"") + b"".join(frames)

    def play(edges):
        table = Table()
        bert, carl = table.join(BERT), table.join(CARL)
        anne = table.arrive()
        for start, end in pairwise(edges):
            table.send(anne, stream[start:end])
            if anne.state is State.ASKING:
                table.core.admitted(anne, "home", table.now)
                table.send(anne, b"")
        table.sent_to(bert)
        assert bert.state is State.OPEN
        table.send_packet(carl, BERT, wireguard(9))
        assert received_packets(table.sent_to(bert)) == [(CARL.public, 9)]
        return anne.state, anne.end_reason

    edges = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    assert play(edges) == play([0, len(stream)])


def test_the_private_key_of_the_relay_is_in_no_counter():
    table = Table()
    table.join(ANNE)
    assert SERVER_PRIVATE.hex() not in str(table.core.counters())
