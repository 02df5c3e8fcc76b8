"""Presence, clones and attempts: three pure memories with clocks that the tests own."""

from wayhome.coordinator.attempt_limit import AttemptLimit, Rate
from wayhome.coordinator.cloned_state import WINDOW_S, CloneWatch
from wayhome.coordinator.presence import GRACE_S, Presence


def test_a_node_is_online_from_its_first_poll_until_the_grace_after_its_last():
    presence = Presence()
    assert presence.poll_began(1) is True
    assert presence.poll_began(1) is False
    presence.poll_ended(1, now=0)
    assert presence.gone(100) == []
    presence.poll_ended(1, now=100)
    assert presence.gone(100 + GRACE_S - 0.1) == []
    assert presence.gone(100 + GRACE_S) == [1]
    assert presence.gone(1000) == []


def test_a_node_that_comes_back_within_the_grace_was_never_away():
    presence = Presence()
    presence.poll_began(1)
    presence.poll_ended(1, now=0)
    assert presence.poll_began(1) is False
    assert presence.gone(1000) == []


def test_a_removed_node_goes_offline_for_nobody():
    presence = Presence()
    presence.poll_began(1)
    presence.poll_ended(1, now=0)
    presence.removed(1)
    assert presence.gone(1000) == []


def test_two_clones_that_end_each_other_in_turn_are_noticed_once():
    watch = CloneWatch()
    noticed = [
        watch.poll_began(1, link, source, float(now)) for now, (link, source) in enumerate([(1, "a"), (2, "b")] * 4)
    ]
    assert noticed.count(("a", "b")) == 1 and [n for n in noticed if n] == [("a", "b")]
    assert watch.is_suspected(1, 10.0) and not watch.is_suspected(1, 10.0 + WINDOW_S)


def test_a_client_that_moves_from_network_to_network_is_no_clone():
    watch = CloneWatch()
    assert not any(watch.poll_began(1, link, f"net{link}", float(link)) for link in range(50))


def test_a_client_that_polls_again_and_again_over_its_one_link_is_no_clone():
    watch = CloneWatch()
    assert not any(watch.poll_began(1, 7, "a", float(now)) for now in range(50))


def test_clones_that_meet_rarely_are_left_alone():
    watch = CloneWatch()
    assert not any(watch.poll_began(1, turn % 2, "a", turn * WINDOW_S) for turn in range(10))


def test_failed_tries_run_out_and_come_back_with_time():
    limit = AttemptLimit(Rate(burst=3, seconds=8))
    for _ in range(3):
        assert limit.wait_s("me", 0.0) == 0
        limit.failed("me", 0.0)
    assert limit.wait_s("me", 0.0) == 8
    assert limit.wait_s("me", 4.0) == 4
    assert limit.wait_s("me", 8.0) == 0
    assert limit.wait_s("other", 0.0) == 0


def test_only_so_many_are_remembered():
    limit = AttemptLimit(Rate(burst=1, seconds=10), remembered=2)
    for who in "abc":
        limit.failed(who, 0.0)
    assert [limit.wait_s(who, 0.0) for who in "abc"] == [0, 10, 10]
