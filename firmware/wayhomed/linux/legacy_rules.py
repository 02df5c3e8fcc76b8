"""The rules of iptables-legacy, read from the kernel as it has them, in the words of core.foreign_rules.

One socket option gives a whole table: entries one after the other, which jump to each other by their place.

    ipt_getinfo    name 32 | valid hooks 4 | where each hook begins 5*4 | where it ends 5*4 | entries 4 | bytes 4
    ipt_entry      ipt_ip 84 | cache 4 | target at 2 | next at 2 | from 4 | counters 16 | matches | target
    ipt_ip         source 4 | destination 4 | their masks 8 | interfaces in and out 16+16 | their masks 16+16
                   | protocol 2 | flags 1 | inverted 1
    ip6t_entry     ip6t_ip6 136 | cache 4 | target at 2 | next at 2 | from 4 | counters 16 (at 152) | matches | target
    ip6t_ip6       source 16 | destination 16 | their masks 32 | interfaces 32 | their masks 32 | protocol 2 | tos 1
                   | flags 1 | inverted 1
    match, target  bytes 2 | name 29 | revision 1 | data; a target without name has its verdict, 4, for data

Only tables that the kernel has already are asked for: to ask for another makes it. Source: Linux,
<linux/netfilter_ipv4/ip_tables.h>, <linux/netfilter_ipv6/ip6_tables.h>, <linux/netfilter/x_tables.h>.
"""

import struct

from wayhomed.core.foreign_rules import ACCEPT, DROP, FORWARD, GOTO, INPUT, JUMP, RETURN, Chain, Rule
from wayhomed.port import const, packets
from wayhomed.wire.errors import BadWire

_GET_INFO = const(64)
_GET_ENTRIES = const(65)
_INFO_BYTES = const(84)
_HEAD_BYTES = const(40)
_NAME_BYTES = const(32)
# (family's name, file of its tables' names, size of an address, level of socket options)
FAMILIES = (("legacy ip", "/proc/net/ip_tables_names", 4, 0), ("legacy ip6", "/proc/net/ip6_tables_names", 16, 41))
# (table, priority): those that may drop what is forwarded or comes in
_TABLES = (("filter", 0), ("mangle", -150), ("security", 50))
_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_ASKED = (INPUT, FORWARD)
# Chosen by us
MOST_BYTES = const(1_000_000)


class Table:
    """One table: base chains [Chain], rules {chain's name: [Rule]}."""

    def __init__(self, base: list, chains: dict):
        self.base = base
        self.chains = chains


def tables() -> dict:
    """Return {(family, table): Table} of those that there are. Raises OSError, BadWire."""
    found = {}
    for family, path, size, level in FAMILIES:
        try:
            with open(path) as file:
                names = file.read(4096).split("\n")
        except OSError:
            continue  # a kernel without them, or not for us to read
        for name, priority in _TABLES:
            if name in names:
                hooks, underflows, data = _read(name, size, level)
                found[(family, name)] = decode(family, name, priority, size, hooks, underflows, data)
    return found


def _read(name: str, size: int, level: int) -> tuple:
    """Return (where hooks begin {hook: place}, where they end {hook: place}, the entries)."""
    asking = packets.raw_socket(255) if size == 4 else packets.raw_socket6(255)
    try:
        info = bytearray(_INFO_BYTES)
        info[: len(name)] = name.encode()
        packets.get_option(asking, level, _GET_INFO, info)
        values = struct.unpack_from("IIIIIIIIIIIII", info, _NAME_BYTES)
        length = values[12]
        if length > MOST_BYTES:
            raise BadWire("a table of iptables of %d bytes" % length)
        data = bytearray(_HEAD_BYTES + length)
        data[: len(name)] = name.encode()
        struct.pack_into("I", data, _NAME_BYTES, length)
        packets.get_option(asking, level, _GET_ENTRIES, data)
    finally:
        asking.close()
    hooks = {hook: values[1 + hook] for hook in range(len(_HOOKS)) if values[0] & 1 << hook}
    underflows = {hook: values[6 + hook] for hook in hooks}
    return hooks, underflows, bytes(data[_HEAD_BYTES:])


def decode(family: str, name: str, priority: int, size: int, hooks: dict, underflows: dict, data: bytes) -> Table:
    """Return the Table that these entries are. Raises BadWire."""
    try:
        return _decode(family, name, priority, size, hooks, underflows, data)
    except (ValueError, IndexError, KeyError) as error:
        raise BadWire("a table of iptables that makes no sense: %s" % error)


def _decode(family: str, name: str, priority: int, size: int, hooks: dict, underflows: dict, data: bytes) -> Table:
    head = 84 if size == 4 else 136
    body = 112 if size == 4 else 168
    entries = []  # (place, place of the next, target's name, verdict, whether it comes back, expressions)
    starts = {}  # {place: chain's name}
    at = 0
    while at < len(data):
        if at + body > len(data):
            raise ValueError("half an entry")
        target_at, next_at = struct.unpack_from("HH", data, at + head + 4)
        if next_at < body or target_at < body or target_at > next_at or at + next_at > len(data):
            raise ValueError("an entry of %d bytes" % next_at)
        target, _revision, content = _part(data, at + target_at)
        if target == "ERROR":  # marks where a chain of the user's begins, or the end
            starts[at + next_at] = str(content.split(b"\0")[0], "utf-8")
        if not target and len(content) < 4:
            raise ValueError("a target without a verdict")
        verdict = struct.unpack_from("i", content)[0] if not target else 0
        goes = bool(data[at + 82] & 2 if size == 4 else data[at + 131] & 4)
        expressions = _matches(data, at, size, at + body, at + target_at)
        entries.append((at, at + next_at, target, verdict, goes, expressions))
        at += next_at
    for hook, place in hooks.items():
        starts[place] = _HOOKS[hook]
    base = []
    chains: dict = {}
    current: list = []
    for place, following, target, verdict, goes, expressions in entries:
        if place in starts:
            current = chains[starts[place]] = []
        if target == "ERROR":
            continue
        if not target:
            expressions.append(_verdict(verdict, following, GOTO if goes else JUMP, starts))
        else:
            expressions.append(("target", target))
        for hook, end in underflows.items():
            if place == end:
                drops = expressions[-1][:2] == ("verdict", DROP)
                if hook in _ASKED:
                    base.append(Chain(family, name, _HOOKS[hook], hook, priority, drops))
                break
        else:
            current.append(Rule(len(current) + 1, expressions))
    return Table(base, chains)


def _verdict(verdict: int, following: int, jump: int, starts: dict) -> tuple:
    """Return a verdict as nftables has it. Negative ones are -1 - verdict, but for RETURN; others are places."""
    if verdict == -5:
        return "verdict", RETURN, ""
    if verdict < 0:
        return "verdict", {-1: DROP, -2: ACCEPT}.get(verdict, -verdict - 1), ""
    if verdict == following:
        return ("continue",)
    return "verdict", jump, starts[verdict]


def _part(data: bytes, at: int) -> tuple:
    """Return (name, revision, content) of a match or target."""
    length = struct.unpack_from("H", data, at)[0] if at + _NAME_BYTES <= len(data) else 0
    if length < _NAME_BYTES or at + length > len(data):
        raise ValueError("a part of %d bytes" % length)
    name = str(data[at + 2 : at + 31].split(b"\0")[0], "utf-8")
    return name, data[at + 31], data[at + _NAME_BYTES : at + length]


def _matches(data: bytes, at: int, size: int, begin: int, end: int) -> list:
    """Return what an entry asks of a packet."""
    found: list = []
    inverted = data[at + (83 if size == 4 else 132)]
    source, destination, masks = at, at + size, at + 2 * size
    names = at + 4 * size
    for which, place, offset, bit in (
        (0, source, 12 if size == 4 else 8, 8),
        (1, destination, 16 if size == 4 else 24, 16),
    ):
        mask = data[masks + which * size : masks + (which + 1) * size]
        if mask != bytes(size):
            found.append(("payload", 1, offset, size, 1))
            found.append(("bitwise", 1, 1, mask, bytes(size)))
            found.append(("cmp", 1, 1 if inverted & bit else 0, data[place : place + size]))
    for which, key, bit in ((0, 6, 1), (1, 7, 2)):
        name = data[names + 16 * which : names + 16 * which + 16]
        mask = data[names + 32 + 16 * which : names + 48 + 16 * which]
        length = len(mask.rstrip(b"\0"))
        if length:
            found.append(("meta", key, 1))
            found.append(("cmp", 1, 1 if inverted & bit else 0, name[:length]))
    protocol = struct.unpack_from("H", data, names + 64)[0]
    if protocol:
        found.append(("meta", 16, 1))
        found.append(("cmp", 1, 1 if inverted & 0x40 else 0, bytes([protocol & 0xFF])))
    if inverted & 0x20:  # "! -f"
        found.append(("maybe",))
    while begin < end:
        name, revision, content = _part(data, begin)
        found.append(("match", name, revision, content))
        begin += struct.unpack_from("H", data, begin)[0]
    return found
