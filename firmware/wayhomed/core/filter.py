"""The packet filter: FilterRules as a coordinator sends them -> rules that a firewall can be made of.

Rules only ever open. One that we can't read in full opens nothing at all, and the reader hears why; the others stand.
`SrcBits` and `Bits`, which ancient coordinators sent, change what a rule means: they reject the whole filter.
Source: control.md section 8.3, wireguard.md section 6.
"""

from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from . import ranges

# Fixed by the protocol
ICMP = const(1)
TCP = const(6)
UDP = const(17)
ICMPV6 = const(58)
TSMP = const(99)
SCTP = const(132)
DEFAULT_PROTOCOLS = (TCP, UDP, ICMP, ICMPV6)
LAST_PORT = const(65_535)
# Chosen by us
MAX_RULES = const(4096)
MAX_ENTRIES = const(50_000)  # sources and destinations of all rules together
_MAX_PROBLEMS = const(20)


class Opening:
    """Destinations (Ranges) that a rule opens on ports first..last; singles: those that it names one by one."""

    def __init__(self, first: int, last: int, destinations: list):
        self.first = first
        self.last = last
        self.singles = {low for low, high in destinations if low == high}
        self.destinations = ranges.Ranges(destinations)

    def is_all_ports(self) -> bool:
        return self.first == 0 and self.last == LAST_PORT


class Rule:
    """One rule: from sources (Ranges), to openings, with these IP protocols."""

    def __init__(self, sources: ranges.Ranges, openings: list, protocols: tuple):
        self.sources = sources
        self.openings = openings
        self.protocols = protocols

    def destinations(self) -> ranges.Ranges:
        """Return all destinations, whatever the port."""
        return ranges.Ranges([item for opening in self.openings for item in opening.destinations.items()])


class Filter:
    """rules: those that open something; problems: a sentence for each that was refused (the first 20)."""

    def __init__(self):
        self.rules = []
        self.problems = []

    def complain(self, text: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)


def read_filter(rules: list, holders) -> Filter:
    """Read FilterRule objects. holders(capability) gives the addresses of the nodes that have a node capability."""
    result = Filter()
    if not isinstance(rules, list):
        result.complain("the packet filter is not a list; everything is closed")
        return result
    if len(rules) > MAX_RULES or _entries(rules) > MAX_ENTRIES:
        result.complain("the packet filter is larger than we hold; everything is closed")
        return result
    for index, rule in enumerate(rules):
        if _has_ancient_bits(rule):
            result.rules = []
            result.complain("rule %d uses SrcBits or Bits, which no longer mean anything; everything is closed" % index)
            return result
        try:
            read = _read_rule(rule, holders)
        except BadWire as error:
            result.complain("rule %d opens nothing: %s" % (index, error))
            continue
        if read is not None:
            result.rules.append(read)
    return result


def _entries(rules: list) -> int:
    """Count sources and destinations before any of them is read."""
    count = 0
    for rule in rules:
        if isinstance(rule, dict):
            for name in ("SrcIPs", "DstPorts", "IPProto"):
                if isinstance(rule.get(name), list):
                    count += len(rule[name])
    return count


def _has_ancient_bits(rule) -> bool:
    if not isinstance(rule, dict):
        return False
    if rule.get("SrcBits"):
        return True
    opened = rule.get("DstPorts")
    if isinstance(opened, list):
        for entry in opened:
            if isinstance(entry, dict) and entry.get("Bits") is not None:
                return True
    return False


def _read_rule(rule, holders):
    """Return the Rule, or None for one that grants capabilities and opens nothing. Raises BadWire."""
    if not isinstance(rule, dict):
        raise BadWire("it is not an object")
    if rule.get("CapGrant"):
        return None
    sources = []
    for text in _list(rule, "SrcIPs"):
        if isinstance(text, str) and text[:4] == "cap:":
            sources.extend([ranges.single(ip) for ip in holders(text[4:])])
        else:
            sources.extend(_read_addresses(text))
    protocols = _read_protocols(_list(rule, "IPProto"))
    by_ports: dict = {}
    for entry in _list(rule, "DstPorts"):
        if not isinstance(entry, dict):
            raise BadWire("a destination is not an object")
        by_ports.setdefault(_read_ports(entry.get("Ports")), []).extend(_read_addresses(entry.get("IP")))
    openings = [Opening(first, last, by_ports[first, last]) for first, last in sorted(by_ports)]
    if not sources or not openings:
        return None
    return Rule(ranges.Ranges(sources), openings, protocols)


def _list(rule: dict, name: str) -> list:
    value = rule.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadWire(name + " is not a list")
    return value


def _read_addresses(text) -> list:
    """Return the ranges of an address, a prefix, a range a-b, or * for everything."""
    if not isinstance(text, str):
        raise BadWire("an address is not a string")
    if text == "*":
        return list(ranges.EVERYTHING)
    dash = text.find("-")
    if dash < 0:
        return [ranges.of_prefix(address.prefix_from_text(text))]
    low = address.ip_from_text(text[:dash])
    high = address.ip_from_text(text[dash + 1 :])
    if len(low) != len(high) or low > high:
        raise BadWire("a range that does not go upwards: " + text)
    return [(low, high)]


def _read_ports(ports) -> tuple:
    if not isinstance(ports, dict):
        raise BadWire("a destination without Ports")
    first, last = ports.get("First", -1), ports.get("Last", -1)
    if not _is_number(first, 0, LAST_PORT) or not _is_number(last, 0, LAST_PORT) or first > last:
        raise BadWire("Ports is not a range within 0 to 65535")
    return first, last


def _read_protocols(numbers: list) -> tuple:
    if not numbers:
        return DEFAULT_PROTOCOLS
    for number in numbers:
        if not _is_number(number, 1, 255):
            raise BadWire("an IP protocol is a number from 1 to 255")
    return tuple(sorted(set(numbers)))


def _is_number(value, least: int, most: int) -> bool:
    return isinstance(value, int) and value is not True and value is not False and least <= value <= most
