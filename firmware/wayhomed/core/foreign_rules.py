"""What other programs' firewalls do with a packet: their rules are tried on what is known of it, as the kernel would.

A rule is a list of the kernel's own expressions, which load a part of the packet into registers and compare it there.
What is not known of the packet, and what is not understood of a rule, may be anything: then both outcomes are followed,
and the answer may be "can't tell". Every base chain at a hook is asked in the order of priorities, whoever made it:
what one accepts, a later one may still drop. Expressions, as tuples:

    ("meta", key, register)                     ("ct", key, register)
    ("payload", base, offset, length, register) ("immediate", register, bytes)
    ("bitwise", from, to, mask, xor)            ("cmp", register, operator, bytes)
    ("range", register, operator, low, high)    ("lookup", set's name, register, to or None, inverted)
    ("verdict", code, chain's name)             ("match", name, revision, bytes)        xtables, of iptables-nft
    ("target", name)                            ("loads", register, length)             something that is not known here
    ("kind", register)  of the destination      ("maybe",)  may match                   ("never",)  does not match
    anything else changes neither the packet's way nor a register

Packets are plain ones: without options of IPv4 or extension headers of IPv6.

Numbers and layouts: Linux, <linux/netfilter/nf_tables.h>, <linux/netfilter/xt_conntrack.h>.
"""

import struct

from wayhomed.port import const

# Hooks that packets for elsewhere and packets for this machine pass
PREROUTING = const(0)
INPUT = const(1)
FORWARD = const(2)
POSTROUTING = const(4)
# Answers
PASSES = const(0)
DROPPED = const(1)
UNKNOWN = const(2)
# Connection states, as bits
INVALID = const(1)
ESTABLISHED = const(2)
RELATED = const(4)
NEW = const(8)
# Verdicts
DROP = const(0)
ACCEPT = const(1)
_QUEUE = const(3)
CONTINUE = const(-1)
_BREAK = const(-2)
JUMP = const(-3)
GOTO = const(-4)
RETURN = const(-5)
# What rules load
_META_MARK = const(3)
_META_IIF = const(4)
_META_OIF = const(5)
_META_IIFNAME = const(6)
_META_OIFNAME = const(7)
_META_NFPROTO = const(15)
_META_L4PROTO = const(16)
_CT_STATE = const(0)
_CT_DIRECTION = const(1)
_CT_STATUS = const(2)
_NETWORK = const(1)
_TRANSPORT = const(2)
_NAME_BYTES = const(16)
_REGISTER_BYTES = const(64)
_NO, _YES, _MAYBE = 0, 1, 2
# operators of "cmp"
_EQUAL, _UNEQUAL, _LESS, _AT_MOST, _MORE, _AT_LEAST = 0, 1, 2, 3, 4, 5
_UNICAST = const(1)  # kinds of a destination
_LOCAL = const(2)
_XT_STATE = const(1)
_XT_STATE_AT = const(146)  # match_flags, invert_flags and state_mask of struct xt_conntrack_mtinfo1 and later
# Chosen by us
_MOST_DEPTH = const(16)  # the kernel's own limit is not far above
MOST_STEPS = const(3_000)  # rules looked at for one packet

_TCP_UDP = (6, 17)


class TooMany(Exception):
    """There are more rules than are looked through."""


class Packet:
    """What is known of a packet; what is None may be anything.

    size: of an address in bytes, 4 or 16; incoming, outgoing: (name, index) of interfaces, ("", 0) for none; state: of
    its connection, one bit; translated: whether its destination was; source, destination: ip bytes; ports: numbers.
    """

    def __init__(self, size: int, incoming=None, outgoing=None, state: int = NEW):
        self.size = size
        self.incoming = incoming
        self.outgoing = outgoing
        self.state = state
        self.mark: int | None = None
        self.protocol: int | None = None
        self.source: bytes | None = None
        self.destination: bytes | None = None
        self.source_port: int | None = None
        self.destination_port: int | None = None
        self.translated: bool | None = None


class Chain:
    """One base chain: family ("ip", "ip6", "inet"), table, name, hook, priority, whether its policy is to drop."""

    def __init__(self, family: str, table: str, name: str, hook: int, priority: int, drops: bool):
        self.family = family
        self.table = table
        self.name = name
        self.hook = hook
        self.priority = priority
        self.drops = drops


class Rule:
    def __init__(self, handle: int, expressions: list):
        self.handle = handle
        self.expressions = expressions


class Blame:
    """What drops or may drop: the table, the chain that the rule stands in, its handle; None: the chain's policy.

    base: the base chain from which it is come to.
    """

    def __init__(self, family: str, table: str, chain: str, handle: int | None, base: str = ""):
        self.family = family
        self.table = table
        self.chain = chain
        self.handle = handle
        self.base = base or chain

    def words(self) -> str:
        where = "chain %s of table %s %s" % (self.chain, self.family, self.table)
        if self.handle is None:
            return "the policy of " + where
        return "rule %d of %s" % (self.handle, where)

    def command(self) -> str:
        """Return the command that shows it."""
        if self.family == "legacy ip":
            return "iptables-legacy -L %s -v -n --line-numbers" % self.chain
        if self.family == "legacy ip6":
            return "ip6tables-legacy -L %s -v -n --line-numbers" % self.chain
        return "nft -a list chain %s %s %s" % (self.family, self.table, self.chain)


class Answer:
    """verdict: PASSES, DROPPED or UNKNOWN; blame: the first thing that drops or may drop, None if it passes."""

    def __init__(self, verdict: int, blame):
        self.verdict = verdict
        self.blame = blame


class Rules:
    """What is asked for rules; linux.nft_rules has the kernel's."""

    def base_chains(self) -> list:
        """Return all Chains that are not ours."""
        raise NotImplementedError

    def chain(self, family: str, table: str, name: str) -> list:
        """Return the Rules of a chain. May raise TooMany."""
        raise NotImplementedError

    def elements(self, family: str, table: str, name: str):
        """Return a set's content, or None if it is not to be had.

        [(first key, last key, verdict (code, chain) or None)]; a first key of None stands for what no other has.
        """
        raise NotImplementedError


def judge(rules: Rules, packet: Packet, hook: int) -> Answer:
    """Tell whether a packet gets past all foreign chains of one hook. May raise TooMany."""
    families = ("inet", "ip" if packet.size == 4 else "ip6", "legacy ip" if packet.size == 4 else "legacy ip6")
    chains = [chain for chain in rules.base_chains() if chain.hook == hook and chain.family in families]
    chains.sort(key=lambda chain: chain.priority)
    doubt = None
    for chain in chains:
        accepted, blames = _Walk(rules, packet, chain).outcomes()
        if blames and not accepted:
            return Answer(DROPPED, blames[0])
        if blames and doubt is None:
            doubt = blames[0]
    return Answer(PASSES if doubt is None else UNKNOWN, doubt)


class _Walk:
    """One packet's way through one base chain."""

    def __init__(self, rules: Rules, packet: Packet, base: Chain):
        self._rules = rules
        self._packet = packet
        self._base = base
        self._steps = 0
        self._accepts = False
        self._blames: list = []

    def outcomes(self) -> tuple:
        """Return (whether it may be accepted, [Blame of what may drop it])."""
        base = self._base
        if self._through(base.name, 0):
            if base.drops:
                self._blame(base.name, None)
            else:
                self._accepts = True
        return self._accepts, self._blames

    def _blame(self, chain: str, handle) -> None:
        self._blames.append(Blame(self._base.family, self._base.table, chain, handle, self._base.name))

    def _through(self, name: str, depth: int) -> bool:
        """Walk one chain; return whether the packet may come out at its end."""
        if depth > _MOST_DEPTH:
            raise TooMany()
        comes_out = False
        for rule in self._rules.chain(self._base.family, self._base.table, name):
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise TooMany()
            matched, verdicts = self._try(rule)
            if matched == _NO:
                continue
            goes_on = matched == _MAYBE
            for code, target in verdicts:
                if code == DROP:
                    self._blame(name, rule.handle)
                elif code == ACCEPT:
                    self._accepts = True
                elif code == _QUEUE:  # a program decides
                    self._accepts = True
                    self._blame(name, rule.handle)
                elif code == JUMP:
                    goes_on = self._through(target, depth + 1) or goes_on
                elif code == GOTO:
                    comes_out = self._through(target, depth + 1) or comes_out
                elif code == RETURN:
                    comes_out = True
                else:
                    goes_on = True
            if not goes_on:
                return comes_out
        return True

    def _try(self, rule: Rule) -> tuple:
        """Return (_NO, _YES or _MAYBE, [(verdict, chain)] that it may have)."""
        registers = _Registers()
        matched = _YES
        for expression in rule.expressions:
            kind = expression[0]
            result = _YES
            if kind == "verdict":
                return matched, [(expression[1], expression[2])]
            if kind == "target":
                verdict = {"REJECT": DROP, "DROP": DROP, "ACCEPT": ACCEPT}.get(expression[1])
                if verdict is not None:
                    return matched, [(verdict, "")]
            elif kind == "meta":
                registers.load(expression[2], *self._meta(expression[1]))
            elif kind == "ct":
                registers.load(expression[2], *self._connection(expression[1]))
            elif kind == "payload":
                registers.load(expression[4], self._payload(*expression[1:4]), expression[3])
            elif kind == "immediate":
                registers.load(expression[1], expression[2], len(expression[2]))
            elif kind == "bitwise":
                registers.mask(*expression[1:5])
            elif kind == "cmp":
                result = registers.compare(expression[1], expression[2], expression[3])
            elif kind == "range":
                result = registers.within(expression[1], expression[2], expression[3], expression[4])
            elif kind == "lookup":
                result, verdicts = self._look_up(registers, expression)
                if expression[3] == 0 and result != _NO:
                    return result if matched == _YES else matched, verdicts
            elif kind == "match":
                result = self._match(expression[1], expression[2], expression[3])
            elif kind == "loads":
                registers.load(expression[1], None, expression[2])
            elif kind == "kind":
                registers.load(expression[1], struct.pack("I", self._kind()), 4)
            elif kind == "maybe":
                result = _MAYBE
            elif kind == "never":
                result = _NO
            if result == _NO:
                return _NO, []
            if result == _MAYBE:
                matched = _MAYBE
        return matched, [(CONTINUE, "")]

    def _meta(self, key: int) -> tuple:
        """Return (value or None, its length)."""
        packet = self._packet
        if key in (_META_IIFNAME, _META_OIFNAME):
            interface = packet.incoming if key == _META_IIFNAME else packet.outgoing
            if interface is None:
                return None, _NAME_BYTES
            name = interface[0].encode()
            return name + bytes(_NAME_BYTES - len(name)), _NAME_BYTES
        if key in (_META_IIF, _META_OIF):
            interface = packet.incoming if key == _META_IIF else packet.outgoing
            return None if interface is None else struct.pack("I", interface[1]), 4
        if key == _META_NFPROTO:
            return b"\x02" if packet.size == 4 else b"\x0a", 1
        if key == _META_L4PROTO:
            return None if packet.protocol is None else bytes([packet.protocol]), 1
        if key == _META_MARK:
            return None if packet.mark is None else struct.pack("I", packet.mark), 4
        return None, 4

    def _connection(self, key: int) -> tuple:
        packet = self._packet
        if key == _CT_STATE:
            return struct.pack("I", packet.state), 4
        if key == _CT_DIRECTION:
            return (b"\0" if packet.state == NEW else None), 1
        if key == _CT_STATUS:
            return None if packet.translated is None else struct.pack("I", 0x20 if packet.translated else 0), 4
        return None, 4

    def _payload(self, base: int, offset: int, length: int):
        packet = self._packet
        known: tuple = ()
        if base == _NETWORK:
            protocol = None if packet.protocol is None else bytes([packet.protocol])
            if packet.size == 4:
                known = ((9, protocol), (12, packet.source), (16, packet.destination))
            else:
                known = ((6, protocol), (8, packet.source), (24, packet.destination))
        elif base == _TRANSPORT and packet.protocol in _TCP_UDP:
            known = ((0, _port_bytes(packet.source_port)), (2, _port_bytes(packet.destination_port)))
        for start, value in known:
            if value is not None and start <= offset and offset + length <= start + len(value):
                return value[offset - start : offset - start + length]
        return None

    def _look_up(self, registers, expression: tuple) -> tuple:
        _kind, name, register, to, inverted = expression
        elements = self._rules.elements(self._base.family, self._base.table, name)
        if elements is None:
            verdicts = [(DROP, ""), (ACCEPT, "")]
            if to:
                registers.load(to, None, 16)
            return _MAYBE, verdicts
        found, verdicts, fallback = _NO, [], None
        for low, high, verdict in elements:
            if low is None:
                fallback = verdict or (CONTINUE, "")
                continue
            if low == high:
                is_in = registers.compare(register, _EQUAL, low)
            else:
                is_in = registers.within(register, _EQUAL, low, high)
            if is_in == _NO:
                continue
            verdicts.append(verdict or (CONTINUE, ""))
            found = is_in
            if is_in == _YES:
                verdicts = [verdict or (CONTINUE, "")]
                break
        if fallback is not None and found != _YES:
            verdicts.append(fallback)
            found = _YES
        if to:
            registers.load(to, None, 16)
        if inverted:
            found = {_NO: _YES, _YES: _NO, _MAYBE: _MAYBE}[found]
        return found, verdicts

    def _kind(self) -> int:
        return _LOCAL if self._base.hook == INPUT else _UNICAST

    def _match(self, name: str, revision: int, info: bytes) -> int:
        if name == "comment":
            return _YES
        if name in ("rt", "frag", "hbh", "dst", "ipv6header"):
            return _NO
        if name in ("tcp", "udp") and len(info) >= 12 - 3 * (name == "udp"):
            return self._match_ports(name, info)
        if name == "addrtype" and revision == 1 and len(info) >= 8:
            source, destination, flags = struct.unpack_from("HHI", info)
            if not source and destination and flags in (0, 2):
                return _YES if bool(destination & 1 << self._kind()) != (flags == 2) else _NO
        if name == "conntrack" and revision >= 1 and len(info) >= _XT_STATE_AT + 6:
            flags, inverted = struct.unpack_from("HH", info, _XT_STATE_AT)
            if flags & ~_XT_STATE == 0 and flags:
                mask = struct.unpack_from("H", info, _XT_STATE_AT + 4)[0] if revision > 1 else info[_XT_STATE_AT + 4]
                return _YES if bool(self._packet.state & mask) != bool(inverted & _XT_STATE) else _NO
        if name == "state" and len(info) >= 4:
            return _YES if self._packet.state & struct.unpack_from("I", info)[0] else _NO
        return _MAYBE

    def _match_ports(self, name: str, info: bytes) -> int:
        """struct xt_tcp and xt_udp: first and last source port, first and last destination port, ..., inversions."""
        packet = self._packet
        if packet.protocol is None:
            return _MAYBE
        if packet.protocol != (6 if name == "tcp" else 17):
            return _NO
        first, last, to_first, to_last = struct.unpack_from("HHHH", info)
        inverted = info[11] if name == "tcp" else info[8]
        matched = _MAYBE if name == "tcp" and (info[8] or info[9]) else _YES  # options and flags
        for low, high, port, bit in (
            (first, last, packet.source_port, 1),
            (to_first, to_last, packet.destination_port, 2),
        ):
            if (low, high) == (0, 65535):
                continue
            if port is None:
                matched = _MAYBE
            elif (low <= port <= high) == bool(inverted & bit):
                return _NO
        return matched


def _port_bytes(port):
    return None if port is None else struct.pack(">H", port)


class _Registers:
    """The kernel's 64 bytes of registers: 1 to 4 have 16 bytes each, 8 to 23 are the same by fours."""

    def __init__(self):
        self._bytes = bytearray(_REGISTER_BYTES)
        self._known = bytearray(_REGISTER_BYTES)

    def _at(self, register: int) -> int:
        return (register - 1) * 16 if register < 8 else (register - 8) * 4

    def load(self, register: int, value, length: int) -> None:
        """Set a register to a value, or to something not known (None) of this length. Words are padded."""
        at = self._at(register)
        padded = length + 3 & ~3
        for place in range(at, min(at + padded, _REGISTER_BYTES)):
            index = place - at
            self._known[place] = value is not None
            self._bytes[place] = value[index] if value is not None and index < len(value) else 0

    def mask(self, source: int, to: int, mask: bytes, xor: bytes) -> None:
        values = []
        at = self._at(source)
        for index in range(min(len(mask), _REGISTER_BYTES - at)):
            known = bool(self._known[at + index]) or not mask[index]
            values.append((known, (self._bytes[at + index] & mask[index]) ^ xor[index] if index < len(xor) else 0))
        at = self._at(to)
        for index, (known, value) in enumerate(values):
            if at + index < _REGISTER_BYTES:
                self._known[at + index] = known
                self._bytes[at + index] = value if known else 0

    def compare(self, register: int, operator: int, value: bytes) -> int:
        at = self._at(register)
        end = min(at + len(value), _REGISTER_BYTES)
        if operator in (_EQUAL, _UNEQUAL):
            # One known byte that differs is enough.
            differs = doubt = False
            for place in range(at, end):
                if not self._known[place]:
                    doubt = True
                elif self._bytes[place] != value[place - at]:
                    differs = True
            if differs:
                return _YES if operator == _UNEQUAL else _NO
            if doubt:
                return _MAYBE
            return _YES if operator == _EQUAL else _NO
        if not self._is_known(at, end):
            return _MAYBE
        own = bytes(self._bytes[at:end])
        result = {
            _LESS: own < value,
            _AT_MOST: own <= value,
            _MORE: own > value,
            _AT_LEAST: own >= value,
        }.get(operator)
        return _MAYBE if result is None else _YES if result else _NO

    def _is_known(self, at: int, end: int) -> bool:
        for place in range(at, end):
            if not self._known[place]:
                return False
        return True

    def within(self, register: int, operator: int, low: bytes, high: bytes) -> int:
        at = self._at(register)
        end = min(at + len(low), _REGISTER_BYTES)
        if not self._is_known(at, end):
            return _MAYBE
        own = bytes(self._bytes[at:end])
        return _YES if (low <= own <= high) == (operator == _EQUAL) else _NO
