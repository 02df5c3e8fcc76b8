"""The local ceiling: what the owner of this machine allows at most, whatever a coordinator pushes.

    what happens = what the coordinator says  AND  what the ceiling leaves

It comes from the configuration file alone, which only the machine's administrator can write: neither a coordinator nor
whoever may use the daemon's socket can lift it. Each setting left out leaves things as they are without a ceiling.
"""

from wayhomed.wire import address

from . import ranges
from .filter import ICMP, ICMPV6, LAST_PORT, TCP, Opening, Rule

ANY = "any"
# In the configuration file
SETTINGS = ("allow-lans", "allow-services", "allow-publish", "allow-peers-routes", "allow-names")
_ECHO_ONLY = (ICMP, ICMPV6)


class Ceiling:
    """lans: prefixes behind this machine that the mesh may reach, ANY for all that it advertises or publishes;
    services: (IP protocol, first port, last port) of this machine that the mesh may reach, ANY for the policy's word;
    publish: prefixes that published devices may lie in, ANY for the private networks that this machine is part of;
    peers_routes: prefixes that other routers' networks may lie in, ANY for all that is no harm; names: DNS suffixes
    beside the mesh's own that the coordinator may decide about (core.names), ANY for all but whole public ones.

    The mesh's own addresses of peers, and answers to a ping where the policy opens anything, are under no ceiling.
    """

    def __init__(self, lans=ANY, services=ANY, publish=ANY, peers_routes=ANY, names=ANY):
        self.lans = lans
        self.services = services
        self.publish = publish
        self.peers_routes = peers_routes
        self.names = names

    def lan_reason(self, prefix: tuple) -> str:
        """Say why nothing of a prefix behind this machine may be reached, or ""."""
        return _reason("allow-lans", self.lans, prefix, address.overlaps)

    def lan_ranges(self, prefix: tuple) -> list:
        """Return the ranges (low, high) of a prefix behind this machine that may be reached."""
        whole = ranges.of_prefix(prefix)
        if self.lans == ANY:
            return [whole]
        allowed = ranges.Ranges([ranges.of_prefix(one) for one in self.lans])
        return ranges.Ranges([whole]).intersection(allowed).items()

    def is_cut(self, prefix: tuple) -> bool:
        """Tell whether only a part of a prefix behind this machine may be reached."""
        return self.lan_ranges(prefix) != [ranges.of_prefix(prefix)]

    def target_reason(self, ip: bytes) -> str:
        """Say why a device at this address may not be published, or ""."""
        single = (ip, 8 * len(ip))
        return _reason("allow-publish", self.publish, single, _lies_in) or self.lan_reason(single)

    def peers_route_reason(self, prefix: tuple) -> str:
        """Say why another router's network may not be used, or ""."""
        return _reason("allow-peers-routes", self.peers_routes, prefix, _lies_in)

    def cut_services(self, rule: Rule, here: ranges.Ranges) -> tuple:
        """Return (rules, whether anything was taken away) for a rule: what it opens of this machine is cut down.

        here: this machine's addresses. What the rule opens elsewhere stays; a ping is answered as before.
        """
        if self.services == ANY:
            return [rule], False
        elsewhere, own, was_cut = [], [], False
        left: dict = {}
        for opening in rule.openings:
            mine = opening.destinations.intersection(here)
            others = opening.destinations
            for low, _high in mine.items():
                others = others.without(low)
            if others:
                opening.destinations = others
                elsewhere.append(opening)
            if not mine:
                continue
            own.extend(mine.items())
            was_cut = self._left_of(opening, mine, rule.protocols, left) or was_cut
        made = []
        if elsewhere:
            made.append(Rule(rule.sources, elsewhere, rule.protocols))
        if own:
            made.append(Rule(rule.sources, [Opening(0, LAST_PORT, own)], _ECHO_ONLY))
        for protocol in sorted(left):
            made.append(Rule(rule.sources, left[protocol], (protocol,)))
        return made, was_cut

    def _left_of(self, opening: Opening, mine: ranges.Ranges, protocols: tuple, left: dict) -> bool:
        """Add what stays open of an opening to `left`, openings by protocol; tell whether anything is taken away."""
        was_cut = False
        for protocol in protocols:
            if protocol in _ECHO_ONLY:
                continue
            covered = 0
            for first, last in _merged([one[1:] for one in self.services if one[0] == protocol]):
                low, high = max(first, opening.first), min(last, opening.last)
                if low <= high:
                    left.setdefault(protocol, []).append(Opening(low, high, mine.items()))
                    covered += high - low + 1
            was_cut = was_cut or covered < opening.last - max(opening.first, 1) + 1  # nothing listens on port 0
        return was_cut

    def services_text(self) -> str:
        if self.services == ANY:
            return "policy"
        return ", ".join([service_text(service) for service in self.services]) or "none"


NONE = Ceiling([], [], [], [], [])  # lets nothing through


def from_config(config) -> Ceiling:
    """Return the ceiling of a core.config.Config.

    A line with a fault closes what it is about. A fault that can't be said to be about another setting than one of
    these (a misspelt name, a file that can't be read) closes everything: it may have been meant as a limit.
    """
    closed = {fault.key for fault in config.faults}
    values = {}
    for key in SETTINGS:
        values[key] = [] if "" in closed or key in closed else config.values.get(key, ANY)
    return Ceiling(*[values[key] for key in SETTINGS])


def service_text(service: tuple) -> str:
    """Return tcp:22 or udp:5000-5010 of (IP protocol, first port, last port)."""
    protocol, first, last = service
    name = "tcp" if protocol == TCP else "udp"
    return "%s:%d" % (name, first) if first == last else "%s:%d-%d" % (name, first, last)


def _reason(setting: str, allowed, prefix: tuple, fits) -> str:
    if allowed == ANY:
        return ""
    for one in allowed:
        if fits(one, prefix):
            return ""
    return "%s in this machine's configuration %s" % (setting, "leaves it out" if allowed else "allows none")


def _lies_in(outer: tuple, prefix: tuple) -> bool:
    return outer[1] <= prefix[1] and address.contains(outer, prefix[0])


def _merged(stretches: list) -> list:
    """Return (first, last) of ports sorted, with those that overlap or touch made one."""
    result: list = []
    for first, last in sorted(stretches):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result
