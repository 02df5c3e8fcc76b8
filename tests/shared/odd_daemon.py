"""A real wayhomed in a network namespace of its own, and a coordinator that is not ours. Prints what was seen as JSON.

unshare --net python odd_daemon.py RUNTIME FOLDER
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.fakes import FakeRelay, Peer, until
from shared.hostile_daemon import INTERFACE, Daemon
from shared.other_coordinator import OtherCoordinator, odd_node
from wayhome.lab.daemon_command import wayhomed_words
from wayhomed.wire import keys

# Debian 12's own nft can't list what a newer libnftables wrote, so the daemon's Python lists it with the daemon's.
LISTER = Path(__file__).with_name("list_filter.py")
NAS, ROUTER = Peer(2, "nas"), Peer(3, "router")


def described(peer: Peer, **fields) -> dict:
    return odd_node(peer.id, peer.key, keys.key_text(keys.DISCO, peer.disco_key), **fields)


def shown(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


async def join(daemon: Daemon, coordinator: OtherCoordinator, runtime: str) -> dict:
    """Be let in by a person, then hear of two peers; return what the machine looks like."""
    prefs = {"LoginServer": coordinator.url, "AcceptRoutes": True, "AdvertiseRoutes": ["192.168.1.0/24"]}
    joining = asyncio.create_task(daemon.ask(command="up", prefs=prefs, timeout_ms=120_000))
    await until(lambda: len(coordinator.registered) == 2)
    link = (await daemon.ask(command="status"))["result"]["auth_url"]
    coordinator.let_in.set()
    answer = await joining
    assert "result" in answer, answer
    allowed = ["100.64.0.3/32", "10.20.0.0/16"]
    await coordinator.tell({"PeersChanged": [described(NAS), described(ROUTER, AllowedIPs=allowed)]})
    status: dict = {"peers": [], "tunnel": {"applied": False}}
    while len(status["peers"]) < 2 or not status["tunnel"]["applied"] or "10.20.0.0/16" not in str(status["tunnel"]):
        status = (await daemon.ask(command="status"))["result"]
        await asyncio.sleep(0.05)
    return {
        "link": link,
        "status": status,
        "routes": shown("ip", "route", "show", "table", "all", "dev", INTERFACE),
        "filter": shown(*wayhomed_words(runtime)[:-1], str(LISTER)),
    }


async def main(runtime: str, folder: Path) -> None:
    relay, coordinator = FakeRelay(), OtherCoordinator()
    await relay.start()
    coordinator.relay_port = relay.port
    await coordinator.start()
    daemon = Daemon(runtime, folder)
    try:
        print(json.dumps(await join(daemon, coordinator, runtime)))
    finally:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.wait(60)
    sys.stdout.flush()
    os._exit(0)  # the fakes' connections need no orderly end


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
