"""The whole daemon on arm64: the same code, another kernel, in a guest beside which a real client stands."""

from collections.abc import Iterator

import pytest

from boards.guest_home import GuestHome, guest_home

pytestmark = pytest.mark.boards


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestHome]:
    with guest_home(tmp_path_factory.mktemp("home"), "arm64") as made:
        yield made


def test_it_joins_and_runs_under_micropython_on_the_kernels_wireguard(home: GuestHome):
    assert home.board.guest.run(["uname", "-m"]).stdout == "aarch64\n"
    status = home.board.ctl("status")
    assert status["runtime"].startswith("MicroPython")
    assert status["tunnel"]["wireguard"] == "kernel" and status["problems"] == []


def test_relayed(home: GuestHome):
    home.go_relayed()
    home.goes_on()


def test_direct_and_not_a_byte_lost(home: GuestHome):
    home.go_direct()
    home.goes_on()
    assert home.film.stop() > 0
