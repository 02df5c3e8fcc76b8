"""Anything that may happen to a mesh, in any order: what must hold all the time, and after a restart.

And each client, told by differences and now and then late, knows what a fresh client would be told.
"""

import asyncio
import shutil
import tempfile
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.rig import NEW_GO_CLIENT, OLD_GO_CLIENT, OTHER_CLIENT, Clock, Mesh, device, key
from wayhome.coordinator.addresses import RESERVED_V4, RESERVED_V6
from wayhome.coordinator.registry import Registry, RegistryError, Settings

USERS = ("anna", "bert")
HOSTNAMES = ("laptop", "Laptop", "nas", "nas-1", "", "tv.lan", "日本")
PREFIXES = ("192.168.1.0/24", "192.168.2.0/24", "fd00:1::/64")
picks = st.integers(min_value=0, max_value=10**6)


class AnyMesh(RuleBasedStateMachine):
    @initialize(patience=st.sampled_from([1, 1, 3, 8]))
    def start(self, patience):
        self.patience = patience  # how many things happen before the clients are told
        self.happened = 0
        self.path = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.machines = 0
        self.node_keys = 0
        self.given = {}  # address -> whose it was: (node id) or (router id, name)
        self.ids = set()
        self.watching = {}
        self.mesh = None
        self.open()
        for name in USERS:
            self.run(self.registry.create_user(name))
        # A mesh worth watching from the start: people's devices, and routers that share prefixes.
        for who, hostname, prefixes in (
            ("anna", "laptop", []),
            ("bert", "laptop", []),
            ("anna", "board", list(PREFIXES)),
            ("bert", "board", list(PREFIXES)),
            (None, "board", list(PREFIXES)),
            ("anna", "board", list(PREFIXES)),
        ):
            self.join(who, hostname, False, prefixes, False)

    @property
    def registry(self):
        return self.mesh.registry

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def has_happened(self):
        self.happened += 1
        if self.happened % self.patience == 0:
            self.clients_catch_up()

    def tried(self, awaitable):
        """Do it; a refusal is an answer too."""
        try:
            return self.run(awaitable)
        except RegistryError:
            return None

    def open(self):
        self.mesh = Mesh(
            self.run(Registry.open(self.path / "wayhome.db", Settings(suffix="mesh.test"), self.clock)), self.clock
        )

    def node(self, pick):
        nodes = sorted(self.registry.nodes)
        return self.registry.nodes[nodes[pick % len(nodes)]]

    def has_nodes(self):
        return self.mesh is not None and bool(self.registry.nodes)

    @rule(
        who=st.sampled_from([*USERS, None]),
        hostname=st.sampled_from(HOSTNAMES),
        ephemeral=st.booleans(),
        prefixes=st.lists(st.sampled_from(PREFIXES), max_size=2),
        same_machine=st.booleans(),
    )
    def join(self, who, hostname, ephemeral, prefixes, same_machine):
        self.machines += not same_machine or not self.machines
        self.node_keys += 1
        user_id = None if who is None else self.registry.find_user(who).id
        _, secret = self.run(
            self.registry.create_auth_key(user_id, () if user_id else ("tag:router",), ephemeral=ephemeral)
        )
        told = device(self.machines, hostname, node_key=key(self.node_keys, 2), RoutableIPs=prefixes)
        node = self.run(self.registry.register_with_key(told, secret))
        facts = (OLD_GO_CLIENT, NEW_GO_CLIENT, OTHER_CLIENT)[node.id % 3]
        if node.id not in self.watching:
            self.watching[node.id] = self.mesh.watch(node, facts)
        self.has_happened()

    @rule(who=st.sampled_from(USERS), hostname=st.sampled_from(HOSTNAMES))
    def log_in(self, who, hostname):
        self.machines += 1
        self.node_keys += 1
        login = self.registry.begin_login(device(self.machines, hostname, node_key=key(self.node_keys, 2)))
        self.run(self.registry.approve_login(login.code, self.registry.find_user(who).id))
        self.has_happened()

    @precondition(has_nodes)
    @rule(pick=picks)
    def log_out(self, pick):
        node = self.node(pick)
        self.run(self.registry.logout(node.machine_key, node.node_key))
        self.has_happened()

    @precondition(has_nodes)
    @rule(pick=picks, days=st.sampled_from([-1, 1, 2]))
    def expire(self, pick, days):
        self.run(self.registry.expire_node(self.node(pick).id, self.clock() + timedelta(days=days)))
        self.has_happened()

    @precondition(has_nodes)
    @rule(pick=picks, name=st.sampled_from(["nas", "tv", "nas-1", None, "Bad Name", "wpad"]))
    def rename(self, pick, name):
        self.tried(self.registry.rename_node(self.node(pick).id, name))
        self.has_happened()

    @precondition(has_nodes)
    @rule(pick=picks)
    def delete(self, pick):
        self.run(self.registry.delete_node(self.node(pick).id))
        self.has_happened()

    @precondition(has_nodes)
    @rule(
        pick=picks,
        hostname=st.sampled_from(HOSTNAMES),
        region=st.sampled_from([None, 0, 900, 901]),
        port=st.integers(1, 3),
        prefixes=st.none() | st.lists(st.sampled_from(PREFIXES), max_size=3),
        disco=st.integers(0, 3),
        services=st.booleans(),
    )
    def report(self, pick, hostname, region, port, prefixes, disco, services):
        hostinfo = {"Hostname": hostname, "OS": "linux"}
        if prefixes is not None:
            hostinfo["RoutableIPs"] = prefixes
        if region is not None:
            hostinfo["NetInfo"] = {"PreferredDERP": region}
        if services:
            hostinfo["Services"] = [{"Proto": "peerapi4", "Port": 40000}, {"Proto": "tcp", "Port": 22}]
        self.run(
            self.registry.update_node(
                self.node(pick).id,
                hostinfo=hostinfo if services or region is not None or prefixes is not None else None,
                endpoints=[f"198.51.100.7:{port}"],
                disco_key=key(disco, 3) if disco else None,
                cap=110 + port,
            )
        )
        self.has_happened()

    @precondition(has_nodes)
    @rule(pick=picks, online=st.booleans())
    def come_or_go(self, pick, online):
        self.run(self.registry.set_online(self.node(pick).id, online))
        self.has_happened()

    @precondition(has_nodes)
    @rule(prefix=st.sampled_from([*PREFIXES, "0.0.0.0/0", "100.64.0.0/16"]), approve=st.booleans(), pick=picks)
    def route(self, pick, prefix, approve):
        offering = sorted(node.id for node in self.registry.nodes.values() if node.advertised)
        if offering:
            call = self.registry.approve_route if approve else self.registry.unapprove_route
            self.tried(call(offering[pick % len(offering)], prefix))
            self.has_happened()

    @precondition(has_nodes)
    @rule(
        pick=picks,
        name=st.sampled_from(["nas", "printer", "laptop"]),
        host=st.integers(1, 3),
        v6=st.booleans(),
        ports=st.sampled_from([(), ("tcp:80", "udp:5000-5010")]),
    )
    def publish(self, pick, name, host, v6, ports):
        router = self.node(pick)
        device = self.tried(
            self.registry.publish(name, router.id, f"192.168.1.{host}", f"fd00:1::{host}" if v6 else None, ports)
        )
        if device is not None:
            before = [address for address, whose in self.given.items() if whose == (router.id, name)]
            assert before in ([], [device.ipv4])
        self.has_happened()

    @rule(name=st.sampled_from(["nas", "printer", "laptop"]))
    def unpublish(self, name):
        self.tried(self.registry.unpublish(name))
        self.has_happened()

    @rule(who=st.sampled_from(USERS), display_name=st.sampled_from(["A", "B"]))
    def rename_user(self, who, display_name):
        user = self.registry.find_user(who)
        self.run(self.registry.rename_user(user.id, user.name, display_name))
        self.has_happened()

    @rule(region=st.integers(900, 902))
    def change_relays(self, region):
        self.registry.set_derp_map({"Regions": {str(region): {}}})
        self.has_happened()

    @rule(minutes=st.sampled_from([1, 20, 60 * 25]))
    def time_passes(self, minutes):
        self.clock.pass_by(minutes=minutes)
        due = self.registry.next_timer()
        if due is not None and due <= self.clock():
            self.run(self.registry.timer_fired())
            assert self.registry.next_timer() is None or self.registry.next_timer() > self.clock()
        self.has_happened()

    @precondition(has_nodes)
    @rule(pick=picks, facts=st.sampled_from([OLD_GO_CLIENT, NEW_GO_CLIENT, OTHER_CLIENT]))
    def poll(self, pick, facts):
        node_id = self.node(pick).id
        if node_id in self.watching:
            self.watching[node_id].stop()
        self.watching[node_id] = self.mesh.watch(self.node(pick), facts)

    @rule()
    def restart(self):
        before = (dict(self.registry.users), dict(self.registry.nodes), dict(self.registry.published))
        keys = dict(self.registry.auth_keys)
        self.run(self.registry.close())
        self.open()
        assert (dict(self.registry.users), dict(self.registry.nodes), dict(self.registry.published)) == before
        assert dict(self.registry.auth_keys) == keys
        self.watching = {}

    @precondition(has_nodes)
    @rule()
    def shared_prefixes_change_hands(self):
        for node in [node for node in self.registry.nodes.values() if node.served]:
            self.run(self.registry.set_online(node.id, node.id not in self.registry.world.online))
            self.has_happened()

    def clients_catch_up(self):
        for node_id, client in list(self.watching.items()):
            message = client.catch_up()
            if node_id not in self.registry.nodes:
                assert message is None
                del self.watching[node_id]
                continue
            assert client.knows() == client.would_know()

    @invariant()
    def an_address_has_one_owner_for_ever(self):
        if self.mesh is None:
            return
        for node in self.registry.nodes.values():
            assert self.given.setdefault(node.ipv4, node.id) == node.id
        for entry in self.registry.published.values():
            assert self.given.setdefault(entry.ipv4, (entry.node_id, entry.name)) == (entry.node_id, entry.name)
        holders = [*self.registry.nodes.values(), *self.registry.published.values()]
        for family in ("ipv4", "ipv6"):
            addresses = [getattr(holder, family) for holder in holders]
            assert len(set(addresses)) == len(addresses)
            assert not any(address in reserved for address in addresses for reserved in RESERVED_V4 + RESERVED_V6)
        assert all(node.ipv4 in ip_network("100.64.0.0/10") for node in holders)

    @invariant()
    def names_are_unique_and_ids_are_new(self):
        if self.mesh is None:
            return
        names = [holder.name for holder in (*self.registry.nodes.values(), *self.registry.published.values())]
        assert len(set(names)) == len(names)
        assert set(names) == self.registry.world.names
        for node_id in self.registry.nodes.keys() - self.ids:
            assert node_id > max(self.ids, default=0)
        self.ids |= self.registry.nodes.keys()

    def teardown(self):
        if getattr(self, "mesh", None) is not None:
            self.clients_catch_up()
            self.run(self.registry.close())
            self.loop.close()
            shutil.rmtree(self.path)


TestAnyMesh = AnyMesh.TestCase
# Without the shrinking phase, which would take minutes here; add it to look into a failure.
TestAnyMesh.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
