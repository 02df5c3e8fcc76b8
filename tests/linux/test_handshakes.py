from wayhomed.linux.handshakes import Handshakes

NOW_S = 1_790_000_000
MS = 5_000_000  # the monotonic clock began somewhere else


def test_a_handshake_has_the_age_that_the_clock_says():
    sessions = Handshakes(NOW_S, MS)
    assert sessions.age_s(NOW_S, NOW_S, MS) == 0
    assert sessions.age_s(NOW_S + 50, NOW_S + 100, MS + 100_000) == 50
    assert sessions.age_s(NOW_S - 150, NOW_S, MS) == 150  # before we looked for the first time


def test_no_handshake_and_one_of_long_ago_have_no_age():
    sessions = Handshakes(NOW_S, MS)
    assert sessions.age_s(0, NOW_S, MS) is None
    assert sessions.age_s(NOW_S - 100_000, NOW_S, MS) is None


def test_a_clock_that_is_set_from_1970_to_today_makes_no_session_old():
    sessions = Handshakes(100, MS)
    sessions.look(160, MS + 60_000)
    sessions.look(NOW_S, MS + 61_000)
    assert sessions.age_s(150, NOW_S + 9, MS + 70_000) == 20
    assert sessions.age_s(NOW_S + 4, NOW_S + 9, MS + 70_000) == 5


def test_a_clock_that_is_set_back_makes_no_session_young_and_none_old():
    future_s = 4_070_908_800
    sessions = Handshakes(future_s, MS)
    sessions.look(future_s + 300, MS + 300_000)
    assert sessions.age_s(future_s + 20, NOW_S, MS + 301_000) == 281
    assert sessions.age_s(future_s + 290, NOW_S, MS + 301_000) == 11
    assert sessions.age_s(NOW_S + 9, NOW_S + 9, MS + 310_000) == 0


def test_a_small_step_back_lets_the_older_reading_count():
    sessions = Handshakes(NOW_S, MS)
    sessions.look(NOW_S + 100, MS + 100_000)
    sessions.look(NOW_S + 41, MS + 101_000)  # a minute back
    age_s = sessions.age_s(NOW_S + 95, NOW_S + 100, MS + 160_000)
    assert age_s == 65  # it could also be 5 seconds


def test_a_step_that_was_noticed_late_loses_no_handshake():
    sessions = Handshakes(NOW_S, MS)
    # an hour ahead at some moment within the 90 seconds in which nobody looked; a handshake before and one after
    for handshake_s, age_s in ((NOW_S + 10, 80), (NOW_S + 3600 + 80, 10)):
        assert sessions.age_s(handshake_s, NOW_S + 3600 + 90, MS + 90_000) == age_s


def test_rounding_to_seconds_is_no_step():
    sessions = Handshakes(NOW_S, MS + 999)
    for second in range(1000):
        sessions.look(NOW_S + second, MS + 1000 * second + (second * 37) % 1000)
    assert sessions.age_s(NOW_S + 990, NOW_S + 1000, MS + 1_000_000) in (9, 10)


def test_a_clock_that_jumps_all_the_time_costs_a_bounded_memory_and_tells_the_newest():
    sessions = Handshakes(NOW_S, MS)
    for jump in range(1000):
        sessions.look(NOW_S + 1_000_000 * jump, MS + 1000 * jump)
    assert sessions.age_s(NOW_S + 999_000_000, NOW_S + 999_000_000 + 3, MS + 1_002_000) == 3
