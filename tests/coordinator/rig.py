"""A registry with a clock that the test owns, and a client that applies netmaps by the rules of control.md 7.3."""

import copy
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from wayhome.coordinator.model import Device
from wayhome.coordinator.netmap import MapView, SessionFacts
from wayhome.coordinator.registry import Registry, Settings

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
OLD_GO_CLIENT = SessionFacts(capver=130, is_go_client=True)
NEW_GO_CLIENT = SessionFacts(capver=145, is_go_client=True)
OTHER_CLIENT = SessionFacts(capver=120, is_go_client=False)


class Clock:
    def __init__(self):
        self.time = START

    def __call__(self):
        return self.time

    def pass_by(self, **duration):
        self.time += timedelta(**duration)


def key(number, kind=1):
    return bytes([kind]) + number.to_bytes(31, "big")


def device(number, hostname="laptop", node_key=None, ephemeral=False, expiry=None, source="", **hostinfo):
    """Machine `number` as it registers; its node key is its own unless another is given."""
    return Device(
        machine_key=key(number, 1),
        node_key=node_key or key(number, 2),
        hostinfo={"Hostname": hostname, "OS": "linux", **hostinfo},
        cap=130,
        ephemeral=ephemeral,
        expiry=expiry,
        source=source,
    )


class Mesh:
    """A registry, its clock, and what it announced."""

    def __init__(self, registry, clock):
        self.registry = registry
        self.clock = clock
        self.changes = []
        registry.subscribe(self.changes.append)
        self._joined = 0

    async def user(self, name="anna"):
        try:
            return self.registry.find_user(name)
        except Exception:
            return await self.registry.create_user(name)

    async def key(self, user="anna", tags=(), **options):
        """A fresh auth key's secret."""
        user_id = None if tags else (await self.user(user)).id
        _, secret = await self.registry.create_auth_key(user_id, tags, **options)
        return secret

    async def join(self, hostname="laptop", user="anna", tags=(), ephemeral=False, **hostinfo):
        self._joined += 1
        secret = await self.key(user, tags, ephemeral=ephemeral)
        return await self.registry.register_with_key(device(1000 + self._joined, hostname, **hostinfo), secret)

    async def router(self, hostname="board", prefix="192.168.1.0/24", **who):
        """A router whose one route is approved."""
        node = await self.join(hostname, RoutableIPs=[prefix], **who)
        return await self.registry.approve_route(node.id, prefix)

    def map(self, node, facts=NEW_GO_CLIENT):
        return MapView(node.id, facts).full(self.registry.world, self.clock())

    def watch(self, node, facts=NEW_GO_CLIENT):
        return WatchingClient(self, node.id, facts)

    def last_change(self):
        return self.changes[-1]


@asynccontextmanager
async def mesh(path, clock=None, **settings):
    clock = clock or Clock()
    registry = await Registry.open(path / "wayhome.db", Settings(**settings), clock)
    try:
        yield Mesh(registry, clock)
    finally:
        await registry.close()


class WatchingClient:
    """A client with a stream: it knows what it was told, and nothing else."""

    def __init__(self, mesh, node_id, facts):
        self._mesh = mesh
        self.node_id = node_id
        self._view = MapView(node_id, facts)
        self._pending = []
        self._unsubscribe = mesh.registry.subscribe(self._changed)
        self.messages = []
        self.node = None
        self.peers = {}
        self.profiles = {}
        self.kept = {}
        self.apply(self._view.full(mesh.registry.world, mesh.clock()))

    def stop(self):
        self._unsubscribe()

    def _changed(self, change):
        if self.node_id in change.audience:
            self._pending.append(change)

    def catch_up(self):
        """Take what there is to be told; return it (None: nothing)."""
        changes, self._pending = self._pending, []
        message = self._view.delta(self._mesh.registry.world, changes, self._mesh.clock())
        if message is not None:
            assert message != {}
            self.apply(message)
        return message

    def apply(self, message):
        self.messages.append(message)
        message = json.loads(json.dumps(message))  # as it comes over the wire, and never the shared objects
        if message.get("Node"):
            self.node = message["Node"]
        for profile in message.get("UserProfiles", []):
            self.profiles[profile["ID"]] = profile
        if message.get("Peers"):
            self.peers = {peer["ID"]: peer for peer in message["Peers"]}
        else:
            for node_id in message.get("PeersRemoved", []):
                assert node_id in self.peers, "a removal must not tell of a peer that the viewer never saw"
                del self.peers[node_id]
            for peer in message.get("PeersChanged", []):
                self.peers[peer["ID"]] = peer
            for patch in message.get("PeersChangedPatch", []):
                self._patch(patch)
        for name in ("DNSConfig", "DERPMap", "Domain"):
            if name in message:
                self.kept[name] = message[name]
        self.kept.setdefault("PacketFilters", {}).update(message.get("PacketFilters", {}))
        for node in (self.node, *self.peers.values()):
            assert node["User"] in self.profiles, "a profile comes before or with its first use"

    def _patch(self, patch):
        assert patch["NodeID"] in self.peers, "a patch must not tell of a peer that the viewer never saw"
        peer = self.peers[patch["NodeID"]]
        names = {"DERPRegion": "HomeDERP"}
        for name, value in patch.items():
            if name != "NodeID":
                peer[names.get(name, name)] = value

    def knows(self):
        """All that it was told, in a form that compares."""
        return _comparable(self.node, self.peers, self.kept, self.profiles)

    def would_know(self):
        """The same for a client that asks anew now."""
        fresh = MapView(self.node_id, self._view._facts).full(self._mesh.registry.world, self._mesh.clock())
        fresh = json.loads(json.dumps(fresh))
        peers = {peer["ID"]: peer for peer in fresh["Peers"]}
        kept = {name: fresh[name] for name in ("DNSConfig", "DERPMap", "Domain", "PacketFilters")}
        return _comparable(fresh["Node"], peers, kept, {profile["ID"]: profile for profile in fresh["UserProfiles"]})


def _comparable(node, peers, kept, profiles):
    node = copy.deepcopy(node)
    # What a client reports about itself it is not told again.
    for reported in ("Endpoints", "HomeDERP", "DiscoKey", "Cap", "LastSeen", "Hostinfo"):
        node.pop(reported, None)
    peers = copy.deepcopy(peers)
    for one in (node, *peers.values()):
        if one.get("KeyExpiry") == "0001-01-01T00:00:00Z":
            del one["KeyExpiry"]
    used = {node["User"], *(peer["User"] for peer in peers.values())}
    return node, peers, kept, {user_id: profile for user_id, profile in profiles.items() if user_id in used}
