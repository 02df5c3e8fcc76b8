"""Which relay region, and when its link opens and closes."""

from wayhomed.core.derp_map import DerpMap, Region, RelayNode
from wayhomed.core.relays import IDLE_MS, Relays

ANNA = b"a" * 32


def region(region_id, no_home=False, stun_only=False, host="relay.example"):
    node = RelayNode()
    node.host_name = host
    node.stun_only = stun_only
    made = Region()
    made.id = region_id
    made.code = f"r{region_id}"
    made.no_measure_no_home = no_home
    made.nodes = [node]
    return made


def derp_map(*regions):
    made = DerpMap()
    for one in regions:
        made.regions[one.id] = one
    return made


def relays(*regions):
    made = Relays()
    made.map_received(derp_map(*regions), 0)
    return made


def test_the_only_region_is_home_at_once():
    one = relays(region(900))
    assert one.home == 900
    assert one.wanted() == [900]


def test_regions_without_a_relay_or_closed_to_homes_are_no_candidates():
    one = relays(region(1, no_home=True), region(2, stun_only=True), region(3))
    assert one.candidates() == [3]
    assert one.home == 3


def test_the_fastest_of_several_becomes_home():
    two = relays(region(1), region(2))
    assert two.home == 0
    assert two.probed({1: 80, 2: 20}, 0)
    assert two.home == 2


def test_home_stays_unless_another_is_clearly_better():
    two = relays(region(1), region(2))
    two.probed({1: 30}, 0)
    assert not two.probed({1: 30, 2: 25}, 0)
    assert not two.probed({1: 100, 2: 80}, 0)
    assert two.probed({1: 100, 2: 40}, 0)
    assert two.home == 2


def test_a_home_that_is_silent_is_left():
    two = relays(region(1), region(2))
    two.probed({1: 30}, 0)
    assert two.probed({2: 300}, 0)
    assert two.home == 2


def test_a_score_weighs_a_region():
    regions = derp_map(region(1), region(2))
    regions.scores_per_mille = {1: 100}
    two = Relays()
    two.map_received(regions, 0)
    two.probed({1: 100, 2: 50}, 0)
    assert two.home == 1


def test_a_peer_is_reached_at_its_home_and_the_link_closes_when_idle():
    two = relays(region(1), region(2, no_home=True))
    assert two.region_of(ANNA, 2, 1000) == 2
    assert two.wanted() == [1, 2]
    assert two.expire(1000 + IDLE_MS - 1) == []
    assert two.expire(1000 + IDLE_MS) == [2]
    assert two.wanted() == [1]


def test_home_never_closes_for_idleness():
    one = relays(region(1))
    assert one.expire(10 * IDLE_MS) == []


def test_a_peer_is_answered_where_it_was_last_heard():
    two = relays(region(1), region(2, no_home=True))
    two.packet_received(ANNA, 1, 0)
    assert two.region_of(ANNA, 2, 0) == 1
    two.peer_gone(ANNA, 2)
    assert two.region_of(ANNA, 2, 0) == 1
    two.peer_gone(ANNA, 1)
    assert two.region_of(ANNA, 2, 0) == 2


def test_a_peer_whose_region_is_unknown_has_no_way():
    one = relays(region(1))
    assert one.region_of(ANNA, 7, 0) == 0
    assert one.region_of(ANNA, 0, 0) == 0


def test_a_lost_link_waits_longer_each_time_and_at_most_seconds():
    one = relays(region(1))
    one.link_up(1, 0)
    assert one.is_up(1)
    one.link_lost(1, 100, 128)
    assert not one.is_up(1)
    assert one.wait_before_retry(1, 100) == 10
    for _ in range(100):
        one.link_lost(1, 100, 255)
    assert one.wait_before_retry(1, 100) <= 7500
    one.link_up(1, 200)
    one.link_lost(1, 300, 128)
    assert one.wait_before_retry(1, 300) == 10


def test_a_changed_server_needs_a_new_link_and_an_unchanged_one_keeps_it():
    two = relays(region(1), region(2, no_home=True))
    two.region_of(ANNA, 2, 0)
    two.link_up(1, 0)
    stale = two.map_received(derp_map(region(1), region(2, no_home=True, host="other.example")), 1)
    assert stale == [2]
    assert two.is_up(1)


def test_home_moves_when_its_region_leaves_the_map():
    one = relays(region(1))
    assert one.map_received(derp_map(region(5)), 1) == [1]
    assert one.home == 5
    assert one.wanted() == [5]
