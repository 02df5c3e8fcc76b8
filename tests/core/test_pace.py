"""What is done often is done a few times at once, then at a steady pace."""

from wayhomed.core.pace import Pace


def test_a_burst_is_free_and_then_each_time_waits():
    pace = Pace(3, 1000)
    for _ in range(3):
        assert pace.wait_ms(50) == 0
        pace.done(50)
    assert pace.wait_ms(50) == 1000
    assert pace.wait_ms(450) == 600
    assert pace.wait_ms(1050) == 0


def test_after_a_long_rest_there_is_one_burst_and_no_more():
    pace = Pace(2, 1000)
    pace.done(0)
    pace.done(0)
    for _ in range(2):
        assert pace.wait_ms(1_000_000) == 0
        pace.done(1_000_000)
    assert pace.wait_ms(1_000_000) == 1000


def test_a_clock_that_steps_back_grants_nothing_and_takes_nothing():
    pace = Pace(1, 1000)
    pace.done(5000)
    assert pace.wait_ms(4000) == 1000
    assert pace.wait_ms(5500) == 500
