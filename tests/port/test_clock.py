from wayhomed.port import monotonic_ms, monotonic_us, random_bytes


def test_the_clock_never_goes_back():
    before = monotonic_ms()
    for _ in range(100):
        now = monotonic_ms()
        assert now >= before
        before = now


def test_microseconds_and_milliseconds_tell_the_same_time():
    started_us, started_ms = monotonic_us(), monotonic_ms()
    while monotonic_ms() < started_ms + 20:
        pass
    passed_us = monotonic_us() - started_us
    assert 19_000 <= passed_us < 60_000_000


def test_random_bytes_have_the_length_asked_for_and_differ():
    assert len(random_bytes(32)) == 32
    assert random_bytes(32) != random_bytes(32)
