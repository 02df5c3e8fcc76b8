"""What one peer's pongs say of where we are."""

from wayhomed.core.whereabouts import FORMER_MS, Whereabouts

PEER = (b"\xc6\x33\x64\x07", 41641)
PEER_AT_HOME = (b"\xc0\xa8\x01\x09", 41641)
FIRST = (b"\xcb\x00\x71\x14", 20_000)
SECOND = (b"\xcb\x00\x71\x14", 20_001)


def test_the_first_pong_is_no_news_nor_is_the_same_again():
    one = Whereabouts()
    assert not one.pong_received(PEER, FIRST, 0)
    assert not one.pong_received(PEER, FIRST, 3_000)
    assert one.former(3_000) == []


def test_another_address_than_before_is_news_and_the_one_before_is_former():
    one = Whereabouts()
    one.pong_received(PEER, FIRST, 0)
    assert one.pong_received(PEER, SECOND, 3_000)
    assert not one.pong_received(PEER, SECOND, 6_000)
    assert one.former(6_000) == [FIRST]


def test_two_addresses_of_a_peer_may_see_us_at_two():
    one = Whereabouts()
    assert not one.pong_received(PEER, FIRST, 0)
    assert not one.pong_received(PEER_AT_HOME, SECOND, 0)
    assert one.former(0) == []


def test_where_another_address_of_the_peer_still_sees_us_is_not_former():
    one = Whereabouts()
    one.pong_received(PEER, FIRST, 0)
    one.pong_received(PEER_AT_HOME, FIRST, 0)
    assert one.pong_received(PEER, SECOND, 3_000)
    assert one.former(3_000) == []


def test_over_another_uplink_all_of_it_is_former_and_the_next_pong_is_no_news():
    one = Whereabouts()
    one.pong_received(PEER, FIRST, 0)
    one.uplink_changed(1_000)
    assert one.former(1_000) == [FIRST]
    assert not one.pong_received(PEER, SECOND, 1_100)
    assert one.former(1_100) == [FIRST]


def test_who_is_back_where_it_was_is_not_former_there():
    one = Whereabouts()
    one.pong_received(PEER, FIRST, 0)
    one.uplink_changed(1_000)
    one.pong_received(PEER, SECOND, 1_100)
    one.uplink_changed(2_000)
    one.pong_received(PEER, FIRST, 2_100)
    assert one.former(2_100) == [SECOND]


def test_a_former_address_is_forgotten_after_a_minute():
    one = Whereabouts()
    one.pong_received(PEER, FIRST, 0)
    one.uplink_changed(1_000)
    assert one.former(1_000 + FORMER_MS - 1) == [FIRST]
    assert one.former(1_000 + FORMER_MS) == []


def test_a_peer_that_names_ever_new_addresses_fills_no_memory():
    one = Whereabouts()
    for number in range(1_000):
        one.pong_received(PEER, (FIRST[0], number), number)
        one.pong_received((PEER[0], number), FIRST, number)
    assert one.former(1_000) == [(FIRST[0], number) for number in range(991, 999)]
