"""Waiting after failures."""

from wayhomed.core.backoff import Backoff


def test_the_wait_grows_with_the_square_of_the_failures():
    backoff = Backoff()
    assert [backoff.failed(128) for _ in range(4)] == [10, 40, 90, 160]


def test_the_wait_never_passes_half_again_its_limit():
    backoff = Backoff()
    for _ in range(2000):
        wait_ms = backoff.failed(255)
    assert 44_000 < wait_ms <= 45_000


def test_chance_spreads_the_wait_from_half_to_one_and_a_half():
    low, high = Backoff(), Backoff()
    for _ in range(10):
        least, most = low.failed(0), high.failed(255)
    assert least == 500
    assert 1490 <= most <= 1500


def test_success_starts_over():
    backoff = Backoff()
    backoff.failed(0)
    backoff.failed(0)
    backoff.succeeded()
    assert backoff.failed(128) == 10
