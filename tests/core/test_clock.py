from wayhomed.core import clock as clocks
from wayhomed.core.clock import Clock, Do, Sample, Saved, Trust
from wayhomed.wire import ntp

BUILD_S = 1_793_491_200  # 2026-11-01
NOW_S = 1_800_000_000  # 2027-01-15
NOW = NOW_S * 1000
DAY = 86_400_000
YEAR = 365 * DAY
Y2099 = 4_070_908_800_000


def made(system_ms, saved=None, boot="b", up_ms=1000):
    return Clock(BUILD_S, saved, boot, system_ms, up_ms)


def saved(time_ms=NOW, trust=Trust.COORDINATOR, boot="a", up_ms=0):
    return Saved(time_ms, trust, boot, up_ms)


# --- Cold starts ---


def test_a_board_in_1970_takes_the_build_date_and_trusts_it_not():
    clock = made(0)
    assert clock.now_ms(1000) == BUILD_S * 1000
    assert clock.now_ms(3000) == BUILD_S * 1000 + 2000
    assert not clock.trusted and clock.trusted_now_s(1000) == 0
    assert clock.advice(0, 1000, False) == (Do.STEP, BUILD_S * 1000)
    assert clock.advice(0, 1000, True) == (Do.STEP, BUILD_S * 1000), "forward is always allowed"
    assert "2026-11-01" in clock.words(0, 1000) and "1970-01-01" in clock.words(0, 1000)


def test_a_board_in_1970_that_wrote_the_time_down_takes_that():
    clock = made(0, saved())
    assert clock.now_ms(1000) == NOW
    assert not clock.trusted
    assert clock.advice(0, 1000, False) == (Do.STEP, NOW)


def test_a_board_in_2099_is_set_to_the_floor_before_the_tunnel_starts_and_not_after():
    clock = made(Y2099, saved())
    assert clock.now_ms(1000) == NOW
    assert clock.advice(Y2099, 1000, False) == (Do.STEP, NOW)
    assert clock.advice(Y2099, 1000, True) == (Do.NOTHING, 0)
    assert "2099" in clock.words(Y2099, 1000)
    assert clock.is_doubtful(Y2099)


def test_a_real_time_clock_that_may_be_right_is_taken_and_not_trusted():
    clock = made(NOW + 30 * DAY, saved())
    assert clock.now_ms(1000) == NOW + 30 * DAY
    assert not clock.trusted and not clock.is_doubtful(NOW + 30 * DAY)
    assert clock.advice(NOW + 30 * DAY, 1000, False) == (Do.NOTHING, 0)
    assert "not certain" in clock.words(NOW + 30 * DAY, 1000)


def test_a_clock_a_year_past_all_we_know_is_doubtful():
    assert made(NOW, saved()).is_doubtful(NOW + 2 * YEAR)
    assert not made(NOW, saved()).is_doubtful(NOW + 300 * DAY)


def test_a_saved_time_that_nobody_could_have_trusted_is_passed_over():
    assert made(0, saved(0)).now_ms(1000) == BUILD_S * 1000
    assert made(0, saved(Y2099)).now_ms(1000) == BUILD_S * 1000


def test_a_daemon_that_restarts_goes_on_trusting_the_time_of_this_boot():
    clock = made(0, saved(boot="b", up_ms=400))
    assert clock.trust == Trust.COORDINATOR
    assert clock.now_ms(1000) == NOW + 600
    assert made(0, saved(boot="a", up_ms=400)).trust == Trust.NONE
    assert made(0, saved(boot="", up_ms=400), boot="").trust == Trust.NONE, "no boot id, no proof"
    assert made(0, saved(boot="b", up_ms=4000)).trust == Trust.NONE, "a boot clock that went back is another's"


def test_what_is_written_down_comes_back():
    clock = made(0)
    clock.coordinator_told(NOW_S, 1000)
    kept = clocks.saved_from_json(clock.to_save(5000).as_json())
    assert (kept.time_ms, kept.trust, kept.boot, kept.up_ms) == (NOW + 4000, Trust.COORDINATOR, "b", 5000)
    for wrong in (
        None,
        [],
        {},
        {"TimeMs": 1, "Trust": 1, "Boot": "b"},
        {"TimeMs": "1", "Trust": 1, "Boot": "b", "UpMs": 1},
        {"TimeMs": 1, "Trust": 0, "Boot": "b", "UpMs": 1},
        {"TimeMs": 1, "Trust": 9, "Boot": "b", "UpMs": 1},
        {"TimeMs": 1, "Trust": True, "Boot": "b", "UpMs": 1},
        {"TimeMs": -1, "Trust": 1, "Boot": "b", "UpMs": 1},
        {"TimeMs": 1 << 70, "Trust": 1, "Boot": "b", "UpMs": 1},
        {"TimeMs": 1, "Trust": 1, "Boot": 5, "UpMs": 1},
        {"TimeMs": 1.5, "Trust": 1, "Boot": "b", "UpMs": 1},
    ):
        assert clocks.saved_from_json(wrong) is None, wrong


def test_the_time_is_written_down_once_trusted_and_then_every_hour():
    clock = made(NOW)
    assert clock.save_due_ms(1000) is None, "a guess would be a floor for ever"
    clock.servers_agreed(NOW, 3, 1000)
    assert clock.save_due_ms(1000) == 0
    clock.saved(1000)
    assert clock.save_due_ms(1000) == 3_600_000
    assert clock.save_due_ms(3_601_000) == 0


# --- Who is believed ---


def test_the_boot_clock_counts_whatever_happens_to_the_machines_clock():
    clock = made(NOW)
    clock.coordinator_told(NOW_S + 50, 2000)
    assert clock.trusted_now_s(2000) == NOW_S + 50
    assert clock.trusted_now_s(12_000) == NOW_S + 60
    assert clock.is_right(NOW + 50_000, 2000)
    assert not clock.is_right(Y2099, 2000)
    assert not made(NOW).is_right(NOW, 1000), "as long as nobody vouches for it"


def test_nothing_before_the_build_date_or_20_years_after_it_is_believed():
    for time_s in (0, BUILD_S - 1, BUILD_S + 21 * 31_557_600, Y2099 // 1000):
        clock = made(0)
        assert not clock.coordinator_told(time_s, 1000)
        assert not clock.servers_agreed(time_s * 1000, 5, 1000)
        assert not clock.service_keeps(time_s * 1000, 1000)
        assert not clock.trusted


def test_time_servers_can_not_go_behind_the_saved_time_and_the_coordinator_can():
    clock = made(0, saved())
    assert not clock.servers_agreed(NOW - 1, 5, 1000)
    assert not clock.trusted
    assert clock.coordinator_told(NOW_S - 1000, 1000)
    assert clock.now_ms(1000) == NOW - 1_000_000


def test_the_coordinator_overrules_the_time_servers():
    clock = made(0)
    assert clock.servers_agreed(NOW + 400 * DAY, 3, 1000)
    assert clock.coordinator_told(NOW_S, 1000)
    assert clock.trust == Trust.COORDINATOR and clock.now_ms(1000) == NOW
    assert not clock.servers_agreed(NOW + 400 * DAY, 3, 1000)
    assert clock.now_ms(1000) == NOW
    assert "the coordinator is believed" in clock.contradiction
    assert clock.servers_agreed(NOW + 900, 3, 1000), "what agrees is more exact than whole seconds"
    assert clock.now_ms(1000) == NOW + 900 and clock.contradiction == ""
    assert clock.coordinator_told(NOW_S + 4, 1000)
    assert clock.now_ms(1000) == NOW + 900, "and is not made coarse again"


def test_a_clock_that_another_service_keeps_is_trusted_and_left_alone():
    clock = made(NOW)
    assert clock.service_keeps(NOW + 5, 1000)
    assert not clock.coordinator_told(NOW_S + 900, 1000)
    assert not clock.servers_agreed(NOW + 900_000, 4, 1000)
    assert clock.now_ms(1000) == NOW + 5
    assert clock.advice(0, 1000, False) == (Do.NOTHING, 0)
    clock.service_is_gone()
    assert clock.trusted
    assert clock.coordinator_told(NOW_S + 900, 1000)


# --- The machine's clock ---


def trusted(off_ms, trust=Trust.SERVERS):
    """Return a clock that knows the time, and a machine's clock that is off by so much."""
    clock = made(NOW)
    if trust == Trust.SERVERS:
        clock.servers_agreed(NOW, 3, 1000)
    else:
        clock.coordinator_told(NOW_S, 1000)
    return clock, NOW + off_ms


def test_a_clock_that_is_late_is_stepped_forward_also_under_the_tunnel():
    for behind in (2000, 60_000, YEAR):
        clock, system = trusted(-behind)
        assert clock.advice(system, 1000, True) == (Do.STEP, NOW)


def test_a_clock_never_steps_back_while_the_tunnel_stands():
    for ahead in (600, 60_000, 3_600_000, YEAR, 30 * YEAR):
        for trust in (Trust.SERVERS, Trust.COORDINATOR):
            clock, system = trusted(ahead, trust)
            assert clock.advice(system, 1000, True)[0] != Do.STEP


def test_a_clock_somewhat_ahead_is_slowed_down_and_one_far_ahead_left_until_the_tunnel_is_down():
    clock, system = trusted(1_000_000)
    assert clock.advice(system, 1000, True) == (Do.SLEW, -1_000_000)
    clock, system = trusted(3_600_000)
    assert clock.advice(system, 1000, True) == (Do.LEAVE, -3_600_000)
    assert clock.advice(system, 1000, False) == (Do.STEP, NOW)


def test_small_differences_are_left_or_slewed():
    clock, system = trusted(400)
    assert clock.advice(system, 1000, False) == (Do.NOTHING, 0)
    clock, system = trusted(1500)
    assert clock.advice(system, 1000, False) == (Do.SLEW, -1500)
    clock, system = trusted(-1500)
    assert clock.advice(system, 1000, False) == (Do.SLEW, 1500)
    clock, system = trusted(9000, Trust.COORDINATOR)
    assert clock.advice(system, 1000, False) == (Do.NOTHING, 0), "the coordinator's word is not so exact"


def test_a_single_time_server_can_not_send_the_machine_years_ahead():
    clock = made(NOW, saved())
    assert clock.servers_agreed(NOW + 3 * YEAR, 1, 1000)
    assert clock.advice(NOW, 1000, True)[0] == Do.LEAVE
    assert clock.servers_agreed(NOW + 300 * DAY, 1, 1000)
    assert clock.advice(NOW, 1000, True) == (Do.STEP, NOW + 300 * DAY)
    clock.coordinator_told(NOW_S + 3 * 31_557_600, 1000)
    assert clock.advice(NOW, 1000, True)[0] == Do.STEP


# --- Agreement ---


def test_most_servers_must_agree():
    good = [Sample(NOW, 0, 50), Sample(NOW + 30, 0, 40)]
    assert clocks.agreed(good, 0) == (NOW + 20, 2)
    assert clocks.agreed(good + [Sample(NOW + DAY, 0, 50)], 0) == (NOW + 20, 2)
    assert clocks.agreed(good + [Sample(NOW + DAY, 0, 50), Sample(NOW - DAY, 0, 50)], 0) is None
    assert clocks.agreed([Sample(NOW, 0, 50), Sample(NOW + DAY, 0, 50)], 0) is None
    assert clocks.agreed([Sample(NOW, 0, 50)], 0) == (NOW, 1)
    assert clocks.agreed([], 0) is None


def test_answers_of_different_moments_are_compared_at_one():
    assert clocks.agreed([Sample(NOW, 0, 50), Sample(NOW + 2000, 2000, 50)], 5000) == (NOW + 5000, 2)


def test_an_answer_is_as_good_as_its_way_was_short():
    question = ntp.encode_request(bytes(8))
    answer = ntp.decode_answer(ntp.encode_answer(question, NOW, NOW + 10, 2, 100), bytes(8), BUILD_S)
    taken = clocks.sample(answer, 1000, 1050)
    assert taken.time_ms == NOW + 10 + 20 and taken.at_ms == 1050
    assert 130 <= taken.give_or_take_ms <= 140
    far = ntp.decode_answer(ntp.encode_answer(question, NOW, NOW, 2, 5000), bytes(8), BUILD_S)
    assert clocks.sample(far, 1000, 1050) is None, "it does not know the time well enough itself"
