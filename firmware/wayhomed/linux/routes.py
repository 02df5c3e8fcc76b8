"""Routes and policy rules over rtnetlink, as the stock client lays them but for accepted networks.

    5210  fwmark 0x80000/0xff0000  lookup main          what the daemon itself sends goes round the tunnel
    5230  fwmark 0x80000/0xff0000  lookup default
    5250  fwmark 0x80000/0xff0000  unreachable
    5270  lookup 52                                     one route for each address of a peer
    5280  lookup main, but for its default routes       this machine's own networks
    5290  lookup 53                                     one route for each accepted network of another router

So an own network is first from the moment it is there, also before the daemon has heard of it.

    rtmsg          family 1 | dst length 1 | src length 1 | tos 1 | table 1 | protocol 1 | scope 1 | type 1 | flags 4
    fib_rule_hdr   family 1 | dst length 1 | src length 1 | tos 1 | table 1 | 0 2         | action 1 | flags 4

Source: rtnetlink(7), <linux/rtnetlink.h>, <linux/fib_rules.h>; the rules: wireguard.md section 4.
"""

import struct

from wayhomed.core.prefixes import is_mesh_address
from wayhomed.port import const

from . import netlink
from .link import FAMILY

TABLE = const(52)
NETWORKS_TABLE = const(53)
MAIN = const(254)
BYPASS_MARK = const(0x80000)  # SO_MARK of every socket of the daemon
MARK_MASK = const(0xFF0000)

_NEWROUTE = const(24)
_DELROUTE = const(25)
_GETROUTE = const(26)
_NEWRULE = const(32)
_DELRULE = const(33)
_GETRULE = const(34)
_DEFAULT_TABLE = const(253)
_PROTOCOL_STATIC = const(4)
_SCOPE_LINK = const(253)
_UNICAST = const(1)
_RTA_DST = const(1)
_RTA_OIF = const(4)
_RTA_GATEWAY = const(5)
_RTA_PREFSRC = const(7)
_RTA_MULTIPATH = const(9)
_RTA_TABLE = const(15)
_RTA_MARK = const(16)
_FRA_PRIORITY = const(6)
_FRA_FWMARK = const(10)
_FRA_SUPPRESS_PREFIXLEN = const(14)
_FRA_TABLE = const(15)
_FRA_FWMASK = const(16)
_TO_TABLE = const(1)
_UNREACHABLE = const(7)
_EEXIST = const(17)
_ENETUNREACH = const(101)
_IP_BYTES = {2: const(4), 10: const(16)}

_MAX_REMEMBERED = const(4096)  # addresses that packets went to

_ALL_ROUTES = const(0xFFFFFFFF)  # what the kernel says where nothing is left out

# (priority, action, table, fwmark, length of the prefixes that are left out, and of shorter ones)
RULES = (
    (5210, _TO_TABLE, MAIN, BYPASS_MARK, _ALL_ROUTES),
    (5230, _TO_TABLE, _DEFAULT_TABLE, BYPASS_MARK, _ALL_ROUTES),
    (5250, _UNREACHABLE, 0, BYPASS_MARK, _ALL_ROUTES),
    (5270, _TO_TABLE, TABLE, 0, _ALL_ROUTES),
    (5280, _TO_TABLE, MAIN, 0, 0),
    (5290, _TO_TABLE, NETWORKS_TABLE, 0, _ALL_ROUTES),
)


class Route:
    """A unicast route: table, prefix (ip bytes, length), interface index, gateway bytes or None."""

    def __init__(self, table: int, prefix: tuple, index: int, gateway):
        self.table = table
        self.prefix = prefix
        self.index = index
        self.gateway = gateway


def routes(kernel) -> list:
    """Return the unicast Routes of all tables; of one with several next hops, one each."""
    found = []
    for payload in kernel.dump(_GETROUTE, struct.pack("BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, length, _src, _tos, table, _protocol, _scope, kind = struct.unpack_from("BBBBBBBB", payload)
        if kind != _UNICAST or family not in _IP_BYTES:
            continue
        values = netlink.decode_attributes(payload, 12)
        if _RTA_TABLE in values:
            table = struct.unpack("I", values[_RTA_TABLE])[0]
        prefix = (values.get(_RTA_DST) or bytes(_IP_BYTES[family]), length)
        for hop in _next_hops(values):
            index = struct.unpack("i", hop[_RTA_OIF])[0] if _RTA_OIF in hop else 0
            found.append(Route(table, prefix, index, hop.get(_RTA_GATEWAY)))
    return found


def _next_hops(values: dict) -> list:
    """Return the attributes of each next hop. rtnexthop: length 2 | flags 1 | hops 1 | interface 4 | attributes."""
    if _RTA_MULTIPATH not in values:
        return [values]
    hops = []
    data = values[_RTA_MULTIPATH]
    while len(data) >= 8:
        length, _flags, _hops, index = struct.unpack_from("HBBi", data)
        if length < 8:
            break
        hop = netlink.decode_attributes(data[8:length])
        hop[_RTA_OIF] = struct.pack("i", index)
        hops.append(hop)
        data = data[length + 3 & ~3 :]
    return hops


def source_address(kernel, ip: bytes) -> bytes:
    """Return the own address from which the daemon's packets to this ip leave. Raises OSError if there is no way."""
    question = struct.pack("BBBBBBBBI", FAMILY[len(ip)], 8 * len(ip), 0, 0, 0, 0, 0, 0, 0)
    question += netlink.attribute(_RTA_DST, ip) + netlink.attribute_u32(_RTA_MARK, BYPASS_MARK)
    source = netlink.decode_attributes(kernel.ask(_GETROUTE, question), 12).get(_RTA_PREFSRC)
    if source is None:
        raise OSError(_ENETUNREACH, "no address of this machine leads there")
    return source


def interface_towards(kernel, ip: bytes) -> int:
    """Return the index of the interface by which packets to this ip leave, the tunnel left out. Raises OSError."""
    question = struct.pack("BBBBBBBBI", FAMILY[len(ip)], 8 * len(ip), 0, 0, 0, 0, 0, 0, 0)
    question += netlink.attribute(_RTA_DST, ip) + netlink.attribute_u32(_RTA_MARK, BYPASS_MARK)
    values = netlink.decode_attributes(kernel.ask(_GETROUTE, question), 12)
    if _RTA_OIF not in values:
        raise OSError(_ENETUNREACH, "no interface of this machine leads there")
    return struct.unpack("i", values[_RTA_OIF])[0]


class SourceAddresses:
    """Own addresses by where a packet goes, asked of the kernel once and remembered until routes change."""

    def __init__(self, kernel):
        self._kernel = kernel
        self._found: dict = {}

    def towards(self, ip: bytes) -> bytes:
        """Return the own address from which packets to this ip leave. Raises OSError if there is no way."""
        source = self._found.get(ip)
        if source is None:
            if len(self._found) >= _MAX_REMEMBERED:
                self._found = {}
            source = self._found[ip] = source_address(self._kernel, ip)
        return source

    def forget(self) -> None:
        """Addresses or routes changed."""
        self._found = {}


def _table_of(prefix: tuple) -> int:
    return TABLE if is_mesh_address(prefix) else NETWORKS_TABLE


def _route(prefix: tuple, index: int, table: int) -> bytes:
    ip, length = prefix
    # Scope link in IPv4: no gateway stands between. IPv6 has no scopes here and ignores it.
    head = struct.pack("BBBBBBBBI", FAMILY[len(ip)], length, 0, 0, table, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST, 0)
    return head + netlink.attribute(_RTA_DST, ip) + netlink.attribute_u32(_RTA_OIF, index)


def set_tunnel_routes(kernel, index: int, wanted: set) -> list:
    """Make our tables' routes on this interface exactly these prefixes; return [(prefix, errno)] of those refused."""
    due = {(_table_of(prefix), prefix) for prefix in wanted}
    present = {
        (route.table, route.prefix)
        for route in routes(kernel)
        if route.table in (TABLE, NETWORKS_TABLE) and route.index == index
    }
    kernel.change_all([(_DELROUTE, 0, _route(prefix, index, table)) for table, prefix in sorted(present - due)])
    added = sorted(due - present)
    flags = netlink.CREATE | netlink.EXCLUSIVE
    failures = kernel.change_all([(_NEWROUTE, flags, _route(prefix, index, table)) for table, prefix in added])
    return [(added[i][1], failures[i]) for i in range(len(added)) if failures[i] not in (0, _EEXIST)]


def _rule(family: int, rule: tuple) -> bytes:
    priority, action, table, mark, left_out = rule
    payload = struct.pack("BBBBBBBBI", family, 0, 0, 0, table, 0, 0, action, 0)
    payload += netlink.attribute_u32(_FRA_PRIORITY, priority)
    if table:
        payload += netlink.attribute_u32(_FRA_TABLE, table)
    if mark:
        payload += netlink.attribute_u32(_FRA_FWMARK, mark) + netlink.attribute_u32(_FRA_FWMASK, MARK_MASK)
    if left_out != _ALL_ROUTES:
        payload += netlink.attribute_u32(_FRA_SUPPRESS_PREFIXLEN, left_out)
    return payload


def policy_rules(kernel) -> set:
    """Return (family, priority) of those of our rules that stand, told by what they say."""
    found = set()
    for payload in kernel.dump(_GETRULE, struct.pack("BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, _dst, _src, _tos, table, _0, _1, action = struct.unpack_from("BBBBBBBB", payload)
        values = netlink.decode_attributes(payload, 12)
        priority, mark, table, left_out = [
            struct.unpack("I", values[kind])[0] if kind in values else otherwise
            for kind, otherwise in (
                (_FRA_PRIORITY, 0),
                (_FRA_FWMARK, 0),
                (_FRA_TABLE, table),
                (_FRA_SUPPRESS_PREFIXLEN, _ALL_ROUTES),
            )
        ]
        if (priority, action, table, mark, left_out) in RULES:
            found.add((family, priority))
    return found


def add_policy_rules(kernel) -> int:
    """Add those of our rules that are missing, both families; return how many were.

    A kernel without IPv6 (EAFNOSUPPORT, EOPNOTSUPP) does with IPv4's.
    """
    present = policy_rules(kernel)
    flags = netlink.CREATE | netlink.EXCLUSIVE
    added = 0
    for family in _IP_BYTES:
        for rule in RULES:
            if (family, rule[0]) in present:
                continue
            try:
                kernel.change(_NEWRULE, flags, _rule(family, rule))
                added += 1
            except OSError as error:
                if error.errno != _EEXIST and family == 2:
                    raise
    return added


def remove_policy_rules(kernel) -> None:
    """Remove our rules, both families, as often as they stand."""
    for family, priority in policy_rules(kernel):
        for rule in RULES:
            if rule[0] == priority:
                kernel.change_all([(_DELRULE, 0, _rule(family, rule))])
