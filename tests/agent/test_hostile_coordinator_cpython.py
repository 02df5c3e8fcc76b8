"""A coordinator that was stolen, or never was honest: whatever it says, the board stays and says what it refused.

Each attack meets a board that is in the mesh with a tunnel. Afterwards the tunnel stands, what was there before is
there still, a line says what was refused, and an honest word is believed again.
"""

import asyncio
import itertools
import json

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent import control_session, shown
from wayhomed.agent.status import full_status
from wayhomed.core.ceiling import Ceiling
from wayhomed.wire import control, keys
from wayhomed.wire.address import ip_from_text, prefix_from_text, prefix_text

pytestmark = pytest.mark.both_pythons
ALL = {"First": 0, "Last": 65535}
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\r\n\x9b31m"


class Attacked:
    """A board in the mesh with one honest peer, and what its coordinator can do to it."""

    def __init__(self, w):
        self.w = w
        self.laptop = Peer(2, "laptop")

    async def begin(self) -> None:
        w = self.w
        w.coordinator.peers = [self.laptop]
        given = w.data_plane.facts

        def facts(remotes, now_s=0):
            found = given(remotes, now_s)
            found.remotes = remotes
            found.connected = [prefix_from_text("192.168.1.0/24")]
            found.gateways = [ip_from_text("192.168.1.1")]
            found.resolvers = [ip_from_text("9.9.9.9")]
            return found

        w.data_plane.facts = facts
        w.up("key", AcceptRoutes=True)
        await until(w.board.is_up)
        await until(lambda: self.laptop.key in w.data_plane.plans[-1].peers)
        self.begun = len(w.data_plane.plans)

    def plan(self):
        return self.w.data_plane.plans[-1]

    def log(self) -> str:
        return "\n".join(self.w.log)

    async def is_refused(self, *parts: str) -> None:
        """Wait until a line tells of the refusal, and check that nothing was lost by it."""
        w = self.w
        await until(lambda: any(part in self.log() + w.board.session.error for part in parts))
        await self.is_well()

    async def is_well(self) -> None:
        w = self.w
        assert w.data_plane.stops == 0 and w.board.data_error == ""
        assert all(self.laptop.key in plan.peers for plan in w.data_plane.plans[self.begun :])
        phone = Peer(77, "phone")
        w.coordinator.peers = [self.laptop, phone]
        await until(lambda: w.board.session.connected)
        # A poll that is about to be cut may take the word with it; the next one begins with all of it.
        w.coordinator.tell({"PeersChanged": [phone.as_json()]})
        await until(lambda: phone.key in self.plan().peers and self.laptop.key in self.plan().peers)
        status = await full_status(w.board)
        for line in [*shown.status(status), *w.log]:
            assert line.isprintable(), repr(line)


@pytest.fixture
async def attacked(tmp_path):
    async with world(tmp_path) as w:
        made = Attacked(w)
        await made.begin()
        yield made


def reasons(plan) -> dict:
    return {prefix_text(prefix): reason for prefix, _node, reason in plan.refused}


# --- What it says is well-formed and evil ---


async def test_routes_that_would_swallow_the_network_are_refused_each_with_its_reason(attacked):
    evil = {
        "0.0.0.0/1": "not for a tunnel",
        "128.0.0.0/1": "not for a tunnel",
        "32.0.0.0/3": "too much of the Internet",
        "2000::/3": "too much of the Internet",
        "192.168.1.0/24": "connected to",
        "192.168.0.0/16": "connected to",
        "192.168.1.1/32": "connected to",
        "9.9.9.0/24": "DNS",
        "127.0.0.0/8": "loopback",
        "100.64.0.0/10": "mesh's own",
        "100.64.0.1/32": "it is ours",
    }
    thief = Peer(3, "thief")
    routes = [*thief.as_json()["Addresses"], "0.0.0.0/0", "::/0", *evil, "10.77.0.0/16"]
    attacked.w.coordinator.tell({"PeersChanged": [thief.as_json(AllowedIPs=routes)]})
    await until(lambda: thief.key in attacked.plan().peers)
    taken = {prefix_text(prefix) for prefix in attacked.plan().peers[thief.key]}
    assert taken == {"100.64.0.3/32", "fd7a:115c:a1e0::3/128", "10.77.0.0/16"}
    told = reasons(attacked.plan())
    assert {route: told[route] for route in evil if evil[route] not in told[route]} == {}
    await attacked.is_well()


async def test_the_coordinator_and_relays_stay_outside_the_tunnel(attacked):
    w = attacked.w
    moved = json.loads(json.dumps(w.coordinator.derp_map()))
    moved["Regions"]["901"] = {
        "RegionID": 901,
        "Nodes": [{"Name": "a", "RegionID": 901, "HostName": "x", "IPv4": "203.0.113.9"}],
    }
    w.coordinator.tell({"DERPMap": moved})
    thief = Peer(3, "thief")
    own = thief.as_json()["Addresses"]
    w.coordinator.tell({"PeersChanged": [thief.as_json(AllowedIPs=[*own, "203.0.113.0/24", "203.0.113.9/32"])]})
    await until(lambda: thief.key in attacked.plan().peers)
    assert all("the coordinator or a relay" in reason for reason in reasons(attacked.plan()).values())
    assert len(attacked.plan().peers[thief.key]) == 2
    await attacked.is_well()


async def test_a_policy_that_opens_everything_opens_what_the_owner_allowed(attacked):
    w = attacked.w
    w.board.configuration.ceiling = Ceiling(lans=[prefix_from_text("192.168.1.10/32")], services=[(6, 22, 22)])
    everything = {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": ALL}]}
    w.coordinator.tell({"PacketFilter": [everything]})
    await until(lambda: attacked.plan().firewall.rules)
    opened = [
        (rule.protocols, opening.first, opening.last)
        for rule in attacked.plan().firewall.rules
        for opening in rule.openings
    ]
    assert opened == [((1, 58), 0, 65535), ((6,), 22, 22)]
    assert not attacked.plan().forwarding
    status = await full_status(w.board)
    assert [line for line in shown.status(status) if line.startswith("not allowed  the policy opens more")]
    await attacked.is_refused("not allowed here: the policy opens more")


async def test_devices_that_nobody_may_publish_stay_unpublished(attacked):
    w = attacked.w
    own = w.coordinator.first(keys.key_text(keys.NODE, w.node_key))["Node"]
    targets = ["192.168.1.2", "127.0.0.1", "8.8.8.8", "169.254.169.254", "100.64.0.2"]
    devices = [
        {"Name": f"d{number}", "Address4": f"100.64.9.{number}", "Target4": target}
        for number, target in enumerate(targets)
    ]
    w.coordinator.tell({"Node": {**own, "CapMap": {"wayhome:published": devices}}})
    await attacked.is_refused("published device d4 is refused")
    assert not attacked.plan().firewall.published and not attacked.plan().forwarding


async def test_its_dns_servers_are_named_and_not_asked(attacked):
    attacked.w.coordinator.tell({"DNSConfig": {"Resolvers": [{"Addr": "192.0.2.66"}], "Proxied": True}})
    await attacked.is_refused("this machine's DNS stays as it is")


async def test_keys_and_addresses_that_can_not_be_are_nobodys(attacked):
    w = attacked.w
    twin, ourselves, robber = Peer(3, "twin"), Peer(4, "ourselves"), Peer(5, "robber")
    changed = [
        {**twin.as_json(), "Key": keys.key_text(keys.NODE, attacked.laptop.key)},
        {**ourselves.as_json(), "Key": keys.key_text(keys.NODE, w.node_key)},
        robber.as_json(Addresses=["100.64.0.1/32", "100.64.0.2/32"], AllowedIPs=["100.64.0.1/32", "100.64.0.2/32"]),
    ]
    w.coordinator.tell({"PeersChanged": changed})
    await until(lambda: robber.key in attacked.plan().peers)
    plan = attacked.plan()
    assert w.node_key not in plan.peers and plan.peers[robber.key] == set()
    assert {prefix_text(prefix) for prefix in plan.peers[attacked.laptop.key]} >= {"100.64.0.2/32"}
    assert reasons(plan)["100.64.0.1/32"] == "it is ours" and "another node" in reasons(plan)["100.64.0.2/32"]
    await attacked.is_well()


async def test_names_that_would_steer_a_terminal_are_shown_as_what_they_are(attacked):
    w = attacked.w
    evil = Peer(3, ESCAPES)
    w.coordinator.tell(
        {
            "PeersChanged": [evil.as_json(Hostinfo={"Hostname": ESCAPES, "OS": ESCAPES}, AllowedIPs=["8.8.8.8/32"])],
            "Health": [ESCAPES],
            "Domain": ESCAPES,
            "PopBrowserURL": "https://evil.example/" + ESCAPES,
            "UserProfiles": [{"ID": 7, "LoginName": ESCAPES, "DisplayName": ESCAPES}],
            "PacketFilter": [{"SrcIPs": [ESCAPES], "DstPorts": [{"IP": ESCAPES, "Ports": ALL}]}],
        }
    )
    await until(lambda: evil.key in attacked.plan().peers)
    await attacked.is_well()
    status = json.dumps(await full_status(w.board))
    assert "\x1b" not in status and "\x1b" not in attacked.log()


async def test_a_link_with_control_characters_is_told_without_them(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: (
            {"AuthURL": "https://evil.example/" + ESCAPES} if len(w.coordinator.registered) < 2 else None
        )
        w.up()
        await until(lambda: w.board.session.auth_url or "AuthURL" in w.board.session.error)
        assert all(line.isprintable() for line in w.log)
        assert all(line.isprintable() for line in shown.status(await full_status(w.board)))


# --- What it says is nonsense ---

NONSENSE = [
    b"{",
    b"[]",
    b"7",
    b"\xff\xfe",
    b"NaN",
    b'{"Debug":{"SleepSeconds":"long"}}',
    b'{"Peers":{"0":1}}',
    b'{"Peers":[[]]}',
    b'{"PeersChanged":[{"ID":-5,"Key":"nodekey:' + b"11" * 32 + b'"}]}',
    b'{"PeersChanged":[{"ID":1e999,"Key":"nodekey:' + b"11" * 32 + b'"}]}',
    b'{"PeersChanged":[{"ID":9,"Key":"nodekey:' + b"00" * 32 + b'"}]}',
    b'{"PeersRemoved":[-1]}',
    b'{"PeersRemoved":[true]}',
    b'{"OnlineChange":{"-2":true}}',
    b'{"OnlineChange":{"2":"yes"}}',
    b'{"PeersChangedPatch":[{"NodeID":2,"Key":"nodekey:' + b"00" * 32 + b'"}]}',
    b'{"DNSConfig":[]}',
    b'{"PacketFilters":{"a":5}}',
    b'{"DERPMap":7}',
    b'{"Node":{"ID":1}}',
    b'{"Node":[]}',
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"DNSConfig":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    b'{"DNSConfig":{"a":' + b"9" * 100_000 + b"}}",
    bytes.fromhex("28b52ffd0058") + b"\x01" * 60,  # zstd, which we did not ask for
    b"\x1f\x8b\x08\x00" + b"\0" * 60,
]


@pytest.mark.parametrize("message", NONSENSE, ids=[f"{number}-{text[:24]!r}" for number, text in enumerate(NONSENSE)])
async def test_nonsense_ends_the_poll_with_a_reason_and_nothing_else(attacked, message):
    polls = len(attacked.w.coordinator.polls)
    attacked.w.coordinator.tell(message)
    await until(lambda: len(attacked.w.coordinator.polls) > polls)
    told = [line for line in attacked.w.log if line.startswith("coordinator: ")]
    assert told and len(told[-1]) < 300
    await attacked.is_well()


@pytest.mark.parametrize("sleep", [b"1e999", b"-1e999", b"NaN", b"-5", b"0"])
async def test_a_pause_without_end_is_none(attacked, sleep, monkeypatch):
    slept = []

    async def sleep_ms(milliseconds):
        slept.append(milliseconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(attacked.w.place.module(control_session), "sleep_ms", sleep_ms)
    attacked.w.coordinator.tell(b'{"Debug":{"SleepSeconds":%b}}' % sleep)
    attacked.w.coordinator.tell({"Domain": "reached"})
    await until(lambda: attacked.w.board.netmap.domain == "reached" or len(attacked.w.coordinator.polls) > 1)
    assert all(milliseconds <= 300_000 for milliseconds in slept)


# --- What it says never ends ---


def framed(length: int, pieces):
    """Yield a map frame's header for `length` bytes, and then the pieces."""
    yield length.to_bytes(4, "little")
    yield from pieces


def crowd(count: int):
    """Yield a map message of so many peers, piece by piece."""
    yield b'{"Peers":['
    for number in range(count):
        address = f"100.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32"
        peer = {"ID": number + 2, "Key": f"nodekey:{number + 9:064x}", "Addresses": [address], "Name": f"p{number}.x."}
        yield (b"," if number else b"") + json.dumps(peer).encode()
    yield b"]}"


def endless(start: bytes, again: bytes, count: int):
    return itertools.chain([start], itertools.repeat(again, count))


FLOODS = {
    "100,000 peers": lambda: framed(15_000_000, crowd(100_000)),
    "a name of 10 MB": lambda: framed(11_000_000, endless(b'{"Domain":"', b"a" * 16_384, 640)),
    "a peer's name of 10 MB": lambda: framed(
        11_000_000, endless(b'{"PeersChanged":[{"ID":5,"Name":"', b"a" * 16_384, 640)
    ),
    "a text that nobody asked for": lambda: framed(16_777_217, endless(b'{"Nonsense":"', b"a" * 16_384, 1025)),
    "a frame of 4 GB": lambda: framed(0xFFFFFFFF, [b"{"]),
    "an empty frame": lambda: framed(0, []),
    "a million rules": lambda: framed(
        14_000_000,
        endless(b'{"PacketFilter":[', b'{"SrcIPs":["*"]},' * 963, 1040),
    ),
    "a million filters": lambda: framed(
        14_000_000,
        itertools.chain([b'{"PacketFilters":{'], (b'"f%d":[],' % number for number in range(1_000_000))),
    ),
    "10,000 relay regions": lambda: framed(
        3_000_000,
        itertools.chain(
            [b'{"DERPMap":{"Regions":{'],
            (b'"%d":{"RegionID":%d,"RegionCode":"r%d"},' % (n, n, n) for n in range(1, 60_000)),
        ),
    ),
    "a list without end": lambda: framed(15_000_000, endless(b'{"Health":["a"', b',"a"' * 4_000, 900)),
    "brackets without end": lambda: framed(3_000_000, endless(b'{"DNSConfig":', b"[" * 16_384, 180)),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_what_never_ends_is_cut_off_with_a_reason_and_nothing_else(attacked, name):
    polls = len(attacked.w.coordinator.polls)
    await attacked.w.coordinator.pour(FLOODS[name]())
    await until(lambda: len(attacked.w.coordinator.polls) > polls)
    told = [line for line in attacked.w.log if line.startswith("coordinator: ")]
    assert told and len(told[-1]) < 300
    print(f"{name}: {told[-1]}")
    await attacked.is_well()


async def test_keep_alives_without_end_do_not_keep_the_board_from_anything_else(attacked):
    w = attacked.w
    pouring = asyncio.create_task(
        w.coordinator.pour(itertools.repeat(control.encode_map_frame(b'{"KeepAlive":true}') * 500, 400))
    )
    await until(lambda: not w.board.links.errors)
    before = len(w.coordinator.updates)
    w.board.change_prefs({"Hostname": "attic"})
    await until(lambda: len(w.coordinator.updates) > before or len(w.coordinator.polls) > 1)
    pouring.cancel()
    w.coordinator.drop()
    await attacked.is_well()


async def test_a_netmap_that_flips_without_end_is_put_into_the_kernel_at_a_pace(attacked):
    w = attacked.w
    before, ghost = len(w.data_plane.plans), Peer(3, "ghost")
    begun = asyncio.get_running_loop().time()
    there = control.encode_map_frame(json.dumps({"PeersChanged": [ghost.as_json()]}).encode())
    gone = control.encode_map_frame(b'{"PeersRemoved":[3]}')
    await w.coordinator.pour([there + gone] * 500)
    await until(lambda: len(w.data_plane.plans) > before)
    await asyncio.sleep(0.5)
    took_s = asyncio.get_running_loop().time() - begun
    assert len(w.data_plane.plans) - before <= 22 + took_s
    w.coordinator.drop()
    await attacked.is_well()
