"""The admin API: HTTP and JSON on a unix socket, for the `wayhome` commands and whoever may open the socket.

    api = await start_admin_api(registry, state / "wayhome.sock", lambda: {"url": url})
    ...
    await api.close()

Whoever may open the socket may do everything, so it is made for its owner alone (0600); root gets by anyway. Errors are
`application/problem+json` (RFC 9457) whose `detail` is a sentence with the next step. Each change is logged with the
uid of who asked; bodies and answers never are, they may hold an auth key.

| method and path | does |
|---|---|
| GET /v1/status | version, and what the serving process adds |
| GET, POST /v1/users; GET, DELETE /v1/users/NAME | |
| GET, POST /v1/keys; DELETE /v1/keys/ID | the answer to POST alone has `key` |
| GET /v1/nodes; GET, DELETE /v1/nodes/NODE | NODE: name, full name, address or id |
| POST /v1/nodes/NODE/rename, /v1/nodes/NODE/expire | |
| GET /v1/logins; POST /v1/logins/CODE/approve, /v1/logins/CODE/refuse | devices that wait to be let in |
| GET, POST /v1/routes; DELETE /v1/routes?node=NODE&prefix=PREFIX | POST approves, DELETE takes that back |
| GET, POST /v1/published; DELETE /v1/published/NAME | |
| GET, POST /v1/dns/split; DELETE /v1/dns/split/SUFFIX | resolvers of their own for parts of the DNS |
"""

import difflib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from ..errors import HostError
from . import admin_json as shapes
from .model import Node, User
from .registry import LoginGone, NotFound, Registry, RegistryError, utc_now
from .routes import prefix_from, sort_key

log = logging.getLogger(__name__)

# The largest honest body publishes a device with a hundred port ranges.
_BODY_LIMIT_BYTES = 64 << 10
_SOCKET_MODE = 0o600
_CHANGES = frozenset({"POST", "DELETE"})


class AdminApi:
    """A running admin API."""

    def __init__(self, path: Path, runner: web.AppRunner) -> None:
        self.path = path
        self._runner = runner
        self._inode = path.stat().st_ino

    async def close(self) -> None:
        """Stop listening, let running requests end, take the socket away."""
        await self._runner.cleanup()
        with suppress(FileNotFoundError):
            # not another server's socket that has come in its place
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()


async def start_admin_api(
    registry: Registry, socket_path: Path, extra: Callable[[], Mapping[str, Any]] | None = None
) -> AdminApi:
    """Listen at socket_path and answer for the registry until closed.

    extra is asked at each GET /v1/status for what the serving process knows beyond the registry: JSON-ready facts such
    as its url. Raises HostError if the socket can't be made or another coordinator answers there.
    """
    listener = listen(socket_path)
    runner = web.AppRunner(make_app(registry, extra or dict), access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return AdminApi(socket_path, runner)


def listen(path: Path) -> socket.socket:
    """Return a listening unix socket that only its owner may open, in the place of one that a dead process left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        # A socket is made with the umask's rights; setting them afterwards would leave it open for a moment.
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise HostError(
            f"cannot make the admin socket {path}: {error.strerror or error}; is its path right?"
        ) from error
    except HostError:
        listener.close()
        raise
    return listener


def _remove_dead(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise HostError(f"another coordinator answers at {path}; stop it first, or give this one another state directory")


def make_app(registry: Registry, extra: Callable[[], Mapping[str, Any]]) -> web.Application:
    """Return the API as an aiohttp application."""
    app = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[_errors_as_problems])
    app.add_routes(_Handlers(registry, extra).routes())
    return app


class _Handlers:
    """One method a route; each decodes, asks the registry, shows the answer."""

    def __init__(self, registry: Registry, extra: Callable[[], Mapping[str, Any]]) -> None:
        self._registry = registry
        self._extra = extra

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/status", self.status),
            web.get("/v1/users", self.list_users),
            web.post("/v1/users", self.create_user),
            web.get("/v1/users/{user}", self.show_user),
            web.delete("/v1/users/{user}", self.delete_user),
            web.get("/v1/keys", self.list_keys),
            web.post("/v1/keys", self.create_key),
            web.delete("/v1/keys/{id}", self.revoke_key),
            web.get("/v1/nodes", self.list_nodes),
            web.get("/v1/nodes/{node}", self.show_node),
            web.delete("/v1/nodes/{node}", self.delete_node),
            web.post("/v1/nodes/{node}/rename", self.rename_node),
            web.post("/v1/nodes/{node}/expire", self.expire_node),
            web.get("/v1/logins", self.list_logins),
            web.post("/v1/logins/{code}/approve", self.approve_login),
            web.post("/v1/logins/{code}/refuse", self.refuse_login),
            web.get("/v1/routes", self.list_routes),
            web.post("/v1/routes", self.approve_route),
            web.delete("/v1/routes", self.unapprove_route),
            web.get("/v1/published", self.list_published),
            web.post("/v1/published", self.publish),
            web.delete("/v1/published/{name}", self.unpublish),
            web.get("/v1/dns/split", self.list_split_dns),
            web.post("/v1/dns/split", self.set_split_dns),
            web.delete("/v1/dns/split/{suffix}", self.drop_split_dns),
        ]

    async def status(self, request: web.Request) -> web.Response:
        registry = self._registry
        now = utc_now()
        return _answer(
            {
                "version": version("wayhome"),
                "suffix": registry.settings.suffix,
                "users": len(registry.users),
                "nodes": len(registry.nodes),
                "online": sum(registry.is_online(node_id) for node_id in registry.nodes),
                "waiting": len(registry.logins),
                "warned": sum(bool(registry.warnings.of(node, now)) for node in registry.nodes.values()),
                **self._extra(),
            }
        )

    # Users

    async def list_users(self, request: web.Request) -> web.Response:
        users = sorted(self._registry.users.values(), key=lambda user: user.name)
        return _answer([shapes.user_json(self._registry, user) for user in users])

    async def create_user(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.CreateUser)
        user = await self._registry.create_user(wish.name, wish.display_name)
        return _answer(shapes.user_json(self._registry, user), HTTPStatus.CREATED)

    async def show_user(self, request: web.Request) -> web.Response:
        return _answer(shapes.user_json(self._registry, self._user(request.match_info["user"])))

    async def delete_user(self, request: web.Request) -> web.Response:
        user = self._user(request.match_info["user"])
        shown = shapes.user_json(self._registry, user)
        await self._registry.delete_user(user.id)
        return _answer(shown)

    # Auth keys

    async def list_keys(self, request: web.Request) -> web.Response:
        now = utc_now()
        keys = sorted(self._registry.auth_keys.values(), key=lambda key: key.id)
        return _answer([shapes.key_json(self._registry, key, now) for key in keys])

    async def create_key(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.CreateKey)
        user_id = None if wish.user is None else self._user(wish.user).id
        lifetime = None if wish.expires_seconds is None else timedelta(seconds=wish.expires_seconds)
        key, secret = await self._registry.create_auth_key(
            user_id, wish.tags, reusable=wish.reusable, ephemeral=wish.ephemeral, lifetime=lifetime
        )
        return _answer({**shapes.key_json(self._registry, key, utc_now()), "key": secret}, HTTPStatus.CREATED)

    async def revoke_key(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise NotFound("an auth key is named by its number; `wayhome key list` shows them")
        key = await self._registry.revoke_auth_key(int(text))
        return _answer(shapes.key_json(self._registry, key, utc_now()))

    # Nodes

    async def list_nodes(self, request: web.Request) -> web.Response:
        now = utc_now()
        return _answer([shapes.node_json(self._registry, node, now) for node in self._nodes_by_name()])

    async def show_node(self, request: web.Request) -> web.Response:
        return self._node_answer(self._node(request.match_info["node"]))

    async def delete_node(self, request: web.Request) -> web.Response:
        node = self._node(request.match_info["node"])
        answer = self._node_answer(node)
        await self._registry.delete_node(node.id)
        return answer

    async def rename_node(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.RenameNode)
        node = self._node(request.match_info["node"])
        return self._node_answer(await self._registry.rename_node(node.id, wish.name))

    async def expire_node(self, request: web.Request) -> web.Response:
        await _body(request, shapes.Nothing)
        node = self._node(request.match_info["node"])
        return self._node_answer(await self._registry.expire_node(node.id))

    # Logins

    async def list_logins(self, request: web.Request) -> web.Response:
        return _answer([shapes.login_json(login) for login in self._registry.logins])

    async def approve_login(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.ApproveLogin)
        user = self._user(wish.user)
        login = self._registry.find_login(request.match_info["code"])
        node = await self._registry.approve_login(login.code, user.id)
        return _answer({**shapes.login_json(login), "node": shapes.node_json(self._registry, node, utc_now())})

    async def refuse_login(self, request: web.Request) -> web.Response:
        await _body(request, shapes.Nothing)
        return _answer(shapes.login_json(self._registry.refuse_login(request.match_info["code"])))

    # Routes

    async def list_routes(self, request: web.Request) -> web.Response:
        return _answer(
            [
                shapes.route_json(node, prefix)
                for node in self._nodes_by_name()
                for prefix in sorted({*node.advertised, *node.approved}, key=sort_key)
            ]
        )

    async def approve_route(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.ApproveRoute)
        prefix = prefix_from(wish.prefix)
        node = await self._registry.approve_route(self._node(wish.node).id, str(prefix))
        return _answer(shapes.route_json(node, prefix))

    async def unapprove_route(self, request: web.Request) -> web.Response:
        which, text = request.query.get("node"), request.query.get("prefix")
        if which is None or text is None:
            raise shapes.BadRequest("say which: /v1/routes?node=NODE&prefix=PREFIX")
        prefix = prefix_from(text)
        node = await self._registry.unapprove_route(self._node(which).id, str(prefix))
        return _answer(shapes.route_json(node, prefix))

    # Published devices

    async def list_published(self, request: web.Request) -> web.Response:
        entries = sorted(self._registry.published.values(), key=lambda entry: entry.name)
        return _answer([shapes.published_json(self._registry, entry) for entry in entries])

    async def publish(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.Publish)
        node = self._node(wish.via)
        entry = await self._registry.publish(wish.name, node.id, wish.ipv4, wish.ipv6, wish.ports)
        return _answer(shapes.published_json(self._registry, entry), HTTPStatus.CREATED)

    async def unpublish(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            entry = await self._registry.unpublish(name)
        except NotFound as error:
            names = (entry.name for entry in self._registry.published.values())
            raise NotFound(_with_guess(error, name, names)) from error
        return _answer(shapes.published_json(self._registry, entry))

    # Split DNS

    async def list_split_dns(self, request: web.Request) -> web.Response:
        return _answer([shapes.split_dns_json(*entry) for entry in sorted(self._registry.split_dns.items())])

    async def set_split_dns(self, request: web.Request) -> web.Response:
        wish = await _body(request, shapes.SetSplitDns)
        suffix = await self._registry.set_split_dns(wish.suffix, wish.resolvers)
        return _answer(shapes.split_dns_json(suffix, self._registry.split_dns[suffix]), HTTPStatus.CREATED)

    async def drop_split_dns(self, request: web.Request) -> web.Response:
        suffix = request.match_info["suffix"]
        try:
            resolvers = await self._registry.drop_split_dns(suffix)
        except NotFound as error:
            raise NotFound(_with_guess(error, suffix, self._registry.split_dns)) from error
        return _answer(shapes.split_dns_json(suffix.strip(".").lower(), resolvers))

    # Finding

    def _node(self, text: str) -> Node:
        try:
            return self._registry.find_node(text)
        except NotFound as error:
            raise NotFound(_with_guess(error, text, (node.name for node in self._registry.nodes.values()))) from error

    def _user(self, name: str) -> User:
        try:
            return self._registry.find_user(name)
        except NotFound as error:
            raise NotFound(_with_guess(error, name, (user.name for user in self._registry.users.values()))) from error

    def _nodes_by_name(self) -> list[Node]:
        return sorted(self._registry.nodes.values(), key=lambda node: node.name)

    def _node_answer(self, node: Node) -> web.Response:
        return _answer(shapes.node_json(self._registry, node, utc_now()))


def _with_guess(error: NotFound, typed: str, names: Iterable[str]) -> str:
    """Return the error's sentence, with the names that look most like what was typed."""
    guesses = difflib.get_close_matches(typed.lower(), list(names), n=3, cutoff=0.6)
    return f"{error}; did you mean {' or '.join(guesses)}?" if guesses else str(error)


async def _body(request: web.Request, shape: type[Any]) -> Any:
    return shapes.decode(await request.read(), shape)


def _answer(content: Any, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(content), content_type="application/json")


def _problem(status: int, detail: str) -> web.Response:
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return web.Response(status=status, body=msgspec.json.encode(content), content_type="application/problem+json")


@web.middleware
async def _errors_as_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """One table from errors to answers, and one line in the log for each change."""
    try:
        answer = await handler(request)
    except shapes.BadRequest as error:
        answer = _problem(400, str(error))
    except (NotFound, LoginGone) as error:
        answer = _problem(404, str(error))
    except RegistryError as error:
        answer = _problem(409, str(error))
    except web.HTTPRequestEntityTooLarge:
        answer = _problem(413, f"a request has at most {_BODY_LIMIT_BYTES >> 10} KiB")
    except web.HTTPException as error:
        answer = _problem(error.status, f"there is no {request.method} {request.path[:200]} here")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        answer = _problem(500, "the coordinator failed at this by its own fault; its log says where")
    if request.method in _CHANGES:
        log.info("uid %s: %s %s: %d", _peer_uid(request), request.method, request.rel_url, answer.status)
    return answer


def _peer_uid(request: web.Request) -> int | None:
    """Return the user id of the process at the other end, as the kernel knows it (unix(7), SO_PEERCRED)."""
    peer = request.get_extra_info("socket")
    if peer is None:
        return None
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)
