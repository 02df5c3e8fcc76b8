"""A network as data: what a lab is built from, read from TOML and checked before anything is built.

title = "..."                      # one line, shown by `wayhome lab list`

[lans.home]                        # an Ethernet segment; its name also names a bridge (15 letters at most)
ipv4 = "192.168.1.0/24"
ipv6 = "2001:db8:77:1::/64"        # both families are optional
gateway = "home-router"            # the host that all others here send everything else to; a backbone has none

[hosts.nas]
names = ["nas.example"]            # public names: stand in /etc/hosts of every host
web = 80                           # runs the built-in web server on this TCP port
[hosts.nas.links.eth0]             # interface name on the host
lan = "home"
ipv4 = ["192.168.1.10"]            # one or several; the first is the host's main one
up = { rate_mbit = 5, delay_ms = 10, loss = 0.01 }      # from the host into the LAN
down = { rate_mbit = 20 }                               # from the LAN to the host

[hosts.home-router.nat]            # makes the host a router; uplink is where its own gateway is
kind = "port-restricted"           # a name from nat.KINDS
udp = "open"                       # or "blocked"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

from ..errors import HostError
from . import nat

_HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}\Z")
# IFNAMSIZ is 16 with its final zero.
_INTERFACE_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}\Z")
# Names that Linux keeps for itself: the loopback interface, and the folders beside interfaces below /proc/sys/net.
_KERNEL_NAMES = ("lo", "all", "default")
_PUBLIC_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?\Z")

# Wide enough for any home, and small enough that a typing error does not make a queue of gigabytes.
MAX_RATE_MBIT = 10_000.0
MAX_DELAY_MS = 10_000.0


_Network = TypeVar("_Network", IPv4Network, IPv6Network)
_Address = TypeVar("_Address", IPv4Address, IPv6Address)


class PlanError(HostError):
    """The description of a network is not right; the text names the file and the entry."""


@dataclass(frozen=True)
class Shape:
    """What one direction of a link does to packets."""

    rate_mbit: float | None = None  # None: as fast as the machine
    delay_ms: float = 0.0  # one way
    jitter_ms: float = 0.0  # added to the delay, uniform between 0 and this; never reorders
    loss: float = 0.0  # share of packets lost, 0 to 1
    queue_ms: float = 200.0  # what waits longer than this at rate_mbit is dropped (a home router's full buffer)


@dataclass(frozen=True)
class Link:
    """A host's interface on a LAN."""

    interface: str
    lan: str
    ipv4: tuple[IPv4Address, ...] = ()
    ipv6: tuple[IPv6Address, ...] = ()
    up: Shape | None = None
    down: Shape | None = None

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        return (*self.ipv4, *self.ipv6)


@dataclass(frozen=True)
class Lan:
    """An Ethernet segment. gateway: the host that leads out of it, None for a backbone."""

    name: str
    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None
    gateway: str | None = None


@dataclass(frozen=True)
class NatSettings:
    """How a router treats what goes out. IPv6 is never translated, but filtered in the same way as at homes."""

    kind: nat.NatKind
    udp_blocked: bool = False
    hairpin: bool = False  # whether its own customers reach each other by their outside addresses
    udp_timeout_s: int = 120  # RFC 4787 REQ-5 asks for at least 120; many home routers drop a mapping after 30


@dataclass(frozen=True)
class Host:
    name: str
    links: tuple[Link, ...]
    nat: NatSettings | None = None
    forwards: bool = False
    names: tuple[str, ...] = ()
    web: int | None = None

    def link(self, interface: str) -> Link:
        """Return the link of this name; raises PlanError if the host has none."""
        for link in self.links:
            if link.interface == interface:
                return link
        known = ", ".join(link.interface for link in self.links)
        raise PlanError(f"host {self.name} has no interface {interface} (it has {known})")


@dataclass(frozen=True)
class Plan:
    name: str
    title: str
    lans: Mapping[str, Lan] = field(default_factory=dict)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    text: str = ""  # the TOML it was read from

    def host(self, name: str) -> Host:
        """Return the host of this name; raises PlanError with the known names."""
        try:
            return self.hosts[name]
        except KeyError:
            raise PlanError(f"no host {name} in the plan {self.name} (it has {', '.join(self.hosts)})") from None

    def uplink(self, host: Host) -> Link | None:
        """Return the link that leads a host to everything else: the first on a LAN with another's gateway."""
        for link in host.links:
            gateway = self.lans[link.lan].gateway
            if gateway is not None and gateway != host.name:
                return link
        if host.nat is not None or host.forwards:
            # a router on the backbone itself: out is where it is nobody's gateway
            for link in host.links:
                if self.lans[link.lan].gateway is None:
                    return link
        return None


def shipped() -> list[str]:
    """Return the names of the plans that come along, sorted."""
    folder = resources.files(__package__) / "plans"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name_or_path: str | Path) -> Plan:
    """Return a plan by the name of a shipped one, or by the path of a TOML file (anything with a slash or .toml).

    Raises PlanError.
    """
    text = str(name_or_path)
    if "/" in text or text.endswith(".toml"):
        path = Path(name_or_path)
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"the plan {path} cannot be read: {error}") from error
        return parse(path.stem, content)
    if text not in shipped():
        raise PlanError(f"no plan {text}; those that come along: {', '.join(shipped())} (or give the path of a file)")
    return parse(text, (resources.files(__package__) / "plans" / f"{text}.toml").read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Plan:
    """Return the plan that a TOML text describes. Raises PlanError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"plan {name}: not TOML: {error}") from error
    top = _Entry(f"plan {name}", document)
    title = top.text("title", "")
    lans = {key: _lan(key, entry) for key, entry in top.tables("lans").items()}
    hosts = {key: _host(key, entry, lans) for key, entry in top.tables("hosts").items()}
    top.nothing_else()
    plan = Plan(name, title, lans, hosts, text)
    _check(plan)
    return plan


def with_address(plan: Plan, host_name: str, interface: str, address: str) -> Plan:
    """Return the plan with another first address of its family at one interface.

    Raises PlanError if it cannot be there.
    """
    host = plan.host(host_name)
    link = host.link(interface)
    lan = plan.lans[link.lan]
    entry = _Entry(f"plan {plan.name}, hosts.{host_name}.links.{interface}", {})
    new_link: Link | None = None
    network: IPv4Network | IPv6Network | None
    if ":" in address:
        network, new_6 = lan.ipv6, _address(entry, address, IPv6Address)
        if network is not None and new_6 in network and link.ipv6:
            new_link = replace(link, ipv6=(new_6, *link.ipv6[1:]))
    else:
        network, new_4 = lan.ipv4, _address(entry, address, IPv4Address)
        if network is not None and new_4 in network and link.ipv4:
            new_link = replace(link, ipv4=(new_4, *link.ipv4[1:]))
    if new_link is None:
        raise entry.error(f"{address} cannot take the place of an address there ({network or 'no such family'})")
    links = tuple(new_link if one is link else one for one in host.links)
    changed = replace(plan, hosts={**plan.hosts, host_name: replace(host, links=links)})
    _check(changed)
    return changed


def addresses(plan: Plan) -> dict[str, dict[str, list[str]]]:
    """Return the first address of each family of every interface: host -> interface -> addresses."""
    return {
        host.name: {link.interface: [str(one[0]) for one in (link.ipv4, link.ipv6) if one] for link in host.links}
        for host in plan.hosts.values()
    }


def with_addresses(plan: Plan, wanted: Mapping[str, Mapping[str, list[str]]]) -> Plan:
    """Return the plan with these first addresses, in the form that addresses() returns."""
    for host_name, interfaces in wanted.items():
        for interface, firsts in interfaces.items():
            for address in firsts:
                plan = with_address(plan, host_name, interface, address)
    return plan


class _Entry:
    """A table of the document that knows where it stands, so that every complaint can say so."""

    def __init__(self, where: str, table: object) -> None:
        self.where = where
        if not isinstance(table, dict):
            raise PlanError(f"{where}: expected a table")
        self._left: dict[str, Any] = dict(table)

    def error(self, message: str) -> PlanError:
        return PlanError(f"{self.where}: {message}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str):
            raise self.error(f"{key} must be a text")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._left else None

    def has(self, key: str) -> bool:
        return key in self._left

    def texts(self, key: str) -> tuple[str, ...]:
        """Return one text or a list of texts as a tuple."""
        value = self._left.pop(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise self.error(f"{key} must be a text or a list of texts")
        return tuple(values)

    def flag(self, key: str) -> bool:
        value = self._left.pop(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(f"{key} must be a number from {low:g} to {high:g}")
        return float(value)

    def whole_number(self, key: str, default: int, low: int, high: int) -> int:
        value = self.number(key, default, low, high)
        if value != int(value):
            raise self.error(f"{key} must be a whole number")
        return int(value)

    def optional_number(self, key: str, low: float, high: float) -> float | None:
        return self.number(key, 0, low, high) if key in self._left else None

    def tables(self, key: str) -> dict[str, "_Entry"]:
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise self.error(f"{key} must be a table")
        return {name: _Entry(f"{self.where}, {key}.{name}", table) for name, table in value.items()}

    def table(self, key: str) -> "_Entry | None":
        return _Entry(f"{self.where}, {key}", self._left.pop(key)) if key in self._left else None

    def nothing_else(self) -> None:
        if self._left:
            raise self.error(f"unknown entry {', '.join(sorted(self._left))}")


def _lan(name: str, entry: _Entry) -> Lan:
    if not _INTERFACE_NAME.match(name) or name in _KERNEL_NAMES:
        raise entry.error(
            "the name must be 1 to 15 of a-z, 0-9 and -, a letter first, and not lo, all or default"
            " (a bridge is called so)"
        )
    ipv4, ipv6 = entry.optional_text("ipv4"), entry.optional_text("ipv6")
    lan = Lan(
        name,
        _network(entry, ipv4, IPv4Network) if ipv4 is not None else None,
        _network(entry, ipv6, IPv6Network) if ipv6 is not None else None,
        entry.optional_text("gateway"),
    )
    entry.nothing_else()
    if lan.ipv4 is None and lan.ipv6 is None:
        raise entry.error("a LAN needs ipv4 or ipv6")
    return lan


def _host(name: str, entry: _Entry, lans: Mapping[str, Lan]) -> Host:
    if not _HOST_NAME.match(name):
        raise entry.error("the name must be 1 to 30 of a-z, 0-9 and -, a letter first")
    links = tuple(_link(key, table, lans) for key, table in entry.tables("links").items())
    if not links:
        raise entry.error("a host needs at least one entry in links")
    names = entry.texts("names")
    for public in names:
        if not _PUBLIC_NAME.match(public):
            raise entry.error(f"{public!r} is no host name")
    nat_entry = entry.table("nat")
    settings = _nat(nat_entry) if nat_entry is not None else None
    web = entry.whole_number("web", 0, 1, 65535) if entry.has("web") else None
    host = Host(
        name,
        links,
        settings,
        forwards=entry.flag("forwards") or settings is not None,
        names=names,
        web=web,
    )
    entry.nothing_else()
    return host


def _link(interface: str, entry: _Entry, lans: Mapping[str, Lan]) -> Link:
    if not _INTERFACE_NAME.match(interface) or interface in _KERNEL_NAMES:
        raise entry.error(
            "an interface name must be 1 to 15 of a-z, 0-9 and -, a letter first, and not lo, all or default"
        )
    lan_name = entry.text("lan")
    if lan_name not in lans:
        raise entry.error(f"there is no LAN {lan_name} (there are {', '.join(lans) or 'none'})")
    lan = lans[lan_name]
    ipv4 = tuple(_address(entry, text, IPv4Address) for text in entry.texts("ipv4"))
    ipv6 = tuple(_address(entry, text, IPv6Address) for text in entry.texts("ipv6"))
    for address, network in [(a, lan.ipv4) for a in ipv4] + [(a, lan.ipv6) for a in ipv6]:
        if network is None or address not in network:
            raise entry.error(f"{address} is not in the LAN {lan_name} ({network or 'which has no such family'})")
        if not _can_be_a_hosts(address, network):
            raise entry.error(f"{address} cannot be a host's address in {network}")
    shape = _shape(entry, "shape")
    link = Link(interface, lan_name, ipv4, ipv6, _shape(entry, "up") or shape, _shape(entry, "down") or shape)
    entry.nothing_else()
    return link


def _nat(entry: _Entry) -> NatSettings:
    kind_name = entry.text("kind")
    if kind_name not in nat.KINDS:
        raise entry.error(f"there is no NAT kind {kind_name} (there are {', '.join(nat.KINDS)})")
    udp = entry.text("udp", "open")
    if udp not in ("open", "blocked"):
        raise entry.error('udp must be "open" or "blocked"')
    settings = NatSettings(
        nat.KINDS[kind_name],
        udp_blocked=udp == "blocked",
        hairpin=entry.flag("hairpin"),
        udp_timeout_s=entry.whole_number("udp_timeout_s", 120, 1, 86_400),
    )
    entry.nothing_else()
    return settings


def _shape(parent: _Entry, key: str) -> Shape | None:
    entry = parent.table(key)
    if entry is None:
        return None
    shape = Shape(
        rate_mbit=entry.optional_number("rate_mbit", 0.001, MAX_RATE_MBIT),
        delay_ms=entry.number("delay_ms", 0, 0, MAX_DELAY_MS),
        jitter_ms=entry.number("jitter_ms", 0, 0, MAX_DELAY_MS),
        loss=entry.number("loss", 0, 0, 1),
        queue_ms=entry.number("queue_ms", Shape.queue_ms, 1, MAX_DELAY_MS),
    )
    entry.nothing_else()
    return shape


def _network(entry: _Entry, text: str, family: type[_Network]) -> _Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise entry.error(f"{text!r} is no network: {error}") from None
    if not isinstance(network, family):
        raise entry.error(f"{text!r} is of the other address family")
    return network


def _address(entry: _Entry, text: str, family: type[_Address]) -> _Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise entry.error(f"{text!r} is no IP address") from None
    if not isinstance(address, family):
        raise entry.error(f"{text!r} is of the other address family")
    return address


def _can_be_a_hosts(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    """Tell whether a host may have the address: no multicast, nor the two of an IPv4 LAN that mean all of it."""
    if address.is_multicast or address.is_unspecified:
        return False
    has_such = network.version == 4 and network.prefixlen < 31
    return not has_such or address not in (network.network_address, network.broadcast_address)


def _check(plan: Plan) -> None:
    """Raise PlanError for what only shows when the whole plan is known."""
    if not plan.hosts:
        raise PlanError(f"plan {plan.name}: it has no hosts")
    taken: dict[tuple[str, str], str] = {}  # LAN and address -> host
    named: dict[str, str] = {}
    for host in plan.hosts.values():
        where = f"plan {plan.name}, hosts.{host.name}"
        for link in host.links:
            for address in link.addresses:
                key = (link.lan, str(address))
                if key in taken:
                    raise PlanError(f"{where}: {address} on the LAN {link.lan} is {taken[key]}'s already")
                taken[key] = host.name
        for public in host.names:
            if named.setdefault(public, host.name) != host.name:
                raise PlanError(f"{where}: the name {public} is {named[public]}'s already")
        if host.nat is not None and plan.uplink(host) is None:
            raise PlanError(f"{where}: a NAT needs a link to a LAN whose gateway is another host, or to one without")
    for lan in plan.lans.values():
        if lan.gateway is None:
            continue
        where = f"plan {plan.name}, lans.{lan.name}"
        if lan.gateway not in plan.hosts:
            raise PlanError(f"{where}: the gateway {lan.gateway} is no host of the plan")
        gateway = plan.hosts[lan.gateway]
        if not any(link.lan == lan.name for link in gateway.links):
            raise PlanError(f"{where}: the gateway {lan.gateway} has no link to this LAN")
        if not gateway.forwards:
            raise PlanError(f"{where}: the gateway {lan.gateway} neither has a nat nor forwards = true")
    for lan in plan.lans.values():
        _check_leads_out(plan, lan)


def _check_leads_out(plan: Plan, lan: Lan) -> None:
    """Raise PlanError if the gateways from a LAN outwards lead back to it: its packets would go in circles."""
    passed: list[str] = []
    outer: Lan | None = lan
    while outer is not None and outer.gateway is not None:
        if outer.name in passed:
            raise PlanError(f"plan {plan.name}, lans.{lan.name}: its gateways lead in a circle ({', '.join(passed)})")
        passed.append(outer.name)
        uplink = plan.uplink(plan.hosts[outer.gateway])
        outer = None if uplink is None else plan.lans[uplink.lan]
