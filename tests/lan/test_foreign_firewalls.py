"""Other programs' firewalls beside ours: what gets through, what the status says of the rest, and what mends it."""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lan.foreign_programs import Programs
from linux.home_network import LAN, LAN6, NAS, NAS6, Home, Listener, allow, call, home_network
from shared import places
from wayhomed.agent import foreign_rules
from wayhomed.wire import address

pytestmark = pytest.mark.lab
both_pythons = pytest.mark.both_pythons
EVERYTHING = [allow(LAN, LAN6)]
ROUTES = [address.prefix_from_text(text) for text in (LAN, LAN6)]


class FakeBoard:
    """What the part knows of the daemon."""

    def __init__(self, home: Home):
        self.home = home
        self.lines: list[str] = []
        self.log = self
        self.asked = 0

    def advertised(self) -> list:
        return ROUTES

    def warning(self, line: str) -> None:
        self.lines.append(line)

    def tell(self) -> None:
        pass

    def apply_again(self) -> None:
        self.asked += 1


class Watched:
    """The part beside a home's data plane, as the daemon has it."""

    def __init__(self, home: Home):
        self.home = home
        self.board = FakeBoard(home)
        self.part = home.place.module(foreign_rules).ForeignRules(self.board)

    async def apply(self) -> None:
        plan = await self.home.apply_board(EVERYTHING)
        with self.home.board.inside():
            self.part.applied(plan, None)

    def troubles(self) -> list[tuple[str, str]]:
        return [(trouble.what, trouble.mend) for trouble in self.part.troubles()]

    async def listed(self) -> str:
        """Return our table as nft lists it, once it is whole; without counters and handles."""
        names = ("opened", "sources", "forward")
        text = "".join(self.home.board.run("nft", "-s", "list", "chain", "inet", "wayhome", name) for name in names)
        return text + self.home.board.run("nft", "-s", "list", "set", "inet", "wayhome", "peers4")

    async def until_looked_at(self, program: str) -> None:
        await self.until(lambda _told: program in self.part.status()["programs"])

    async def until(self, condition) -> None:
        async with asyncio.timeout(60):
            while not condition(self.troubles()):
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watched_home(tmp_path) -> AsyncIterator[Watched]:
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80), Listener(home.nas, NAS6, 80):
        if home.place is places.HERE:
            # the daemon is in its network namespace, this process is not
            read = home.board_plane.foreign_rules
            home.board_plane.foreign_rules = functools.partial(inside, home, read)  # type: ignore[method-assign]
        watched = Watched(home)
        await watched.apply()
        with home.board.inside():
            task = asyncio.create_task(watched.part.stand(home.board_plane))
            await asyncio.sleep(0)
        try:
            yield watched
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def programs_of(watched: Watched, iptables: str = "nft") -> AsyncIterator[Programs]:
    with Programs(watched.home.board, iptables) as programs:
        yield programs


def inside(home: Home, read):
    with home.board.inside():
        rules = read()
        rules.names()
        return rules


async def passes(home: Home) -> None:
    for ip in (NAS, NAS6):
        (await call(home.traveller, ip, 80)).close()


async def refused(home: Home, ip: str) -> None:
    with pytest.raises(OSError):  # an answer, or no answer
        (await call(home.traveller, ip, 80, 0.5)).close()


async def in_the_way_until(watched: Watched, programs: Programs, program: str, rule: str, families=(NAS, NAS6)) -> None:
    """Nothing gets through; the status names rule and command; once that was run, everything does."""
    for ip in families:
        await refused(watched.home, ip)
    await watched.until(lambda told: len(told) >= 1)
    while told := watched.troubles():
        what, mend = told[0]
        assert program in what and rule in what, what
        programs.run(mend)
        if "legacy" in mend:
            await watched.apply()  # as the daemon does each minute; the kernel tells nobody of these
        await watched.until(lambda now, before=told: now != before)
    await passes(watched.home)


@both_pythons
async def test_ufw_is_named_and_mended_by_its_own_command(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        await passes(watched.home)
        programs.run("ufw --force enable")
        await in_the_way_until(watched, programs, "ufw", "the policy of chain FORWARD of table ip filter")


# Its library lists all tables, and of Debian 12 it dies of those that MicroPython's libnftables 1.1 has made.
async def test_firewalld_is_named_and_mended_by_its_own_command(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        programs.start_firewalld()
        await in_the_way_until(watched, programs, "firewalld", "chain filter_FWD_public of table inet firewalld")
        programs.run("firewall-cmd --reload")
        await passes(watched.home)


@both_pythons
async def test_docker_is_named_and_mended_in_the_chain_that_it_leaves_to_others(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        watched.home.board.write("net/ipv4/ip_forward", "0")  # when it switches forwarding on it closes it, too
        programs.start_docker()
        await in_the_way_until(watched, programs, "Docker", "the policy of chain FORWARD of table ip filter", (NAS,))


@both_pythons
async def test_docker_that_finds_forwarding_on_is_in_nobodys_way(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        programs.start_docker()
        await watched.until_looked_at("Docker")
        await passes(watched.home)
        assert not watched.troubles()


@both_pythons
@pytest.mark.parametrize("iptables", ["nft", "legacy"])
async def test_iptables_of_either_kind_is_named_and_mended(tmp_path, iptables):
    async with watched_home(tmp_path) as watched, programs_of(watched, iptables) as programs:
        for program in ("iptables", "ip6tables"):
            programs.run(f"{program} -A FORWARD -i lan0 -o wan0 -j ACCEPT && {program} -P FORWARD DROP")
        watched.part.look_again()
        rule = "chain FORWARD of table ip" if iptables == "nft" else "chain FORWARD of table legacy ip"
        await in_the_way_until(watched, programs, "iptables", rule)


# Our own words for what /usr/share/doc/nftables/examples of Debian show: a workstation's and a router's filter.
PLAIN = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        meta l4proto { 1, 58 } accept
        tcp dport 22 accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname "lan0" oifname "wan0" accept
        ct state established,related iifname "wan0" accept
    }
}
"""


@both_pythons
async def test_plain_rules_with_a_policy_to_drop_are_named_and_mended(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        programs.run(f"nft -f - <<'END'\n{PLAIN}\nEND")
        await in_the_way_until(watched, programs, "nftables", "the policy of chain forward of table inet filter")
        assert [one["mend"] for one in watched.part.status()["packets"] if one["what"] == "WireGuard"] == [
            "nft 'insert rule inet filter input udp dport 41641 accept'"
        ]


# Our own words for the shape of OpenWrt's: zones with chains of their own, all else refused, known flows offloaded.
FW4 = """
table inet fw4 {
    %s
    chain forward {
        type filter hook forward priority filter; policy drop;
        %s
        ct state vmap { established : accept, related : accept }
        iifname "lan0" jump forward_lan
        iifname "wan0" jump forward_wan
        %s
        jump handle_reject
    }
    chain handle_reject {
        meta l4proto tcp reject with tcp reset
        reject with icmpx port-unreachable
    }
    chain forward_lan { jump accept_to_wan; jump accept_to_lan; }
    chain forward_wan { meta l4proto esp jump accept_to_lan; jump handle_reject; }
    chain accept_to_lan { oifname "lan0" accept; }
    chain accept_to_wan { oifname "wan0" accept; }
    chain forward_mesh { jump accept_to_lan; }
}
"""
OFFLOADING = (
    "flowtable ft { hook ingress priority 0; devices = { lan0, wan0 }; }",
    "meta l4proto { tcp, udp } flow offload @ft",
)


@both_pythons
async def test_a_ruleset_in_the_form_of_openwrts_is_named_and_a_zone_of_the_mesh_mends_it(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        # not every kernel has flowtables
        table, offload = OFFLOADING
        if programs.attempt(f"nft 'table inet try {{ {table} }}; delete table inet try'").returncode:
            table = offload = ""
        programs.run(f"nft -f - <<'END'\n{FW4 % (table, offload, '')}\nEND")
        for ip in (NAS, NAS6):
            await refused(watched.home, ip)
        await watched.until(lambda told: len(told) == 1)
        what, mend = watched.troubles()[0]
        assert "OpenWrt's fw4" in what and "chain handle_reject of table inet fw4" in what
        tunnel = watched.home.board_interface
        assert f"uci set firewall.@zone[-1].device={tunnel}" in mend
        # what these commands have fw4 write
        zone = FW4 % (table, offload, f'iifname "{tunnel}" jump forward_mesh')
        programs.run(f"nft -f - <<'END'\ndelete table inet fw4\n{zone}\nEND")
        await watched.until(lambda told: not told)
        await passes(watched.home)


@both_pythons
async def test_rules_that_somebody_deletes_are_back_and_the_suspect_is_named(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        before = await watched.listed()
        programs.run("nft flush ruleset")
        await watched.until(lambda told: len(told) == 1)
        what, mend = watched.troubles()[0]
        name = Path(watched.home.board.nft[0]).name[:15]
        assert what.startswith(f"{name} (process ") and "deleted our packet filter" in what
        assert "its own table alone" in mend
        assert await watched.listed() == before
        await passes(watched.home)
        # a single rule of ours, a chain emptied, an element taken
        for command in (
            "flush chain inet wayhome forward",
            "flush chain inet wayhome from_tunnel",
            "flush set inet wayhome peers4",
            "delete table inet wayhome",
        ):
            times = watched.part.status()["put_back"]
            programs.run(f"nft '{command}'")
            await watched.until(lambda _told, times=times: watched.part.status()["put_back"] > times)
            assert await watched.listed() == before
        await passes(watched.home)


@both_pythons
async def test_a_program_that_deletes_without_end_is_not_raced(tmp_path):
    async with watched_home(tmp_path) as watched, programs_of(watched) as programs:
        programs.run("(while true; do nft flush ruleset; done) >/dev/null 2>&1 & echo $! >/run/deleting")
        await watched.until(lambda told: told and "again and again" in told[0][0])
        assert "the tunnel is shut" in watched.troubles()[0][0]
        programs.run("kill $(cat /run/deleting)")
        await watched.until(lambda told: told and "again and again" not in told[0][0])
        assert watched.board.asked
        await watched.apply()  # as the daemon does when it is asked
        await passes(watched.home)
        # each power of two is told once
        assert len(watched.board.lines) < 12


@both_pythons
async def test_policy_rules_and_forwarding_that_somebody_takes_back_are_set_again(tmp_path):
    async with watched_home(tmp_path) as watched:
        board = watched.home.board
        for take_back in (
            lambda: board.ip("rule", "del", "priority", "5270"),
            lambda: board.ip("-6", "rule", "del", "priority", "5210"),
            lambda: board.write("net/ipv4/ip_forward", "0"),
            lambda: board.write("net/ipv6/conf/all/forwarding", "0"),
        ):
            before = board.state()
            with board.inside():
                changed = asyncio.create_task(watched.home.board_plane.changed())
                await asyncio.sleep(0)
            take_back()
            async with asyncio.timeout(60):
                await changed  # the daemon applies its plan then
            await watched.apply()
            after = board.state()
            assert [key for key in before if before[key] != after[key]] == []
        await passes(watched.home)


@both_pythons
async def test_beside_another_firewall_stopping_leaves_everything_as_it_was(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        with Programs(home.board) as programs:
            programs.run("ufw --force enable")
            before = _counted_nothing(home.board.state())
            saved = programs.run("iptables-save; ip6tables-save | grep -v '^#'")
            await home.start()
            await home.apply_board(EVERYTHING)
            assert home.board.state()["nftables"] != before["nftables"]
            await home.stop()
            after = _counted_nothing(home.board.state())
            assert [key for key in before if before[key] != after[key]] == []
            assert _without_counters(programs.run("iptables-save; ip6tables-save | grep -v '^#'")) == _without_counters(
                saved
            )


def _without_counters(text: str) -> list[str]:
    return [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]


def _counted_nothing(state: dict[str, str]) -> dict[str, str]:
    return {**state, "nftables": re.sub(r"packets \d+ bytes \d+", "", state["nftables"])}
