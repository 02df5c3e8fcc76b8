"""Other programs' firewalls beside ours: whether they let the tunnel's packets through, and who deletes our rules.

Looked at when the plan or somebody's nftables rules change. What stands in the way is named with the command that mends
it; it is never changed by us. Our own table is put back when somebody else touches it, with the name of the process
that the kernel tells. One that does it without end is not raced: then the tunnel is shut between two times.
"""

import asyncio

from wayhomed.core import foreign_programs as programs
from wayhomed.core import foreign_rules as judging
from wayhomed.core.pace import Pace
from wayhomed.linux.errors import DataPlaneError
from wayhomed.linux.firewall import FROM_TUNNEL_MARK, TABLE
from wayhomed.port import const, monotonic_ms
from wayhomed.port.tasks import run_all, sleep_ms
from wayhomed.wire.errors import BadWire

from .part import Part, Trouble

# Chosen by us
_SETTLE_MS = const(300)  # programs write their rules in several changes
_LOOKS_AT_ONCE = const(5)
_LOOK_EVERY_MS = const(5_000)
_BACK_AT_ONCE = const(10)
_BACK_EVERY_MS = const(2_000)
_REMEMBERED_MS = const(3_600_000)
_MOST_TARGETS = const(8)
_UDP = const(17)
_TCP = const(6)
# Somewhere on the internet: documentation addresses, RFC 5737 and RFC 3849
_OUTSIDE = {4: bytes((192, 0, 2, 1)), 16: bytes((0x20, 0x01, 0x0D, 0xB8)) + bytes(11) + b"\x01"}
_VERDICTS = {judging.PASSES: "passes", judging.DROPPED: "dropped", judging.UNKNOWN: "can't tell"}


class ForeignRules(Part):
    """Watches over the tunnel's packets in other programs' hands. status(): see docs/lan/foreign-firewalls.md."""

    name = "foreign_firewalls"

    def __init__(self, board):
        super().__init__(board)
        self._look_due = asyncio.Event()
        self._looks = Pace(_LOOKS_AT_ONCE, _LOOK_EVERY_MS)
        self._backs = Pace(_BACK_AT_ONCE, _BACK_EVERY_MS)
        self._targets: list = []  # one ip of the LAN for each network that we forward to
        self._travellers: dict = {}  # {size of an address: ip of a peer}
        self._found: list = []
        self._programs: list = []
        self._problem = ""
        self._has_legacy = False
        self._put_back = 0
        self._put_back_ms: int | None = None
        self._suspect = ""
        self._suspect_name = ""
        self._what = ""
        self._fights = False

    # --- From the daemon ---

    def applied(self, plan, facts) -> None:
        del facts
        travellers = {}
        for size, ranges in ((4, plan.firewall.peers.v4), (16, plan.firewall.peers.v6)):
            if ranges:
                travellers[size] = ranges[0][0]
        targets = self._lan_targets(plan) if plan.forwarding else []
        # The kernel tells nobody of changes to iptables-legacy's rules: those are looked at with every plan.
        if (targets, travellers) != (self._targets, self._travellers) or self._has_legacy:
            self._targets, self._travellers = targets, travellers
            self._look_due.set()

    def look_again(self) -> None:
        """Try the packets once more, as soon as may be."""
        self._look_due.set()

    def _lan_targets(self, plan) -> list:
        """Return an ip for each network behind us, those of published devices first."""
        found = [target for device in plan.firewall.published for _mesh_ip, target in device.pairs]
        prefixes = getattr(self._board, "advertised", None)
        for ip, length in prefixes() if prefixes else self._board.state.prefs.advertise_routes:
            # not the network's own address; any other leads the same way
            last = 1 if length < 8 * len(ip) else 0
            found.append((int.from_bytes(ip, "big") | last).to_bytes(len(ip), "big"))
        return found[:_MOST_TARGETS]

    async def stand(self, data_plane) -> None:
        self._look_due.set()
        try:
            news = data_plane.nft_news()
        except DataPlaneError as error:
            self._board.log.warning("changes to nftables can't be heard: %s" % error)
            await self._look_on(data_plane)
            return
        try:
            await run_all(self._watch(data_plane, news), self._look_on(data_plane))
        finally:
            news.close()

    # --- Our own rules ---

    async def _watch(self, data_plane, news) -> None:
        try:
            data_plane.make_news()
        except DataPlaneError:
            data_plane.put_rules_back()  # somebody has deleted the table since it was made
        changes = news.now()
        own_pid = _own_pid(changes, data_plane.own_name())
        while True:
            while changes:
                own_pid, changes = await self._handle(changes, own_pid, data_plane, news)
            changes = await news.changes()

    async def _handle(self, changes: list, own_pid: int, data_plane, news) -> tuple:
        """Put our table back if others touched it; return our process as the kernel numbers it, what came later."""
        if [change for change in changes if change.lost or not change.ours or change.pid != own_pid]:
            self._look_due.set()
        guilty = [change for change in changes if change.ours and change.pid != own_pid]
        if not guilty:
            return own_pid, []
        wait_ms = self._backs.wait_ms(monotonic_ms())
        self._fights = wait_ms > 0
        if wait_ms:
            data_plane.shut()
            self._told(guilty)
            await sleep_ms(wait_ms)
            news.now()
        self._backs.done(monotonic_ms())
        data_plane.put_rules_back()
        later = news.now()
        own_pid = own_pid or _own_pid(later, data_plane.own_name())
        if wait_ms:
            self._fights = False
            self._board.apply_again()  # routes went with the interface
            self._board.tell()
        else:
            self._told(guilty)
        return own_pid, _after_last(later, own_pid)

    def _told(self, guilty: list) -> None:
        """Say who did it: once for one who goes on and on."""
        change = guilty[-1]
        for one in guilty:
            if one.deleted:
                change = one
        what = "deleted" if change.deleted else "changed"
        suspect = "an unknown program"
        if change.name:
            suspect = "%s (process %d)" % (change.name, change.pid)
        again = change.name == self._suspect_name and self._is_remembered()
        self._suspect, self._suspect_name = suspect, change.name
        self._what = what
        self._put_back += 1
        self._put_back_ms = monotonic_ms()
        if not again or self._put_back & (self._put_back - 1) == 0:  # of many times each power of two
            self._board.log.warning(self._words())
        self._board.tell()

    def _words(self) -> str:
        times = "" if self._put_back == 1 else ", %d times so far" % self._put_back
        if self._fights:
            return "%s %s our packet filter again and again%s: the tunnel is shut until it has been put back" % (
                self._suspect,
                self._what,
                times,
            )
        return "%s %s our packet filter (nftables table %s); it was put back%s" % (
            self._suspect,
            self._what,
            TABLE,
            times,
        )

    def _is_remembered(self) -> bool:
        return self._put_back_ms is not None and monotonic_ms() - self._put_back_ms < _REMEMBERED_MS

    # --- Others' rules ---

    async def _look_on(self, data_plane) -> None:
        while True:
            await self._look_due.wait()
            await sleep_ms(_SETTLE_MS)
            await sleep_ms(self._looks.wait_ms(monotonic_ms()))
            self._looks.done(monotonic_ms())
            self._look_due.clear()
            before = [trouble.what for trouble in self.troubles()]
            self._look(data_plane)
            after = self.troubles()
            for trouble in after:
                if trouble.what not in before:
                    self._board.log.warning(trouble.what + "; to mend it: " + trouble.mend)
            self._board.tell()

    def _look(self, data_plane) -> None:
        """Try the packets that have to get through on all foreign rules."""
        self._found, self._problem = [], ""
        try:
            rules = data_plane.foreign_rules()
        except DataPlaneError as error:
            self._problem = "other programs' rules can't be read: %s" % error
            return
        try:
            names = rules.names()
            self._programs = sorted(
                {programs.owner_of(chain.family, chain.table, names) for chain in rules.base_chains()}
            )
            self._has_legacy = bool([family for family, _table, _chain in names if family.startswith("legacy")])
            self._try_packets(data_plane, rules, names)
        except judging.TooMany:
            self._problem = "other programs have too many rules to be looked through; wayhomectl explain tries them"
        except (OSError, BadWire) as error:
            self._problem = "other programs' rules can't be read: %s" % error
        finally:
            rules.close()

    def _try_packets(self, data_plane, rules, names: set) -> None:
        tunnel = data_plane.interface
        seen = []
        for target in self._targets:
            way = data_plane.way_to(target)
            traveller = self._travellers.get(len(target))
            if way is None or traveller is None or (way, len(target)) in seen:
                continue
            seen.append((way, len(target)))
            there = judging.Packet(len(target), tunnel, way, judging.NEW)
            there.mark = FROM_TUNNEL_MARK
            there.source, there.destination = traveller, target
            back = judging.Packet(len(target), way, tunnel, judging.ESTABLISHED)
            back.source, back.destination = target, traveller
            for what, packet in (("to the LAN", there), ("answers", back)):
                packet.protocol = _TCP
                packet.translated = False
                self._note(what, way[0], judging.judge(rules, packet, judging.FORWARD), names, tunnel[0], len(target))
        for size in (4, 16):
            uplink = data_plane.way_to(_OUTSIDE[size])
            if uplink is None:
                continue
            packet = judging.Packet(size, uplink, ("", 0), judging.NEW)
            packet.protocol, packet.destination_port, packet.translated = _UDP, data_plane.port, False
            answer = judging.judge(rules, packet, judging.INPUT)
            if answer.verdict == judging.DROPPED:
                program = programs.owner(answer.blame, names)
                mend = programs.mend_port(program, answer.blame, data_plane.port)
                self._found.append(_finding("WireGuard", "", size, answer, program, mend))

    def _note(self, what: str, interface: str, answer, names: set, tunnel: str, size: int) -> None:
        program = mend = ""
        if answer.blame is not None:
            program = programs.owner(answer.blame, names)
            mend = programs.mend_forwarding(program, answer.blame, tunnel)
        self._found.append(_finding(what, interface, size, answer, program, mend))

    # --- For the status ---

    def troubles(self) -> list:
        found = []
        if self._put_back and (self._fights or self._is_remembered()):
            found.append(Trouble(self._words(), programs.mend_deleting(self._suspect_name)))
        told: list = []
        for one in self._found:
            if one["verdict"] == "dropped" and one["what"] != "WireGuard" and one["mend"] not in told:
                told.append(one["mend"])
                found.append(
                    Trouble(
                        "%s lets nothing through between the mesh and %s (IPv%d): %s drops it"
                        % (one["program"], one["interface"], one["family"], one["rule"]),
                        one["mend"],
                    )
                )
        if self._problem:
            found.append(Trouble(self._problem, "nft list ruleset shows them"))
        return found

    def status(self) -> dict:
        return {"programs": self._programs, "packets": self._found, "put_back": self._put_back, "by": self._suspect}


def _finding(what: str, interface: str, size: int, answer, program: str, mend: str) -> dict:
    """Return what became of one packet, ready for JSON."""
    blame = answer.blame
    return {
        "what": what,
        "interface": interface,
        "family": 4 if size == 4 else 6,
        "verdict": _VERDICTS[answer.verdict],
        "program": program,
        "rule": "" if blame is None else blame.words(),
        "show": "" if blame is None else blame.command(),
        "mend": mend,
    }


def _own_pid(changes: list, own_name: str) -> int:
    """Return our process as the kernel numbers it, from what it told right after a change of ours; 0 if not known.

    Within a container its number is another than the one we know ourselves by.
    """
    for change in reversed(changes):
        if change.ours and change.pid and change.name == own_name:
            return change.pid
    return 0


def _after_last(changes: list, pid: int) -> list:
    """Return what came after the last change by this process."""
    later: list = []
    for change in changes:
        if change.pid == pid:
            later = []
        else:
            later.append(change)
    return later
