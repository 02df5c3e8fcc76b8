from wayhomed.port import monotonic_ms, random_bytes


def test_the_clock_never_goes_back():
    before = monotonic_ms()
    for _ in range(100):
        now = monotonic_ms()
        assert now >= before
        before = now


def test_random_bytes_have_the_length_asked_for_and_differ():
    assert len(random_bytes(32)) == 32
    assert random_bytes(32) != random_bytes(32)
