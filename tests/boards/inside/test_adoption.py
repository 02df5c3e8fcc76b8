"""A tunnel of the kernel's WireGuard outlives its daemon: nothing that flows through it notices, nothing opens.

In these tests the board's daemon ends, by kill -9 or on purpose, and another goes on. Its tunnel is direct; where the
relay matters, its loop is started anew as a new daemon would.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from linux.direct_network import PORT, TRAVELLER_AT, DirectHome, Echo, until
from linux.home_network import BOARD, LAN, NAS, TRAVELLER, Listener, allow, call, home_network
from wayhomed.linux.dataplane import DataPlane, Settings
from wayhomed.wire import keys

ROOT = Path(__file__).parents[3]
ECHO_RULE = allow(BOARD, ports={"First": 7000, "Last": 7000})
PREDECESSOR = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[1])
from wayhomed.core.dataplane import Preferences, plan
from wayhomed.core.map_response import read_response
from wayhomed.core.netmap import Netmap
from wayhomed.linux.dataplane import DataPlane, Settings
from wayhomed.wire.address import endpoint_from_text
async def main():
    told = json.loads(sys.stdin.readline())
    netmap = Netmap()
    netmap.apply(read_response(json.dumps(told["netmap"]).encode()))
    plane = DataPlane(Settings(told["undo"], told["interface"]))
    await plane.start(bytes(told["key"]))
    await plane.apply(plan(netmap, Preferences(), plane.facts([])))
    await plane.set_paths([(bytes(told["peer"]), endpoint_from_text(told["endpoint"]), False)])
    print("stands", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def successor(home: DirectHome, **settings) -> DataPlane:
    """Start the board's next daemon; it stops with the home."""
    home.board_plane = DataPlane(Settings(str(home.folder / "board-undo"), home.board_interface, **settings))
    with home.board.inside():
        await home.board_plane.start(home.board_key)
    return home.board_plane


async def leave(home: DirectHome) -> None:
    """End the board's daemon as one that is replaced."""
    for task in home.carried:
        task.cancel()
    await asyncio.gather(*home.carried, return_exceptions=True)
    with home.board.inside():
        assert await home.board_plane.leave()


async def handshake(home: DirectHome) -> int:
    """Return when the session began that the board's packets use."""
    return (await home.traveller_plane.traffic())[home.board_public][3]


@contextlib.asynccontextmanager
async def direct_home(folder: Path, family: int = 4):
    """A home whose board and traveller speak directly, with a session, and an echo on the board."""
    async with home_network(folder, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(family)
        await echo.all_return(5)
        yield home, echo


@pytest.mark.parametrize("family", [4, 6])
async def test_nothing_is_lost_while_the_daemon_is_replaced_and_no_session_is_renewed(tmp_path, family):
    async with direct_home(tmp_path, family) as (home, echo):
        began = await handshake(home)
        await leave(home)
        await echo.all_return(50)  # with no daemon at all
        sending = asyncio.create_task(echo.all_return(200, 0.01))
        plane = await successor(home)
        assert plane.adopted
        assert plane.direct_peers() == {home.traveller_public: TRAVELLER_AT[family]}
        await home.apply_board([ECHO_RULE])
        await sending
        await home.board_path(TRAVELLER_AT[family])
        await echo.all_return(20)
        assert await handshake(home) == began


async def test_a_tcp_transfer_goes_on_over_kill_9_and_a_new_start(tmp_path):
    async with direct_home(tmp_path) as (home, _echo):
        await leave(home)
        await transfer_over_kill_9(home)


async def transfer_over_kill_9(home: DirectHome) -> None:
    """Have the tunnel adopted by a process, kill that amid a transfer, have the next daemon adopt it."""
    began = await handshake(home)
    listener = home.board.open(socket.SOCK_STREAM)
    listener.bind((BOARD, 7000))
    listener.listen()
    loop = asyncio.get_running_loop()
    told = {
        "netmap": {
            "Node": {"ID": 1, "Key": keys.key_text(keys.NODE, home.board_public), "Addresses": [BOARD + "/32"]},
            "Peers": [
                {
                    "ID": 2,
                    "Key": keys.key_text(keys.NODE, home.traveller_public),
                    "Addresses": [TRAVELLER + "/32"],
                }
            ],
            "PacketFilter": [ECHO_RULE],
        },
        "undo": str(home.folder / "board-undo"),
        "interface": home.board_interface,
        "key": list(home.board_key),
        "peer": list(home.traveller_public),
        "endpoint": f"198.51.100.20:{PORT}",
    }
    words = ["ip", "netns", "exec", home.board.name, sys.executable, "-c", PREDECESSOR, str(ROOT / "firmware")]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(told) + "\n")
    child.stdin.flush()
    assert await asyncio.to_thread(child.stdout.readline) == "stands\n"

    sender = home.traveller.open(socket.SOCK_STREAM)
    await asyncio.wait_for(loop.sock_connect(sender, (BOARD, 7000)), 20)
    receiver, _caller = await asyncio.wait_for(loop.sock_accept(listener), 20)
    receiver.setblocking(False)
    pieces = 60
    received = 0

    async def receive() -> None:
        nonlocal received
        while received < pieces * 1000:
            received += len(await loop.sock_recv(receiver, 65536))

    async def send() -> None:
        for _ in range(pieces):
            await loop.sock_sendall(sender, bytes(1000))
            await asyncio.sleep(0.05)

    transfer = asyncio.gather(send(), receive())
    await until(lambda: received > 5000, seconds=30)
    child.send_signal(signal.SIGKILL)  # `ip netns exec` has become the daemon itself
    child.wait()
    before = received
    await until(lambda: received > before + 5000, seconds=30)  # while nobody minds the tunnel
    plane = await successor(home)
    assert plane.adopted
    await home.apply_board([ECHO_RULE])
    await asyncio.wait_for(transfer, 60)
    assert received == pieces * 1000
    assert await handshake(home) == began
    for each in (sender, receiver, listener):
        each.close()
    child.stdin.close()
    child.stdout.close()


async def test_what_the_filter_closes_stays_closed_while_there_is_no_daemon(tmp_path):
    async with direct_home(tmp_path) as (home, _echo), Listener(home.nas, NAS, 80) as nas:
        await leave(home)
        dropped = home.board.run("nft", "list", "counters", "table", "inet", "wayhome")
        with pytest.raises(TimeoutError):
            await call(home.traveller, NAS, 80, 3)
        assert home.board.run("nft", "list", "counters", "table", "inet", "wayhome") != dropped
        assert await successor(home)
        with pytest.raises(TimeoutError):
            await call(home.traveller, NAS, 80, 3)
        assert not nas.callers
        await home.apply_board([allow(LAN)])
        (await call(home.traveller, NAS, 80)).close()


async def test_what_the_machine_was_before_is_restored_by_the_last_of_several_daemons(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        await home.stop()
        before = home.board.state()
        await home.start()
        await home.apply_board([allow(LAN)])
        assert home.board.state() != before
        for _ in range(2):
            await leave(home)
            assert (await successor(home)).adopted
            await home.apply_board([allow(LAN)])
        await home.stop()
        assert home.board.state() == before
        await home.start()


async def test_relayed_peers_keep_their_addresses_at_the_proxy_and_their_sessions(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(5)
        began = await handshake(home)
        endpoints = home.board.run("wg", "show", home.board_interface, "endpoints")
        assert "127.64." in endpoints
        await leave(home)
        assert (await successor(home)).adopted
        assert home.board.run("wg", "show", home.board_interface, "endpoints") == endpoints
        for source, sink, key in (
            (home.board_plane, home.traveller_plane, home.board_key),
            (home.traveller_plane, home.board_plane, home.traveller_key),
        ):
            home.carried.append(asyncio.create_task(home._carry(source, sink, keys.public_of(key))))
        await home.apply_board([ECHO_RULE])
        await echo.all_return(20)
        assert await handshake(home) == began


async def test_if_its_proxys_port_was_taken_meanwhile_the_relayed_peers_get_another(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(5)
        endpoints = home.board.run("wg", "show", home.board_interface, "endpoints")
        port = int(endpoints.split(":")[-1])
        await leave(home)
        thief = home.board.open(socket.SOCK_DGRAM)
        thief.bind(("0.0.0.0", port))
        assert (await successor(home)).adopted
        now = home.board.run("wg", "show", home.board_interface, "endpoints")
        assert "127.64." in now and int(now.split(":")[-1]) != port
        assert (await home.board_plane.traffic())[home.traveller_public][2] is None
        thief.close()


@pytest.mark.parametrize("change", ["key", "port", "userspace", "table", "record", "down"])
async def test_a_tunnel_that_is_not_whole_or_not_ours_is_made_anew(tmp_path, change):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(2)
        await leave(home)
        settings: dict = {}
        if change == "key":
            home.board_key = keys.new_private(b"B" * 32)
        elif change == "port":
            settings["port"] = 41700
        elif change == "userspace":
            settings["wireguard"] = "userspace"
        elif change == "table":
            home.board.run("nft", "delete", "table", "inet", "wayhome")
        elif change == "record":
            os.remove(home.folder / "board-undo")
        else:
            home.board.ip("link", "set", home.board_interface, "down")
        plane = await successor(home, **settings)
        assert not plane.adopted
        assert plane.direct_peers() == {}
        with home.board.inside():
            status = await plane.status()
        assert status["peers"] == {} and status["wireguard"] == ("userspace" if change == "userspace" else "kernel")


async def test_an_interface_of_that_name_that_is_no_wireguard_is_replaced(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        await home.stop()
        home.board.ip("link", "add", home.board_interface, "type", "veth", "peer", "name", "whx0")
        assert not (await successor(home)).adopted
        await home.board_plane.stop()
        await home.start()
