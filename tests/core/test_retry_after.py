"""Retry-After in its two forms, and what is no use."""

from wayhomed.core.retry_after import wait_ms

NOW_S = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example


def test_seconds_are_waited_for_and_a_crowd_is_spread():
    assert wait_ms("30", NOW_S, 0) == 30_000
    assert wait_ms(" 30 ", 0, 255) == 31_000
    assert wait_ms("3600", 0, 0) == 3_600_000


def test_a_date_is_waited_for_if_the_time_is_known():
    assert wait_ms("Sun, 06 Nov 1994 08:50:37 GMT", NOW_S, 0) == 60_000
    assert wait_ms("Sun, 06 Nov 1994 08:50:37 GMT", 0, 0) == 5_000


def test_what_says_nothing_usable_is_five_to_ten_seconds():
    for value in ("", "0", "-5", "3601", "1" * 50, "soon", "Sun, 06 Nov 1994 08:49:00 GMT", "a b c d e f"):
        assert wait_ms(value, NOW_S, 0) == 5_000, value
        assert wait_ms(value, NOW_S, 255) == 10_000, value
