"""The board's daemon under MicroPython on kernel WireGuard, in a guest behind a carrier's NAT; a real client outside.

One film goes from the NAS behind the board to the client through all that these tests do. Each of them brings about
the state that it starts from; so any of them can be run alone.
"""

from collections.abc import Iterator

import pytest

from boards.guest_home import OTHER_UPLINK, PATIENCE_S, GuestHome, guest_home

pytestmark = pytest.mark.boards

# WireGuard asks for a new session after 120 s; the guest is slow.
REKEY_S = 120
MINUTE_S = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHome]:
    with guest_home(tmp_path_factory.mktemp("home"), "amd64") as made:
        yield made


def test_the_daemon_runs_under_micropython_on_the_kernels_wireguard(home: GuestHome):
    status = home.board.ctl("status")
    assert status["runtime"].startswith("MicroPython")
    assert status["tunnel"]["wireguard"] == "kernel" and status["tunnel"]["applied"] and status["problems"] == []
    # no program of WireGuard's is there to be run
    assert home.board.guest.run(["sh", "-c", "command -v wireguard-go"], check=False).returncode != 0


def test_relayed(home: GuestHome):
    home.go_relayed()
    home.goes_on()


def test_direct(home: GuestHome):
    home.go_direct()
    home.goes_on()


def test_falling_back_to_the_relay_when_udp_is_blocked(home: GuestHome):
    home.go_direct()
    home.go_relayed()
    home.goes_on()


def test_roaming_to_another_address_of_the_uplink(home: GuestHome):
    home.go_direct()
    home.board.change_address("wan", OTHER_UPLINK)
    carrier = home.lab.host("carrier")

    def goes_from_there() -> bool:
        flows = [flow for flow in carrier.read_conntrack() if flow.protocol == "udp"]
        cafe = home.lab.host("cafe-router").address("wan")
        there = [flow for flow in flows if flow.source[0] == OTHER_UPLINK and flow.destination[0] == cafe]
        return any(flow.packets > 50 and flow.reply_packets > 50 for flow in there) and home.watched.is_direct()

    home.lab.wait_until(goes_from_there, PATIENCE_S, "the film to go directly from the new address")
    home.goes_on()


def test_the_session_is_renewed_under_the_traffic(home: GuestHome):
    begun_s = home.tunnel().handshake_s
    assert begun_s > 0
    home.wait_tunnel(lambda peer: peer.handshake_s > begun_s, "WireGuard's next handshake", REKEY_S + PATIENCE_S)
    home.goes_on()


def test_the_film_of_more_than_a_minute_came_whole_by_one_connection(home: GuestHome):
    home.lab.wait_until(lambda: home.is_watched_for(MINUTE_S), 2 * MINUTE_S, "a minute of the film")
    assert home.film.stop() > 0
