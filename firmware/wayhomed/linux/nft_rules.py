"""Other programs' rules, nftables' and iptables-legacy's, read from the kernel: core.foreign_rules.Rules.

Not through libnftables: what it can't print it may crash on (nft 1.0.6 does), and a list of everything has no bound.
Here only those chains are read that a packet comes to, each once.

    nfgenmsg   family 1 | version 1 | resource id 2 (big-endian)          numbers in attributes are big-endian

Source: Linux, <linux/netfilter/nf_tables.h>, <linux/netfilter/nfnetlink.h>.
"""

import struct

from wayhomed.core.foreign_rules import ACCEPT, Chain, Rule, Rules, TooMany
from wayhomed.port import const
from wayhomed.wire.errors import BadWire

from . import legacy_rules, netlink

NETFILTER = const(12)  # the protocol number of nfnetlink
SUBSYSTEM = const(10 << 8)
_GETCHAIN = const(4)
_GETRULE = const(7)
_GETSETELEM = const(13)
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_NUMBERS = {"inet": 1, "ip": 2, "ip6": 10}
# Chosen by us
MOST_RULES = const(2_000)
_MOST_ELEMENTS = const(256)
_MOST_CHAINS = const(1_000)


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _signed(value: bytes) -> int:
    number = int.from_bytes(value, "big")
    return number - (1 << 32) if number >> 31 else number


def _text(value: bytes) -> str:
    return str(value.rstrip(b"\0"), "utf-8")


def _each(data: bytes):
    """Return the values of a list of attributes."""
    found = []
    offset = 0
    while offset + 4 <= len(data):
        length = struct.unpack_from("H", data, offset)[0]
        if length < 4 or offset + length > len(data):
            raise BadWire("a netlink attribute of %d bytes" % length)
        found.append(data[offset + 4 : offset + length])
        offset += length + 3 & ~3
    return found


def _value(data: bytes) -> bytes:
    return netlink.decode_attributes(data).get(1, b"")


def _verdict(data: bytes):
    """Return (code, chain) of a value that is a verdict, else None."""
    values = netlink.decode_attributes(data)
    if 2 not in values:
        return None
    parts = netlink.decode_attributes(values[2])
    return _signed(parts[1]), _text(parts.get(2, b""))


def decode_rule(payload: bytes) -> tuple:
    """Return (chain's name, Rule) of a message that names a rule. Raises BadWire."""
    try:
        values = netlink.decode_attributes(payload, 4)
        expressions = [_expression(item) for item in _each(values.get(4, b""))]
        return _text(values[2]), Rule(_number(values[3]), expressions)
    except (KeyError, IndexError, ValueError) as error:
        raise BadWire("a rule of nftables that makes no sense: %s" % error)


def _expression(data: bytes) -> tuple:
    """Return one expression as core.foreign_rules has it."""
    parts = netlink.decode_attributes(data)
    name, values = _text(parts[1]), netlink.decode_attributes(parts.get(2, b""))
    if name in ("meta", "ct"):
        if 1 in values:
            return name, _number(values[2]), _number(values[1])
        return ("sets",)
    if name == "payload":
        if 1 in values:
            return name, _number(values[2]), _number(values[3]), _number(values[4]), _number(values[1])
        return ("sets",)
    if name == "immediate":
        verdict = _verdict(values[2])
        if verdict is not None:
            return "verdict", verdict[0], verdict[1]
        return name, _number(values[1]), _value(values[2])
    if name == "bitwise" and 4 in values and 5 in values and not _number(values.get(6, b"\0")):
        return name, _number(values[1]), _number(values[2]), _value(values[4]), _value(values[5])
    if name == "cmp":
        return name, _number(values[1]), _number(values[2]), _value(values[3])
    if name == "range":
        return name, _number(values[1]), _number(values[2]), _value(values[3]), _value(values[4])
    if name == "lookup":
        to = _number(values[3]) if 3 in values else None
        return name, _text(values[1]), _number(values[2]), to, bool(_number(values.get(5, b"\0")) & 1)
    if name == "match":
        return name, _text(values[1]), _number(values.get(2, b"\0")), values.get(3, b"")
    if name == "target":
        return name, _text(values[1])
    if name == "reject":
        return "target", "REJECT"
    if name in ("bitwise", "byteorder"):
        return "loads", _number(values[2]), _number(values.get(3 if name == "bitwise" else 4, b"\x10"))
    if name == "exthdr" and not _number(values.get(6, b"\0")):
        if _number(values.get(5, b"\0")) & 1:
            return "immediate", _number(values[1]), b"\0"
        return ("never",)
    if name == "fib" and _number(values[2]) == 3 and _number(values[3]) & 3 == 2:
        return "kind", _number(values[1])
    if name in ("fib", "rt", "exthdr", "osf", "socket", "hash", "numgen", "tunnel", "xfrm", "inner"):
        register = values.get(2 if name in ("hash", "numgen") and 1 in values and name == "hash" else 1)
        return ("loads", _number(register), 16) if register else ("maybe",)
    if name in ("limit", "quota", "connlimit", "dynset", "synproxy", "objref"):
        return ("maybe",)
    return (name,)  # counter, log, nat and so on: they neither decide nor load


class KernelRules(Rules):
    """All tables but ours, as they are while this is used. Raises OSError where the kernel refuses."""

    def __init__(self, own_table: str):
        """own_table: its name; in which family does not matter."""
        self._own = own_table
        self._kernel = netlink.Netlink(NETFILTER)
        self._base: list | None = None
        self._chains: dict = {}
        self._sets: dict = {}
        self._names: set = set()
        self._legacy: dict = {}
        self._rules_read = 0

    def close(self) -> None:
        self._kernel.close()

    def base_chains(self) -> list:
        if self._base is None:
            base: list = []
            self._base = base
            count = 0
            for payload in self._kernel.dump(SUBSYSTEM | _GETCHAIN, bytes(4)):
                count += 1
                if count > _MOST_CHAINS:
                    raise TooMany()
                self._note_chain(payload, base)
            self._legacy = legacy_rules.tables()
            for (family, table), found in self._legacy.items():
                base.extend(found.base)
                for name in found.chains:
                    self._names.add((family, table, name))
        return self._base

    def _note_chain(self, payload: bytes, base: list) -> None:
        try:
            self._add_chain(payload, base)
        except (KeyError, IndexError, ValueError) as error:
            raise BadWire("a chain of nftables that makes no sense: %s" % error)

    def _add_chain(self, payload: bytes, base: list) -> None:
        family = FAMILIES.get(payload[0])
        values = netlink.decode_attributes(payload, 4)
        table = _text(values[1])
        if family is None or table == self._own:
            return
        self._names.add((family, table, _text(values[3])))
        if 4 in values and _text(values.get(7, b"")) != "nat":
            hook = netlink.decode_attributes(values[4])
            drops = 5 in values and _number(values[5]) != ACCEPT
            base.append(Chain(family, table, _text(values[3]), _number(hook[1]), _signed(hook[2]), drops))

    def names(self) -> set:
        """Return {(family, table, chain)} of all foreign chains."""
        self.base_chains()
        return self._names

    def chain(self, family: str, table: str, name: str) -> list:
        if (family, table) in self._legacy:
            return self._legacy[family, table].chains.get(name, [])
        key = (family, table, name)
        if key not in self._chains:
            found = []
            question = struct.pack("BBH", _NUMBERS[family], 0, 0)
            question += netlink.attribute(1, table.encode() + b"\0") + netlink.attribute(2, name.encode() + b"\0")
            for payload in self._kernel.dump(SUBSYSTEM | _GETRULE, question):
                self._rules_read += 1
                if self._rules_read > MOST_RULES:
                    raise TooMany()
                chain, rule = decode_rule(payload)
                if chain == name:
                    found.append(rule)
            self._chains[key] = found
        return self._chains[key]

    def elements(self, family: str, table: str, name: str):
        key = (family, table, name)
        if key not in self._sets:
            question = struct.pack("BBH", _NUMBERS[family], 0, 0)
            question += netlink.attribute(1, table.encode() + b"\0") + netlink.attribute(2, name.encode() + b"\0")
            found: list = []
            for payload in self._kernel.dump(SUBSYSTEM | _GETSETELEM, question):
                if len(found) <= _MOST_ELEMENTS:
                    found.extend(_each(netlink.decode_attributes(payload, 4).get(3, b"")))
            self._sets[key] = None if len(found) > _MOST_ELEMENTS else decode_elements(found)
        return self._sets[key]


def decode_elements(items: list) -> list:
    """Return [(first key, last key, verdict or None)] of a set's elements.

    A set of ranges names each where it begins and, flagged, the first key after it. Raises BadWire.
    """
    try:
        return _decode_elements(items)
    except (KeyError, ValueError) as error:
        raise BadWire("a set of nftables that makes no sense: %s" % error)


def _decode_elements(items: list) -> list:
    singles: list = []
    ends: list = []
    for item in items:
        values = netlink.decode_attributes(item)
        flags = _number(values.get(3, b"\0"))
        if flags & 2:
            singles.append((None, None, _verdict(values[2]) if 2 in values else None))
            continue
        key = _value(values[1])
        if flags & 1:
            ends.append(key)
            continue
        last = _value(values[10]) if 10 in values else key
        singles.append((key, last, _verdict(values[2]) if 2 in values else None))
    if not ends:
        return singles
    ends.sort()
    found = []
    for low, high, verdict in singles:
        if low is not None:
            after = [end for end in ends if end > low]
            high = _before(after[0]) if after else b"\xff" * len(low)
        found.append((low, high, verdict))
    return found


def _before(key: bytes) -> bytes:
    return (int.from_bytes(key, "big") - 1).to_bytes(len(key), "big")
