"""The daemon and its configuration file: what the file says holds, what `up` said waits behind it."""

import json

import pytest

from agent.fakes import Peer, until, world
from wayhomed.agent.control_session import Phase
from wayhomed.core.ceiling import ANY
from wayhomed.wire import keys
from wayhomed.wire.errors import BadWire

pytestmark = pytest.mark.both_pythons
LAN = "192.168.1.0/24"


async def restart(w) -> None:
    await w.stop_board()
    await w.start_board()


def file_with_key(w, tmp_path, *lines: str) -> None:
    """Write a file that names the coordinator and an auth key."""
    key = tmp_path / "auth.key"
    key.write_text("the-key\n")
    key.chmod(0o600)
    w.configure(f"login-server = {w.coordinator.url}", f"auth-key-file = {key}", *lines)


def last_hostinfo(w) -> dict:
    return w.coordinator.updates[-1]["Hostinfo"]


async def test_a_file_with_coordinator_and_key_brings_a_new_board_into_the_mesh_by_itself(tmp_path):
    async with world(tmp_path) as w:
        file_with_key(w, tmp_path, "hostname = attic", f"advertise-routes = {LAN}")
        await restart(w)
        await until(w.board.is_up)
        assert w.coordinator.registered[0]["Auth"] == {"AuthKey": "the-key"}
        assert last_hostinfo(w)["Hostname"] == "attic" and last_hostinfo(w)["RoutableIPs"] == [LAN]
        await restart(w)
        await until(w.board.is_up)
        assert "Auth" not in w.coordinator.registered[-1], "a key is shown to who does not know us yet"
        assert "the-key" not in "".join(w.log)


async def test_a_board_that_was_told_to_be_down_stays_down_whatever_the_file_says(tmp_path):
    async with world(tmp_path) as w:
        file_with_key(w, tmp_path)
        await restart(w)
        await until(w.board.is_up)
        w.board.change_prefs({"WantRunning": False})
        await restart(w)
        assert not w.state.prefs.want_running
        w.board.reload()
        assert w.board.session.phase == Phase.STOPPED
        w.board.change_prefs({"WantRunning": True})
        await until(w.board.is_up)


async def test_a_refused_auth_key_of_the_file_is_not_shown_again_until_it_is_another(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: {"Error": "spent"} if "Auth" in request else None
        file_with_key(w, tmp_path)
        await restart(w)
        await until(lambda: "into the file" in w.board.session.error)
        w.board.session.login("", False, False, False)
        await until(lambda: len(w.coordinator.registered) == 2)
        assert "Auth" not in w.coordinator.registered[1]
        w.coordinator.register = lambda request: {"MachineAuthorized": True}
        (tmp_path / "auth.key").write_text("another")
        w.board.reload()
        await until(w.board.is_up)
        assert w.coordinator.registered[-1]["Auth"] == {"AuthKey": "another"}


async def test_an_expired_node_comes_back_by_the_files_auth_key(tmp_path):
    async with world(tmp_path) as w:
        file_with_key(w, tmp_path)
        await restart(w)
        await until(w.board.is_up)
        old = w.node_key

        def register(request):
            if request["NodeKey"] == keys.key_text(keys.NODE, old):
                return {"NodeKeyExpired": True}
            return {"MachineAuthorized": True} if "Auth" in request else {"AuthURL": "https://mesh.example/x"}

        w.coordinator.register = register
        w.coordinator.drop()
        await until(lambda: w.node_key != old)
        await until(w.board.is_up)
        assert w.board.session.auth_url == ""


async def test_what_stands_in_the_file_can_not_be_changed_by_up_and_the_reason_names_the_line(tmp_path):
    async with world(tmp_path) as w:
        w.configure("# mine", "hostname = attic", "accept-routes = no")
        await restart(w)
        with pytest.raises(BadWire, match=r"^hostname stands in .*wayhomed\.conf, line 2; change it there"):
            w.up("key", Hostname="cellar")
        with pytest.raises(BadWire, match="accept-routes stands in"):
            w.up("key", AcceptRoutes=True)
        assert not w.state.prefs.want_running
        w.up("key", Hostname="Attic", AcceptRoutes=False, SNAT=False)  # no contradiction
        await until(w.board.is_up)
        assert w.state.prefs.snat is False


async def test_a_line_taken_out_of_the_file_lets_what_up_said_hold_again(tmp_path):
    async with world(tmp_path) as w:
        w.up("key", Hostname="cellar")
        await until(w.board.is_up)
        w.configure("hostname = attic")
        await restart(w)
        await until(lambda: w.coordinator.updates and last_hostinfo(w)["Hostname"] == "attic")
        kept = json.loads((tmp_path / "state" / "state.json").read_text())["Prefs"]
        assert kept["Hostname"] == "cellar", "the file's settings are not kept twice"
        w.configure("snat = yes")
        w.board.reload()
        await until(lambda: last_hostinfo(w)["Hostname"] == "cellar")
        assert w.board.session.connected


async def test_a_file_read_again_is_told_to_the_coordinator_and_to_the_kernel(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        polls = len(w.coordinator.polls)
        w.configured = "yes"
        w.board.configuration.path = str(w.file)
        w.configure("hostname = attic", f"advertise-routes = {LAN}", "snat = no", "allow-lans = 192.168.1.9/32")
        w.board.reload()
        await until(lambda: last_hostinfo(w)["Hostname"] == "attic")
        await until(lambda: w.data_plane.plans[-1].firewall.snat is False)
        assert last_hostinfo(w)["RoutableIPs"] == [LAN]
        assert w.data_plane.plans[-1].denied == [f"of {LAN} only what allow-lans leaves is served"]
        await until(lambda: any("not allowed here: of" in text for text in w.log))
        assert len(w.coordinator.polls) == polls, "the connection stays"
        assert w.data_plane.stops == 0, "and so does the tunnel"


async def test_a_file_with_a_fault_changes_nothing_and_is_told_with_its_line(tmp_path):
    async with world(tmp_path) as w:
        w.configure("hostname = attic", "allow-services = tcp:22")
        await restart(w)
        await w.joined()
        w.configure("hostname = cellar", "allow-services = everything", "snat = jein")
        w.board.reload()
        assert w.state.prefs.hostname == "attic"
        assert w.board.configuration.ceiling.services == [(6, 22, 22)]
        assert [text for text in w.log if "line 2: allow-services = everything" in text]
        assert [text for text in w.log if "line 3: snat = jein" in text]
        await restart(w)
        assert w.state.prefs.hostname == "attic"
        assert w.board.configuration.ceiling.services == [(6, 22, 22)]
        await until(w.board.is_up)
        w.configure()
        w.board.reload()
        assert w.board.configuration.ceiling.services == ANY and w.state.prefs.hostname == ""
        assert w.board.configuration.problems == []


async def test_a_first_file_with_a_fault_lets_the_board_join_with_the_faulty_parts_closed(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.peers = [Peer(2, "laptop")]
        everything = {"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}], "IPProto": [6]}
        w.coordinator.first_fields = {"PacketFilters": {"base": [everything]}}
        file_with_key(w, tmp_path, f"advertise-routes = {LAN}", "allow-service = tcp22")
        await restart(w)
        await until(w.board.is_up)
        await until(lambda: w.data_plane.plans[-1].firewall.rules)
        own, opened = bytes((100, 64, 0, 1)), []
        for rule in w.data_plane.plans[-1].firewall.rules:
            opened += [rule.protocols for one in rule.openings if one.destinations.contains(own)]
        assert opened == [(1, 58)], "pings alone"
        assert w.data_plane.plans[-1].forwarding, "and the LAN as ever"


async def test_a_network_beyond_the_ceiling_can_not_be_offered_by_up(tmp_path):
    async with world(tmp_path) as w:
        w.configure("allow-lans = 10.0.0.0/8")
        await restart(w)
        with pytest.raises(BadWire, match=r"192.168.1.0/24 can't be offered: allow-lans .* leaves it out"):
            w.up("key", AdvertiseRoutes=[LAN])
        w.up("key", AdvertiseRoutes=["10.1.0.0/16"])
        await until(w.board.is_up)


async def test_another_coordinator_in_the_file_is_joined_with_other_keys_also_after_a_restart(tmp_path):
    async with world(tmp_path) as w:
        await w.joined()
        old, port = w.node_key, w.coordinator.port
        w.configure(f"login-server = http://localhost:{port}")
        await restart(w)
        assert w.node_key != old and not (tmp_path / "state" / "netmap.json").exists()
        await until(w.board.is_up)
        new = w.node_key
        await restart(w)
        assert w.node_key == new, "the second start is no move"
        await until(w.board.is_up)
        w.configure("login-server = http://127.0.0.1:1")
        w.board.reload()
        assert w.node_key not in (old, new)
        await until(lambda: not w.data_plane.plans[-1].peers)


async def test_a_coordinator_taken_out_of_the_file_leaves_a_board_that_is_down(tmp_path):
    async with world(tmp_path) as w:
        file_with_key(w, tmp_path, "snat = no")
        await restart(w)
        await until(w.board.is_up)
        w.configure("snat = no")
        w.board.reload()
        await until(lambda: w.board.session.phase == Phase.STOPPED)
        await until(lambda: not w.board.standing)
        assert w.state.prefs.snat is False


async def test_a_link_that_is_no_web_page_is_not_shown(tmp_path):
    async with world(tmp_path) as w:
        w.coordinator.register = lambda request: {"AuthURL": "javascript:alert(1)"}
        w.up()
        await until(lambda: "a link is due" in w.board.session.error)
        assert w.board.session.auth_url == ""
