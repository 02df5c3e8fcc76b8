"""Boards on a simulated network find each other, lose each other and come back; packets arrive all the while."""

from shared.simulated_mesh import PACKET_BYTES, SEARCH_BLOCKED_MS, LinuxNat, Mesh, Nat
from wayhomed.core.path import PathState, Reason

HOME = (b"\xc0\xa8\x01\x05", 41641)
MOVED = (b"\xc0\xa8\x01\x06", 41641)
OFFICE = (b"\x0a\x00\x00\x09", 41641)
HOME_OUTSIDE = b"\xc6\x33\x64\x01"
OFFICE_OUTSIDE = b"\xcb\x00\x71\x02"
PUBLIC_A = (b"\xc6\x33\x64\x11", 41641)
PUBLIC_B = (b"\xcb\x00\x71\x22", 41641)


def two_homes(hard_a=False, hard_b=False, strict=True, **network):
    mesh = Mesh(**network)
    a = mesh.site(HOME, Nat(HOME_OUTSIDE, hard_a, strict))
    b = mesh.site(OFFICE, Nat(OFFICE_OUTSIDE, hard_b, strict))
    mesh.netmap_changed()
    return mesh, a, b


def talk(mesh, a, b, duration_ms):
    def one_packet_each():
        a.send(b)
        b.send(a)

    mesh.run(duration_ms, one_packet_each)


def states(a, b):
    return a.view(b).state, b.view(a).state


def lost(sender, receiver):
    """Return how many packets have not arrived (under way or gone)."""
    return (sender.sent.get(receiver.node.key, 0) - receiver.received.get(sender.node.key, 0)) // PACKET_BYTES


BOTH_DIRECT = (PathState.DIRECT, PathState.DIRECT)
BOTH_PROBING = (PathState.PROBING, PathState.PROBING)


def test_two_homes_behind_nats_go_direct_within_a_second_and_lose_nothing():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 1_000)
    assert states(a, b) == BOTH_DIRECT
    assert a.view(b).best[0] == OFFICE_OUTSIDE
    assert b.view(a).best[0] == HOME_OUTSIDE
    relayed = a.by_relay[b.node.key]
    talk(mesh, a, b, 60_000)
    assert states(a, b) == BOTH_DIRECT
    assert a.by_relay[b.node.key] == relayed
    mesh.run(1_000)
    assert lost(a, b) == lost(b, a) == 0


def test_two_nodes_on_one_lan_meet_by_their_own_addresses():
    mesh = Mesh(delay_ms=0)
    nat = Nat(HOME_OUTSIDE)
    a, b = mesh.site(HOME, nat), mesh.site((HOME[0][:3] + b"\x06", 41641), nat)
    mesh.netmap_changed()
    talk(mesh, a, b, 10_000)
    assert a.view(b).best == b.endpoint
    assert b.view(a).best == a.endpoint


def test_one_hard_nat_meets_one_that_looks_at_addresses_only():
    mesh, a, b = two_homes(hard_a=True, strict=False)
    talk(mesh, a, b, 10_000)
    assert states(a, b) == BOTH_DIRECT


def test_two_hard_nats_stay_relayed_for_ever_and_say_why():
    mesh, a, b = two_homes(hard_a=True, hard_b=True)
    talk(mesh, a, b, 300_000)
    assert states(a, b) == BOTH_PROBING
    assert a.events == b.events == []
    for view in (a.view(b), b.view(a)):
        assert view.reason == Reason.NO_ANSWER
        assert view.candidates >= 2
        assert view.asked >= 20
    mesh.run(1_000)
    assert lost(a, b) == lost(b, a) == 0


def test_a_hotel_that_blocks_udp_costs_seconds_not_the_connection():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    assert states(a, b) == BOTH_DIRECT
    a.udp_blocked = True
    before = lost(a, b), lost(b, a)
    talk(mesh, a, b, 20_000)
    assert states(a, b) == BOTH_PROBING
    assert a.view(b).reason == b.view(a).reason == Reason.LOST
    # 10 packets a second, trust of 6.5 s, and the answer of a heartbeat that was on its way
    assert lost(a, b) - before[0] <= 70
    assert lost(b, a) - before[1] <= 70
    a.udp_blocked = False
    after = lost(a, b), lost(b, a)
    talk(mesh, a, b, 10_000)
    assert states(a, b) == BOTH_DIRECT
    assert (lost(a, b) <= after[0] + 1) and (lost(b, a) <= after[1] + 1)


def test_blocked_from_the_start_all_goes_by_the_relay_and_direct_as_soon_as_udp_is_free():
    mesh, a, b = two_homes()
    b.udp_blocked = True
    talk(mesh, a, b, 60_000)
    assert states(a, b) == BOTH_PROBING
    assert lost(a, b) <= 1
    b.udp_blocked = False
    talk(mesh, a, b, 6_000)
    assert states(a, b) == BOTH_DIRECT


def test_routers_that_forget_their_mappings_cost_the_trust_that_is_left_and_no_more():
    for seed in range(1, 9):
        mesh, a, b = two_homes(seed=seed)
        talk(mesh, a, b, 20_000 + seed * 2_900)
        a.nat.forget()
        if seed & 1:
            b.nat.forget()
        before = lost(a, b), lost(b, a)
        talk(mesh, a, b, 7_500)
        assert states(a, b) == BOTH_DIRECT
        assert lost(a, b) - before[0] <= 70
        assert lost(b, a) - before[1] <= 70


def test_behind_a_router_that_was_blocked_and_switched_off_udp_is_used_as_soon_as_it_passes():
    for seed in range(1, 9):
        mesh, a, b = two_homes(seed=seed)
        talk(mesh, a, b, 5_000)
        a.udp_blocked = True
        talk(mesh, a, b, 15_000 + seed * 2_900)
        a.nat.forget()
        a.udp_blocked = False
        talk(mesh, a, b, SEARCH_BLOCKED_MS + 3_000)
        assert states(a, b) == BOTH_DIRECT


def test_a_way_that_is_dead_in_one_direction_is_left_by_both():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    mesh.dead.add((a.number, b.number))
    talk(mesh, a, b, 15_000)
    assert states(a, b) == BOTH_PROBING
    # B's pings still arrive, so its packets might: they must not move A's WireGuard to the dead way
    source = b.nat.out(b.endpoint, a.nat.out(a.endpoint, PUBLIC_A))
    assert a.paths.held() == {source: b.node.key}
    before = lost(a, b), lost(b, a)
    talk(mesh, a, b, 30_000)
    assert (lost(a, b), lost(b, a)) == before
    assert states(a, b) == BOTH_PROBING


def test_copies_that_come_directly_while_our_way_back_is_dead_do_not_move_wireguard():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    mesh.dead.add((a.number, b.number))
    talk(mesh, a, b, 15_000)
    mesh.run(1_000)
    before = lost(a, b)
    for _ in range(200):  # B is a stock client here: it sends by both ways
        mesh.by_udp(b, a.nat.out(a.endpoint, PUBLIC_A), None)
        a.send(b)
        mesh.run(100)
    mesh.run(1_000)
    assert lost(a, b) == before


def test_a_peer_that_restarts_is_direct_again_and_has_its_session_made_anew():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    events = len(a.events)
    b.restart()
    mesh.netmap_changed()
    assert a.events[events][1:] == (None, True)
    talk(mesh, a, b, 6_000)
    assert states(a, b) == BOTH_DIRECT
    assert len([event for event in a.events[events:] if event[2]]) == 1


def test_an_uplink_that_changes_is_relayed_at_once_and_direct_again_soon():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    a.endpoint, a.nat = (b"\xc0\xa8\x63\x08", 41641), Nat(b"\xc6\x33\x64\x63")
    a.paths.uplink_changed(mesh.now_ms)
    a.carry_out()
    assert a.told[b.node.key] is None
    talk(mesh, a, b, 15_000)
    assert states(a, b) == BOTH_DIRECT
    assert b.view(a).best[0] == a.nat.ip


def test_a_peer_that_moved_and_says_nothing_is_followed_before_trust_in_its_old_address_ends():
    for seed in range(1, 9):
        mesh, a, b = two_homes(seed=seed)

        def only_b_sends(a=a, b=b):
            b.send(a)

        mesh.run(10_000 + seed * 700, only_b_sends)
        assert states(a, b) == BOTH_DIRECT
        a.endpoint, a.nat = (b"\xc0\xa8\x63\x08", 41641), Nat(b"\xc6\x33\x64\x63")
        before = lost(b, a)
        a.paths.uplink_changed(mesh.now_ms)
        a.carry_out()
        mesh.run(10_000, only_b_sends)
        assert states(a, b) == BOTH_DIRECT
        assert lost(b, a) - before <= 35  # 10 packets a second


def test_a_board_that_moves_within_its_home_is_known_to_its_router_by_one_port_again():
    for wait_ms in range(100, 3_000, 200):  # since the last heartbeat
        mesh = Mesh()
        a = mesh.site(HOME, LinuxNat(HOME_OUTSIDE))
        b = mesh.site(OFFICE, Nat(OFFICE_OUTSIDE))
        mesh.netmap_changed()
        talk(mesh, a, b, 24_000)
        a.nat.forget()  # it was switched off and on: no flow to the STUN server any more, soon one to the peer
        talk(mesh, a, b, 9_000 + wait_ms)
        assert states(a, b) == BOTH_DIRECT
        a.endpoint = MOVED
        a.paths.uplink_changed(mesh.now_ms)
        a.carry_out()
        talk(mesh, a, b, 10_000)
        # Whoever asks the STUN server first is told a port that the peer does not see.
        assert states(a, b) == BOTH_DIRECT


def test_without_traffic_all_falls_silent_and_nothing_wakes_the_boards():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    mesh.run(120_000)
    assert states(a, b) == (PathState.RELAYED, PathState.RELAYED)
    assert a.told[b.node.key] is None
    assert a.paths.next_timer_ms() is None
    assert b.paths.next_timer_ms() is None
    assert not a.paths.polling_wanted(mesh.now_ms)
    assert not a.paths.endpoints_wanted(mesh.now_ms)
    before = a.datagrams, b.datagrams
    mesh.run(600_000)
    assert (a.datagrams, b.datagrams) == before
    talk(mesh, a, b, 1_000)
    assert states(a, b) == BOTH_DIRECT


def test_one_who_only_listens_stays_direct_as_long_as_something_comes():
    mesh, a, b = two_homes()
    mesh.run(120_000, lambda: a.send(b))
    assert states(a, b) == BOTH_DIRECT


def test_a_lossy_network_does_not_keep_the_boards_apart():
    direct = 0
    for seed in range(5):
        mesh, a, b = two_homes(seed=seed, loss_percent=20)
        for _ in range(60):
            talk(mesh, a, b, 1_000)
            direct += states(a, b).count(PathState.DIRECT)
    # Of 600 seconds of both. Two heartbeats in a row that fail cost a path, so some are relayed.
    assert direct > 400


def test_a_relay_that_is_down_does_not_end_a_direct_path():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    a.relay_is_up = False
    talk(mesh, a, b, 120_000)
    assert states(a, b) == BOTH_DIRECT


def test_a_users_ping_goes_the_way_that_packets_go():
    mesh, a, b = two_homes()
    txid = a.paths.user_ping(b.node.key, mesh.now_ms)
    a.carry_out()
    mesh.run(1_000)
    assert a.ponged == [(b.node.key, txid, None, 900)]
    mesh.run(5_000)  # it counts as traffic: a path was looked for
    assert a.view(b).state == PathState.DIRECT
    txid = a.paths.user_ping(b.node.key, mesh.now_ms)
    a.carry_out()
    mesh.run(1_000)
    assert a.ponged[1:] == [(b.node.key, txid, a.view(b).best, 0)]
    txid = a.paths.user_ping(b.node.key, mesh.now_ms, True)
    a.carry_out()
    mesh.run(1_000)
    assert a.ponged[2:] == [(b.node.key, txid, None, 900)]


def test_a_clock_that_jumps_ahead_brings_no_burst_and_the_boards_meet_again():
    mesh, a, b = two_homes()
    talk(mesh, a, b, 5_000)
    before = a.datagrams
    mesh.now_ms += 30 * 86_400_000
    mesh.run(1_000)
    assert a.datagrams - before <= 4
    talk(mesh, a, b, 6_000)
    assert states(a, b) == BOTH_DIRECT


def test_a_clock_that_steps_back_stands_still_until_it_is_caught_up_with():
    mesh, a, b = two_homes(start_ms=100_000)
    talk(mesh, a, b, 5_000)
    late_ms = mesh.now_ms
    mesh.now_ms -= 4_000
    talk(mesh, a, b, 10_000)
    assert mesh.now_ms > late_ms
    assert states(a, b) == BOTH_DIRECT
