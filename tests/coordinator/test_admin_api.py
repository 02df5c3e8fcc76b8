"""The admin API over a real unix socket, on a real registry: what it does, and what it does not let happen."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from wayhome.coordinator.admin_api import listen, start_admin_api
from wayhome.coordinator.model import Device
from wayhome.coordinator.registry import Registry
from wayhome.errors import HostError


def device(number=1, hostname="board", routes=(), **hostinfo):
    machine_key = bytes([number]) * 32
    node_key = bytes([number + 100]) * 32
    told = {"Hostname": hostname, "OS": "linux", "OSVersion": "6.1", "IPNVersion": "1.90.9", **hostinfo}
    if routes:
        told["RoutableIPs"] = list(routes)
    return Device(machine_key=machine_key, node_key=node_key, hostinfo=told, cap=113)


class Api:
    """The API as a client of the socket sees it."""

    def __init__(self, registry, session):
        self.registry = registry
        self._session = session

    async def __call__(self, method, path, body=None, data=None, headers=None):
        """Return (status, decoded answer)."""
        if body is not None:
            data = json.dumps(body)
        async with self._session.request(method, f"http://wayhome/v1{path}", data=data, headers=headers) as answer:
            content = await answer.read()
            expected = "application/problem+json" if answer.status >= 400 else "application/json"
            assert answer.content_type == expected
            return answer.status, json.loads(content)

    async def join(self, number=1, hostname="board", routes=(), user="anna"):
        """Bring a device in by a fresh key of `user`, who is made if need be."""
        await self("POST", "/users", {"name": user})
        _, key = await self("POST", "/keys", {"user": user})
        return await self.registry.register_with_key(device(number, hostname, routes), key["key"])


@pytest.fixture
async def api(tmp_path):
    registry = await Registry.open(tmp_path / "wayhome.db")
    server = await start_admin_api(registry, tmp_path / "wayhome.sock", lambda: {"url": "http://example.net"})
    connector = aiohttp.UnixConnector(str(tmp_path / "wayhome.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Api(registry, session)
    await server.close()
    await registry.close()


async def test_a_user_is_created_listed_and_deleted(api):
    status, user = await api("POST", "/users", {"name": "anna", "display_name": "Anna Bërg"})
    assert status == 201
    assert (user["name"], user["display_name"], user["nodes"]) == ("anna", "Anna Bërg", 0)
    assert [user["name"] for user in (await api("GET", "/users"))[1]] == ["anna"]
    assert (await api("DELETE", "/users/anna"))[0] == 200
    assert (await api("GET", "/users"))[1] == []


async def test_a_user_with_devices_is_not_deleted(api):
    await api.join()
    status, problem = await api("DELETE", "/users/anna")
    assert status == 409
    assert problem["status"] == 409 and problem["detail"]
    assert len(api.registry.nodes) == 1


async def test_an_auth_keys_secret_is_in_the_answer_to_its_creation_and_nowhere_else(api):
    await api("POST", "/users", {"name": "anna"})
    _, key = await api("POST", "/keys", {"user": "anna", "reusable": True})
    assert key["key"] and key["reusable"] and key["state"] == "valid"
    _, keys = await api("GET", "/keys")
    assert [entry["id"] for entry in keys] == [key["id"]]
    assert key["key"] not in json.dumps(keys) and "key" not in keys[0]
    _, revoked = await api("DELETE", f"/keys/{key['id']}")
    assert revoked["state"] == "revoked" and "key" not in revoked


async def test_a_key_is_someones_or_tagged_but_not_both(api):
    await api("POST", "/users", {"name": "anna"})
    assert (await api("POST", "/keys", {"tags": ["tag:router"]}))[0] == 201
    assert (await api("POST", "/keys", {"user": "anna", "tags": ["tag:router"]}))[0] == 409
    assert (await api("POST", "/keys", {}))[0] == 409


async def test_the_secret_of_a_key_is_not_logged(api, caplog):
    caplog.set_level("DEBUG")
    await api("POST", "/users", {"name": "anna"})
    _, key = await api("POST", "/keys", {"user": "anna"})
    assert f"uid {os.getuid()}: POST /v1/keys: 201" in caplog.text
    assert key["key"] not in caplog.text


async def test_a_node_shows_its_owner_addresses_routes_and_version(api):
    await api.join(routes=["192.168.1.0/24"])
    _, [node] = await api("GET", "/nodes")
    assert (node["name"], node["user"], node["tags"]) == ("board", "anna", [])
    assert len(node["addresses"]) == 2 and node["online"] is False
    assert (node["version"], node["system"]) == ("1.90.9", "linux 6.1")
    assert (node["advertised_routes"], node["approved_routes"]) == (["192.168.1.0/24"], [])


async def test_a_node_is_found_by_name_address_and_id(api):
    node = await api.join()
    for text in ("board", "board.wayhome.internal", str(node.ipv4), str(node.ipv6), str(node.id)):
        status, found = await api("GET", f"/nodes/{text}")
        assert (status, found["id"]) == (200, node.id)


async def test_a_mistyped_node_brings_the_name_that_was_meant(api):
    await api.join()
    status, problem = await api("GET", "/nodes/baord")
    assert status == 404
    assert "did you mean board?" in problem["detail"]


async def test_a_node_is_renamed_expired_and_deleted(api):
    await api.join()
    assert (await api("POST", "/nodes/board/rename", {"name": "shed"}))[1]["name"] == "shed"
    assert (await api("POST", "/nodes/shed/expire"))[1]["expired"] is True
    assert (await api("DELETE", "/nodes/shed"))[0] == 200
    assert (await api("GET", "/nodes"))[1] == []


async def test_a_waiting_device_is_let_in_by_its_code(api):
    await api("POST", "/users", {"name": "anna"})
    login = api.registry.begin_login(device())
    waiting = asyncio.create_task(api.registry.wait_for_login(login.id, login.device.machine_key))
    _, [shown] = await api("GET", "/logins")
    assert (shown["code"], shown["device"], shown["fingerprint"]) == (login.code, "board", login.fingerprint)
    assert login.id not in json.dumps(shown)
    status, answer = await api("POST", f"/logins/{login.code}/approve", {"user": "anna"})
    assert (status, answer["node"]["user"]) == (200, "anna")
    assert (await waiting).name == "board"
    assert (await api("GET", "/logins"))[1] == []


async def test_a_code_is_taken_however_it_was_typed(api):
    await api("POST", "/users", {"name": "anna"})
    login = api.registry.begin_login(device())
    assert (await api("POST", f"/logins/{login.code.lower()}/approve", {"user": "anna"}))[0] == 200


async def test_a_waiting_device_is_refused_by_its_code_once(api):
    login = api.registry.begin_login(device())
    assert (await api("POST", f"/logins/{login.code}/refuse"))[0] == 200
    status, problem = await api("POST", f"/logins/{login.code}/refuse")
    assert status == 404 and problem["detail"]


async def test_a_route_waits_until_it_is_approved_and_can_be_taken_back(api):
    await api.join(routes=["192.168.1.0/24"])
    waiting = {
        "node": "board",
        "prefix": "192.168.1.0/24",
        "advertised": True,
        "approved": False,
        "approvable": True,
    }
    assert (await api("GET", "/routes"))[1] == [waiting]
    wish = {"node": "board", "prefix": " 192.168.1.0/24 "}
    assert await api("POST", "/routes", wish) == (200, {**waiting, "approved": True})
    assert await api("DELETE", "/routes?node=board&prefix=192.168.1.0/24") == (200, waiting)


@pytest.mark.parametrize("prefix", ["100.64.0.0/16", "0.0.0.0/0", "10.0.0.0/8", "192.168.1.7/24", "nonsense", ""])
async def test_a_route_that_may_not_be_is_refused_with_a_reason(api, prefix):
    await api.join(routes=["192.168.1.0/24", "100.64.0.0/16", "0.0.0.0/0"])
    status, problem = await api("POST", "/routes", {"node": "board", "prefix": prefix})
    assert status in (404, 409)
    assert problem["detail"]
    assert not any(route["approved"] for route in (await api("GET", "/routes"))[1])


async def test_a_lan_device_is_published_and_taken_back(api):
    await api.join()
    wish = {"name": "nas", "via": "board", "ipv4": "192.168.1.10", "ports": ["tcp:80", "udp:5000-5010"]}
    status, entry = await api("POST", "/published", wish)
    assert status == 201
    assert (entry["via"], entry["targets"], entry["ports"]) == ("board", ["192.168.1.10"], wish["ports"])
    assert (await api("GET", "/published"))[1] == [entry]
    assert (await api("GET", "/nodes/board"))[1]["published"] == ["nas"]
    status, problem = await api("DELETE", "/published/nass")
    assert status == 404 and "did you mean nas?" in problem["detail"]
    assert await api("DELETE", "/published/nas") == (200, entry)


async def test_a_published_device_with_ipv6_in_its_lan_shows_both_addresses(api):
    await api.join()
    wish = {"name": "nas", "via": "board", "ipv4": "192.168.1.10", "ipv6": "fd00::10"}
    _, entry = await api("POST", "/published", wish)
    assert len(entry["addresses"]) == 2 and entry["targets"] == ["192.168.1.10", "fd00::10"]


async def test_status_counts_and_says_what_the_server_adds(api):
    await api.join()
    _, status = await api("GET", "/status")
    assert (status["users"], status["nodes"], status["online"]) == (1, 1, 0)
    assert status["url"] == "http://example.net" and status["version"]


# Hostile input


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"name": "a\\ud800"}',
        b'{"name": 7}',
        b'{"name": ["anna"]}',
        b'{"name": "anna", "is_admin": true}',
        b'{"name": "anna", "display_name": null}',
        b'{"name": "' + b"a" * 300 + b'"}',
        b'{"name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ],
)
async def test_a_body_of_the_wrong_form_is_refused_and_changes_nothing(api, body):
    status, problem = await api("POST", "/users", data=body)
    assert status == 400
    assert problem["detail"].startswith("the request is not understood")
    assert api.registry.users == {}


@pytest.mark.parametrize(
    "body",
    [
        {"user": "anna", "expires_seconds": 0},
        {"user": "anna", "expires_seconds": -1},
        {"user": "anna", "expires_seconds": 10**18},
        {"user": "anna", "expires_seconds": 1.5},
        {"user": "anna", "reusable": "yes"},
        {"tags": "tag:a"},
        {"tags": ["tag:a"] * 200},
    ],
)
async def test_a_key_with_senseless_wishes_is_refused(api, body):
    await api("POST", "/users", {"name": "anna"})
    assert (await api("POST", "/keys", body))[0] == 400
    assert api.registry.auth_keys == {}


@pytest.mark.parametrize("name", ["an\x00na", "an\nna", "\x1b[31manna", "anna\u202egpj", "\u2066anna", "anna\u200f"])
async def test_a_name_that_would_steer_a_display_is_refused_everywhere(api, name):
    await api.join()
    for path, body in (
        ("/users", {"name": name}),
        ("/users", {"name": "bob", "display_name": name}),
        ("/keys", {"tags": [name]}),
        ("/nodes/board/rename", {"name": name}),
        ("/published", {"name": name, "via": "board", "ipv4": "192.168.1.10"}),
    ):
        status, problem = await api("POST", path, body)
        assert status == 400, path
        assert name not in problem["detail"]
    assert [user.name for user in api.registry.users.values()] == ["anna"]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a b", "", "../etc", "-rf", "nas.other.example"])
async def test_a_name_that_is_no_dns_label_is_refused_for_nodes_and_published_devices(api, name):
    await api.join()
    assert (await api("POST", "/nodes/board/rename", {"name": name}))[0] == 409
    assert (await api("POST", "/published", {"name": name, "via": "board", "ipv4": "192.168.1.10"}))[0] == 409


async def test_a_huge_body_is_refused(api):
    status, problem = await api("POST", "/users", data=b'{"name": "' + b"a" * (1 << 20) + b'"}')
    assert (status, problem["detail"]) == (413, "a request has at most 64 KiB")


@pytest.mark.parametrize("path", ["/", "/nothing", "/nodes/a/b/c", "/users/%2e%2e%2fkeys", "/keys/x", "/keys/-1"])
async def test_a_path_that_leads_nowhere_is_a_problem_with_a_sentence(api, path):
    method = "DELETE" if path.startswith("/keys") else "GET"
    status, problem = await api(method, path)
    assert status == 404 and problem["detail"]


async def test_an_unknown_method_is_a_problem_with_a_sentence(api):
    status, problem = await api("PUT", "/users", {"name": "anna"})
    assert status == 405 and problem["detail"]


async def test_a_bug_is_logged_and_answered_without_its_insides(api, monkeypatch, caplog):
    async def fail(*_):
        raise KeyError("hidden")

    monkeypatch.setattr(api.registry, "create_user", fail)
    status, problem = await api("POST", "/users", {"name": "anna"})
    assert status == 500
    assert "hidden" not in problem["detail"] and "hidden" in caplog.text


async def test_a_dns_name_in_a_host_header_makes_no_difference(api):
    assert (await api("GET", "/users", headers={"Host": "evil.example"}))[0] == 200


# The socket


async def test_the_socket_is_open_to_its_owner_alone(api, tmp_path):
    mode = (tmp_path / "wayhome.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.lab
async def test_a_strangers_process_cannot_open_the_socket(api, tmp_path):
    # every folder on the way is open, so that the socket's own rights are what is tried
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    # the interpreter itself may be out of a stranger's reach, so it becomes one only when it has started
    knock = (
        "import os, socket, sys; knock = socket.socket(socket.AF_UNIX); os.setgroups([]); os.setgid(65534); "
        "os.setuid(65534); knock.connect(sys.argv[1])"
    )
    words = [sys.executable, "-c", knock, str(tmp_path / "wayhome.sock")]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True)
    assert done.returncode == 1
    assert b"PermissionError" in done.stderr


def test_a_socket_that_a_dead_server_left_is_replaced(tmp_path):
    path = tmp_path / "wayhome.sock"
    listen(path).close()
    assert path.exists()
    listen(path).close()


def test_a_socket_on_which_another_server_answers_is_left_alone(tmp_path):
    path = tmp_path / "wayhome.sock"
    first = listen(path)
    with pytest.raises(HostError, match="another coordinator answers"):
        listen(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    first.close()


@pytest.mark.parametrize("name", ["missing/wayhome.sock", "x" * 120])
def test_a_socket_that_cannot_be_made_is_told_in_words(tmp_path, name):
    with pytest.raises(HostError, match="cannot make the admin socket"):
        listen(tmp_path / name)


def test_a_file_in_the_sockets_place_is_not_deleted(tmp_path):
    path = tmp_path / "wayhome.sock"
    path.write_text("precious")
    with pytest.raises(HostError, match="cannot make the admin socket"):
        listen(path)
    assert path.read_text() == "precious"


async def test_closing_takes_the_socket_away(tmp_path):
    registry = await Registry.open(tmp_path / "wayhome.db")
    server = await start_admin_api(registry, Path(tmp_path / "wayhome.sock"))
    await server.close()
    await registry.close()
    assert not (tmp_path / "wayhome.sock").exists()
