from wayhomed.core.time_rounds import TimeRounds

SERVER = (bytes((192, 168, 1, 1)), 123)


def pauses(trusted, count, random_byte=128):
    rounds = TimeRounds()
    now_ms, found = 0, []
    for _ in range(count):
        rounds.ended(trusted, now_ms, random_byte)
        found.append(rounds.due_ms(now_ms))
        now_ms += found[-1]
        assert rounds.due_ms(now_ms) == 0
    return found


def test_the_first_round_is_due_at_once():
    assert TimeRounds().due_ms(5) == 0


def test_rounds_without_success_follow_each_other_ever_more_slowly():
    assert pauses(False, 11) == [1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000, 300000, 300000]


def test_once_the_time_is_trusted_servers_are_asked_every_two_hours():
    assert pauses(True, 3) == [7_200_000] * 3


def test_a_street_of_boards_does_not_ask_in_one_moment():
    assert pauses(True, 1, 0) == [4_800_000]
    assert pauses(True, 1, 255)[0] > 9_500_000


def test_another_network_is_asked_at_once():
    rounds = TimeRounds()
    for _ in range(9):
        rounds.ended(False, 0, 0)
    rounds.now()
    assert rounds.due_ms(0) == 0
    rounds.ended(False, 0, 128)
    assert rounds.due_ms(0) == 1000


def test_a_server_that_refuses_is_left_alone_for_a_day_and_one_that_is_busy_for_an_hour():
    rounds = TimeRounds()
    assert rounds.may_ask(SERVER, 0)
    rounds.refused(SERVER, "DENY", 0)
    assert not rounds.may_ask(SERVER, 86_399_999)
    assert rounds.may_ask(SERVER, 86_400_000)
    rounds.refused(SERVER, "RATE", 0)
    assert not rounds.may_ask(SERVER, 3_599_999)
    assert rounds.may_ask(SERVER, 3_600_000)
    assert rounds.may_ask((SERVER[0], 124), 0)
