"""What a client is told: whole maps and true deltas, as JSON-ready dicts. Pure: no clock, no I/O.

    view = MapView(node_id, SessionFacts(capver=130, is_go_client=True))
    first = view.full(registry.world, now)
    later = view.delta(registry.world, changes, now)      # None: nothing for this viewer

`changes` are those whose audience holds the viewer, in order, each given once; those of before `full` may be given too.
Treat what is returned as read-only: parts are shared between viewers. A `SharedMessage` is the very same object for
every viewer that gets it, so its encoding can be kept in `.encoded` (any key, e.g. "zstd").
Source: control.md 7.3, 7.4, 8 and its appendix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wayhomed.wire.keys import DISCO, MACHINE, NODE, key_text

from . import hostinfo, policy, published
from .model import PATCHABLE, TAGGED_LOGIN, TAGGED_USER_ID, Aspect, Change, Node, Prefix, Published, User
from .world import World

# Linux clients up to this capability version refuse a single address that stands in AllowedIPs alone (appendix).
_LENGTHEN_UP_TO = 131
_ZERO_TIME = "0001-01-01T00:00:00Z"
# A node told us these about itself, so it needs no answer; peers do.
_TOLD_BY_ITSELF = PATCHABLE - {Aspect.NODE_KEY, Aspect.EXPIRY} | {Aspect.HOSTINFO}
_REACH = frozenset(
    {
        Aspect.JOINED,
        Aspect.REMOVED,
        Aspect.EXPIRED,
        Aspect.ROUTES,
        Aspect.PUBLISHED,
        Aspect.PROFILE,
        Aspect.DERP_MAP,
        Aspect.DNS,
    }
)
_NO_DEVICES: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """capver: of the viewer's request. is_go_client: its Hostinfo has a GoVersion."""

    capver: int
    is_go_client: bool

    @property
    def lengthen_addresses(self) -> bool:
        return self.is_go_client and self.capver <= _LENGTHEN_UP_TO


class SharedMessage(dict[str, Any]):
    """A message that several viewers get alike; `encoded` keeps its encoded forms."""

    __slots__ = ("encoded",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoded: dict[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class _LeadsTo:
    """What a viewer was told that a router leads to."""

    routes: tuple[Prefix, ...]
    devices: tuple[Published, ...]


_NOWHERE = _LeadsTo((), ())


class _IdSet:
    """A set of node ids as a bit map: 1,000 viewers with 1,000 peers each take 125 KB this way, and 32 MB as sets."""

    __slots__ = ("_bits",)

    def __init__(self, ids: Iterable[int] = ()) -> None:
        whole = bytearray()
        for number in ids:
            index = number >> 3
            if index >= len(whole):
                whole.extend(bytes(index + 1 - len(whole)))
            whole[index] |= 1 << (number & 7)
        self._bits = int.from_bytes(whole, "little")

    def __contains__(self, number: int) -> bool:
        return bool(self._bits >> number & 1)

    def add(self, number: int) -> None:
        self._bits |= 1 << number

    def discard(self, number: int) -> None:
        self._bits &= ~(1 << number)

    def ids(self) -> set[int]:
        found = set()
        for index, byte in enumerate(self._bits.to_bytes((self._bits.bit_length() + 7) // 8, "little")):
            while byte:
                lowest = byte & -byte
                found.add(index * 8 + lowest.bit_length() - 1)
                byte ^= lowest
        return found


class MapView:
    """What one client has been told by one stream, and so what it still has to be told."""

    __slots__ = ("_derp_map", "_dns", "_facts", "_filter", "_profiles", "_routers", "_seen", "_self", "viewer_id")

    def __init__(self, viewer_id: int, facts: SessionFacts) -> None:
        self.viewer_id = viewer_id
        self._facts = facts
        self._seen = _IdSet()
        self._routers: dict[int, _LeadsTo] = {}
        self._profiles: dict[int, User | None] = {}
        self._self: dict[str, Any] = {}
        self._filter: list[dict[str, Any]] = []
        self._dns: dict[str, Any] = {}
        self._derp_map: Any = None

    def full(self, world: World, now: datetime) -> dict[str, Any]:
        """Everything: the first message of a stream, or a fresh start within one.

        Raises KeyError if the viewer is no node (any more).
        """
        viewer = world.nodes[self.viewer_id]
        peers = sorted(policy.peers_of(world, viewer.id))
        gone = self._seen.ids().difference(peers)
        self._seen = _IdSet(peers)
        self._routers = {peer: self._leads_to(world, viewer, peer) for peer in peers if peer in world.routers}
        self._profiles = {}
        self._self = _self_node(world, viewer)
        self._filter = policy.filter_rules(world, viewer)
        self._dns = _dns_config(world, viewer)
        self._derp_map = world.derp_map
        message = {
            "Node": self._self,
            "DERPMap": world.derp_map,
            "Peers": [self._peer(world, peer) for peer in peers],
            "UserProfiles": self._new_profiles(world, {viewer.id, *peers}),
            "DNSConfig": self._dns,
            "Domain": world.suffix,
            "CollectServices": False,
            "PacketFilters": {"base": self._filter},
            "ControlTime": time_text(now),
            "Debug": {"DisableLogTail": True},
        }
        if gone and not peers:
            message["PeersRemoved"] = sorted(gone)  # an empty `Peers` says nothing
        return message

    def delta(self, world: World, changes: Iterable[Change], now: datetime) -> dict[str, Any] | None:
        """What has to be said after these changes (all committed, in order); None if nothing.

        A viewer that was deleted meanwhile is told nothing: its session ends.
        """
        viewer = world.nodes.get(self.viewer_id)
        if viewer is None:
            return None
        changes = [change for change in changes if not self._is_own_report(world, change)]
        if all(self._is_mere_patch(world, change) for change in changes):
            return _shared_patch(changes) if changes else None
        about: dict[int, set[Aspect]] = {}
        said: set[Aspect] = set()
        for change in changes:
            said |= change.aspects
            if change.node_id is not None:
                about.setdefault(change.node_id, set()).update(change.aspects)
        own = about.pop(self.viewer_id, set())
        message: dict[str, Any] = {}
        if (
            own
            or said & _REACH
            or any(Aspect.ONLINE in aspects and node_id in world.routers for node_id, aspects in about.items())
        ):
            self._tell_self(world, viewer, message)
        self._tell_peers(world, viewer, about, own, message)
        if said & _REACH:
            self._tell_reach(world, viewer, message)
        return message or None

    def _is_own_report(self, world: World, change: Change) -> bool:
        """The viewer said so itself and need not hear it again; that it came online may move routes, though."""
        return (
            change.node_id == self.viewer_id
            and change.aspects <= _TOLD_BY_ITSELF
            and not (Aspect.ONLINE in change.aspects and self.viewer_id in world.routers)
        )

    def _is_mere_patch(self, world: World, change: Change) -> bool:
        """The change is of a peer that this viewer knows, fits a patch, and moves no route."""
        return (
            change.node is not None
            and change.node_id != self.viewer_id
            and change.aspects <= PATCHABLE
            and change.node.id in self._seen
            and not (Aspect.ONLINE in change.aspects and change.node.id in world.routers)
        )

    def _tell_self(self, world: World, viewer: Node, message: dict[str, Any]) -> None:
        node = _self_node(world, viewer)
        if _settled(node) != _settled(self._self):
            self._self = node
            message["Node"] = node

    def _tell_peers(
        self,
        world: World,
        viewer: Node,
        about: dict[int, set[Aspect]],
        own: set[Aspect],
        message: dict[str, Any],
    ) -> None:
        if own & _REACH:
            # The viewer itself became something else to the policy: compare all it sees with all it saw.
            before = self._seen.ids()
            after = policy.peers_of(world, viewer.id)
        else:
            before = {node_id for node_id in about if node_id in self._seen}
            after = {
                node_id
                for node_id in about
                if node_id in world.nodes and policy.sees(world, viewer, world.nodes[node_id])
            }
        removed = before - after
        whole = after - before
        for node_id in removed:
            self._seen.discard(node_id)
            self._routers.pop(node_id, None)
        for node_id in whole:
            self._seen.add(node_id)
        whole |= {node_id for node_id in after & before if not about.get(node_id, set()) <= PATCHABLE}
        whole |= self._routers_moved(world, viewer, whole)
        patched = sorted(node_id for node_id in about if node_id in after and node_id not in whole)
        if removed:
            message["PeersRemoved"] = sorted(removed)
        if whole:
            message["PeersChanged"] = [self._peer(world, peer) for peer in sorted(whole)]
            profiles = self._new_profiles(world, whole)
            if profiles:
                message["UserProfiles"] = profiles
        if patched:
            message["PeersChangedPatch"] = [
                peer_patch(world.nodes[peer], frozenset(about[peer]), peer in world.online) for peer in patched
            ]

    def _routers_moved(self, world: World, viewer: Node, fresh: set[int]) -> set[int]:
        """The visible routers that lead elsewhere than the viewer was told; `fresh` are told anew in any case."""
        moved = set()
        for peer in (self._routers.keys() | {router for router in world.routers if router in self._seen}) - fresh:
            leads_to = self._leads_to(world, viewer, peer)
            if leads_to != self._routers.get(peer, _NOWHERE):
                moved.add(peer)
        for peer in moved | fresh:
            leads_to = self._leads_to(world, viewer, peer)
            if leads_to == _NOWHERE:
                self._routers.pop(peer, None)
            else:
                self._routers[peer] = leads_to
        return moved

    def _tell_reach(self, world: World, viewer: Node, message: dict[str, Any]) -> None:
        rules = policy.filter_rules(world, viewer)
        if rules != self._filter:
            self._filter = rules
            message["PacketFilters"] = {"base": rules}
        dns = _dns_config(world, viewer)
        if dns != self._dns:
            self._dns = dns
            message["DNSConfig"] = dns
        if world.derp_map is not self._derp_map:
            self._derp_map = world.derp_map
            message["DERPMap"] = world.derp_map
        renamed = [
            user_id for user_id, user in self._profiles.items() if user is not None and world.users.get(user_id) != user
        ]
        for user_id in renamed:
            current = world.users.get(user_id)
            if current is not None:
                self._profiles[user_id] = current
                message.setdefault("UserProfiles", []).append(user_profile(current))

    def _new_profiles(self, world: World, node_ids: Iterable[int]) -> list[dict[str, Any]]:
        told = []
        for owner in sorted({_owner(world.nodes[node_id]) for node_id in node_ids} - self._profiles.keys()):
            user = world.users.get(owner)
            self._profiles[owner] = user
            told.append(user_profile(user))
        return told

    def _leads_to(self, world: World, viewer: Node, peer: int) -> _LeadsTo:
        if peer not in world.routers:
            return _NOWHERE
        router = world.nodes[peer]
        return _LeadsTo(
            policy.routes_for(world, viewer, router), tuple(policy.published_for(world, viewer, router)) or _NO_DEVICES
        )

    def _peer(self, world: World, peer: int) -> dict[str, Any]:
        return _peer_node(world, world.nodes[peer], self._routers.get(peer, _NOWHERE), self._facts.lengthen_addresses)


def full_map(world: World, viewer_id: int, facts: SessionFacts, now: datetime) -> dict[str, Any]:
    """One whole map without a stream. Raises KeyError if there is no such node."""
    return MapView(viewer_id, facts).full(world, now)


def peer_patch(node: Node, aspects: frozenset[Aspect], online: bool) -> dict[str, Any]:
    """A PeersChangedPatch entry (control.md 7.4) with the fields that `aspects` name."""
    patch: dict[str, Any] = {"NodeID": node.id}
    if Aspect.NODE_KEY in aspects:
        patch["Key"] = key_text(NODE, node.node_key)
    if Aspect.DISCO_KEY in aspects:
        patch["DiscoKey"] = key_text(DISCO, node.disco_key)
    if Aspect.HOME_DERP in aspects:
        patch["DERPRegion"] = node.home_derp
    if Aspect.ENDPOINTS in aspects:
        patch["Endpoints"] = list(node.endpoints)
    if Aspect.CAP in aspects:
        patch["Cap"] = node.cap
    if Aspect.EXPIRY in aspects:
        patch["KeyExpiry"] = time_text(node.expiry) if node.expiry else _ZERO_TIME
    # With a new disco key always: clients drop one that seems older than what they know (control.md 7.4, second trap).
    if Aspect.ONLINE in aspects or Aspect.DISCO_KEY in aspects:
        patch["Online"] = online
        if node.last_seen is not None:  # while it is online too: it may have gone and come back since the last message
            patch["LastSeen"] = time_text(node.last_seen)
    return patch


def user_profile(user: User | None) -> dict[str, Any]:
    """A UserProfile (control.md 8.2); None: of the owner of tagged nodes."""
    if user is None:
        return {"ID": TAGGED_USER_ID, "LoginName": TAGGED_LOGIN, "DisplayName": "Tagged Devices"}
    return {"ID": user.id, "LoginName": user.name, "DisplayName": user.display_name}


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _shared_patch(changes: Sequence[Change]) -> SharedMessage:
    """The patches of these changes, all of peers; made once for all the viewers that have just these to be told of."""
    key = ("patch", *changes)
    memo = changes[-1].memo
    message: SharedMessage | None = memo.get(key)
    if message is None:
        last: dict[int, Change] = {}
        aspects: dict[int, frozenset[Aspect]] = {}
        for change in changes:
            assert change.node is not None
            last[change.node.id] = change
            aspects[change.node.id] = aspects.get(change.node.id, frozenset()) | change.aspects
        message = SharedMessage(
            PeersChangedPatch=[
                peer_patch(change.node, aspects[node_id], change.online)
                for node_id, change in sorted(last.items())
                if change.node is not None
            ]
        )
        memo[key] = message
    return message


def _owner(node: Node) -> int:
    return TAGGED_USER_ID if node.user_id is None else node.user_id


def _node(world: World, node: Node) -> dict[str, Any]:
    """What a node's entry says to everybody, itself included."""
    told: dict[str, Any] = {
        "ID": node.id,
        "StableID": f"n{node.id}",
        "Name": world.dns_name(node.name) + ".",
        "User": _owner(node),
        "Key": key_text(NODE, node.node_key),
        "DiscoKey": key_text(DISCO, node.disco_key),
        "Addresses": [f"{node.ipv4}/32", f"{node.ipv6}/128"],
        "Endpoints": list(node.endpoints),
        "HomeDERP": node.home_derp,
        "Created": time_text(node.created),
        "MachineAuthorized": True,
    }
    if node.cap:
        told["Cap"] = node.cap
    if node.expiry is not None:
        told["KeyExpiry"] = time_text(node.expiry)
    if node.id in world.expired:
        told["Expired"] = True
    if node.tags:
        told["Tags"] = list(node.tags)
    if node.last_seen is not None:
        told["LastSeen"] = time_text(node.last_seen)
    return told


def _self_node(world: World, node: Node) -> dict[str, Any]:
    told = _node(world, node)
    told["Machine"] = key_text(MACHINE, node.machine_key)
    told["Online"] = True  # it is reading this
    told["AllowedIPs"] = told["Addresses"] + [str(prefix) for prefix in node.served]
    told["Hostinfo"] = hostinfo.for_peers(node.hostinfo, node.advertised)
    primary = policy.primary_routes(world, node)
    if primary:
        told["PrimaryRoutes"] = [str(prefix) for prefix in primary]
    devices = world.published_of(node.id)
    told["CapMap"] = {published.CAPABILITY: published.capability(devices)} if devices else {}
    return told


def _settled(self_node: dict[str, Any]) -> dict[str, Any]:
    """A self node without what the client itself reports: it needs no answer to that."""
    by_itself = ("Endpoints", "HomeDERP", "DiscoKey", "Cap", "LastSeen", "Hostinfo")
    return {name: value for name, value in self_node.items() if name not in by_itself}


def _peer_node(world: World, node: Node, leads_to: _LeadsTo, lengthen: bool) -> dict[str, Any]:
    memo = world.node_memo.setdefault(node.id, {})
    key = None if leads_to is _NOWHERE else (leads_to, lengthen and bool(leads_to.devices))
    told: dict[str, Any] | None = memo.get(key)
    if told is None:
        told = _node(world, node)
        devices = _device_prefixes(leads_to.devices)
        allowed = told["Addresses"] + devices + [str(prefix) for prefix in leads_to.routes]
        if lengthen:
            told["Addresses"] = told["Addresses"] + devices
        told["AllowedIPs"] = allowed
        told["Online"] = node.id in world.online
        told["Hostinfo"] = hostinfo.for_peers(node.hostinfo, leads_to.routes)
        if leads_to.routes:
            told["PrimaryRoutes"] = [str(prefix) for prefix in leads_to.routes]
        memo[key] = told
    return told


def _device_prefixes(devices: Sequence[Published]) -> list[str]:
    prefixes = []
    for device in devices:
        prefixes.append(f"{device.ipv4}/32")
        if device.target6 is not None:
            prefixes.append(f"{device.ipv6}/128")
    return prefixes


def _dns_config(world: World, viewer: Node) -> dict[str, Any]:
    # A client without a network interface of its own has no resolver with search domains that would complete `nas`.
    wants_short_names = viewer.hostinfo.get("Userspace") is True
    key = ("dns", viewer.user_id, wants_short_names)
    config: dict[str, Any] | None = world.reach_memo.get(key)
    if config is None:
        routes: dict[str, list[dict[str, str]]] = {world.suffix: []}
        for suffix, resolvers in sorted(world.split_dns.items()):
            routes[suffix] = [{"Addr": resolver} for resolver in resolvers]
        config = {"Proxied": True, "Domains": [world.suffix], "Routes": routes}
        records = []
        for device in policy.published_names(world, viewer):
            # No "Type": Go clients look a name up for their own dialling only in records without one, and keep the
            # last address of a name; everybody infers the type from the value. Measured with 1.90.9.
            for name in (world.dns_name(device.name), *((device.name,) if wants_short_names else ())):
                if device.target6 is not None:
                    records.append({"Name": name, "Value": str(device.ipv6)})
                records.append({"Name": name, "Value": str(device.ipv4)})
        if records:
            config["ExtraRecords"] = records
        world.reach_memo[key] = config
    return config
