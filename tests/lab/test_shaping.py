"""The pure queue behind shaped links."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhome.lab.plan import Shape
from wayhome.lab.shaping import MAX_FRAMES, Line

FRAME = bytes(1250)  # 10,000 bits


def line(**shape):
    return Line(Shape(**shape), random.Random(7))


def arrivals(one, count, now=0.0, size=1250):
    """Send frames at one moment and return when each of them arrives."""
    for number in range(count):
        one.frame_received(bytes([number % 256]) * size, now)
    times = []
    while (timer := one.next_timer()) is not None:
        times += [timer] * len(one.frames_due(timer))
    return times


def test_an_unshaped_direction_delivers_at_once():
    assert arrivals(line(), 3, now=5.0) == [5.0, 5.0, 5.0]


def test_a_frame_arrives_after_the_delay_and_not_before():
    one = line(delay_ms=20)
    one.frame_received(FRAME, 1.0)
    assert one.frames_due(1.0199) == []
    assert one.next_timer() == pytest.approx(1.020)
    assert one.frames_due(one.next_timer()) == [FRAME]
    assert one.next_timer() is None


def test_frames_leave_one_after_the_other_at_the_rate():
    assert arrivals(line(rate_mbit=10), 3) == pytest.approx([0.001, 0.002, 0.003])


def test_an_idle_line_saves_nothing_up():
    one = line(rate_mbit=10)
    arrivals(one, 1)
    assert arrivals(one, 2, now=100.0) == pytest.approx([100.001, 100.002])


def test_a_full_queue_drops_the_newest_frames():
    one = line(rate_mbit=10, queue_ms=2)
    assert arrivals(one, 10) == pytest.approx([0.001, 0.002, 0.003])
    assert one.dropped == 7


def test_a_long_delay_holds_a_bounded_number_of_frames():
    one = line(delay_ms=10_000)
    for _ in range(MAX_FRAMES + 5):
        one.frame_received(b"x", 0.0)
    assert one.dropped == 5


def test_all_and_nothing_can_be_lost():
    assert arrivals(line(loss=1), 50) == []
    assert len(arrivals(line(loss=0), 50)) == 50


def test_the_same_seed_loses_the_same_frames():
    def survivors(seed, **shape):
        one = Line(Shape(loss=0.3, **shape), random.Random(seed))
        for number in range(100):
            one.frame_received(bytes([number]), 0.0)
        return one.frames_due(1e9)

    assert survivors(1) == survivors(1)
    assert survivors(1) != survivors(2)
    # whatever else is changed
    assert survivors(1) == survivors(1, delay_ms=3, jitter_ms=5)
    assert 50 < len(survivors(1)) < 90


def test_a_lost_frame_has_used_the_wire():
    one = line(rate_mbit=10, loss=1)
    one.frame_received(FRAME, 0.0)
    one.shape = Shape(rate_mbit=10)
    assert arrivals(one, 1) == pytest.approx([0.002])


@given(
    gaps=st.lists(st.floats(0, 0.05), min_size=1, max_size=40),
    delay=st.floats(0, 100),
    jitter=st.floats(0, 100),
    rate=st.one_of(st.none(), st.floats(0.1, 1000)),
    loss=st.floats(0, 1),
)
def test_frames_are_never_reordered_repeated_or_early(gaps, delay, jitter, rate, loss):
    one = Line(Shape(rate_mbit=rate, delay_ms=delay, jitter_ms=jitter, loss=loss), random.Random(3))
    now = 0.0
    sent_at = []
    for number, gap in enumerate(gaps):
        now += gap
        sent_at.append(now)
        one.frame_received(number.to_bytes(2, "big") * 50, now)
    received = []
    while (timer := one.next_timer()) is not None:
        for frame in one.frames_due(timer):
            number = int.from_bytes(frame[:2], "big")
            assert timer >= sent_at[number] + delay / 1000 - 1e-9
            received.append(number)
    assert received == sorted(set(received))
    assert one.delivered + one.lost + one.dropped == len(gaps)
