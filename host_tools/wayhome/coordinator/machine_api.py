"""What clients ask over Noise: paths below /machine/.

Everything here can be asked by a stranger: the handshake takes any machine key. A request that names a node key is held
against the machine key that the link has proven.

Source: protocol reference, "POST /machine/register", "POST /machine/map: the request", "Other endpoints".
"""

import logging
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import msgspec

from ..http_front import path_of
from ..visible_text import visible
from . import pings
from .health import Counters
from .http2_session import Request
from .json_reading import BadRequest
from .map_encoding import encode
from .model import Node
from .netmap import SessionFacts, full_map
from .noise_link import NoiseLink
from .registration import Registration
from .registry import BadUpdate, NotFound, Registry, RegistryError
from .requests import OLDEST_CAPABILITY, MapRequest, read_map, read_register
from .sessions import Sessions

log = logging.getLogger(__name__)

_NOT_HERE = "this server doesn't do that"
# Path below /machine/ -> what a small server says; control.md 10.
_FIXED = {
    ("POST", "set-dns"): HTTPStatus.NOT_IMPLEMENTED,
    ("POST", "update-health"): HTTPStatus.OK,
    ("POST", "audit-log"): HTTPStatus.OK,
    ("POST", "id-token"): HTTPStatus.NOT_IMPLEMENTED,
    ("PATCH", "set-device-attr"): HTTPStatus.NOT_IMPLEMENTED,
    ("POST", "feature/query"): HTTPStatus.NOT_IMPLEMENTED,
}


class MachineApi:
    """Answers whole requests: `handle(link, request)` is what `Links` calls."""

    def __init__(
        self,
        registry: Registry,
        registration: Registration,
        sessions: Sessions,
        pings: pings.Pings,
        *,
        counters: Counters,
        today: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._registration = registration
        self._sessions = sessions
        self._pings = pings
        self._counters = counters
        self._today = today

    def handle(self, link: NoiseLink, request: Request) -> None:
        method, path = request.method, path_of(request.target)
        if (method, path) == ("POST", "/machine/map"):
            self._map(link, request)
        elif (method, path) == ("POST", "/machine/register"):
            self._register(link, request)
        elif path.startswith(pings.PATH):
            known = self._pings.answered(path.removeprefix(pings.PATH), link.machine_key)
            _say(link, request, HTTPStatus.OK if known else HTTPStatus.NOT_FOUND, "")
        elif path.startswith("/machine/"):
            name = path.removeprefix("/machine/")
            status = _FIXED.get((method, name), HTTPStatus.NOT_FOUND)
            if name == "audit-log" and status is HTTPStatus.OK:
                log.info("%r audit: %s", link, visible(request.body[:500].decode(errors="replace")))
            if status is HTTPStatus.OK:
                link.respond(request.stream, status, b"{}")
            else:
                _say(link, request, status, _NOT_HERE)
        else:
            _say(link, request, HTTPStatus.NOT_FOUND, "there is nothing here")

    # register

    def _register(self, link: NoiseLink, request: Request) -> None:
        try:
            asked = read_register(request.body)
        except BadRequest as error:
            self._bad(link, request, error)
            return

        async def work() -> None:
            answer = await self._registration.answer(asked, link.machine_key, link.source)
            headers = {"retry-after": str(answer.retry_after_s)} if answer.retry_after_s else None
            if answer.body["MachineAuthorized"]:
                link.admit()
            link.respond(request.stream, answer.status, msgspec.json.encode(answer.body), headers=headers)

        # A Followup waits for a person, as long as somebody waits for the answer. Anything else is done to its end.
        link.run(request.stream, work(), until_gone=bool(asked.followup))

    # map

    def _map(self, link: NoiseLink, request: Request) -> None:
        try:
            asked = read_map(request.body)
            if asked.version < OLDEST_CAPABILITY:
                self._counters.old_clients += 1
                raise BadRequest(
                    f"this client is too old for this server (capability version {asked.version}, at least "
                    f"{OLDEST_CAPABILITY} is needed: release 1.80); please update it"
                )
        except BadRequest as error:
            self._bad(link, request, error)
            return
        node = self._node_of(link, asked)
        if node is None:
            _say(link, request, HTTPStatus.NOT_FOUND, "this node is not known here; log in again")
            return
        link.admit()
        link.run(request.stream, self._answer_map(link, request, asked, node))

    def _node_of(self, link: NoiseLink, asked: MapRequest) -> Node | None:
        node = self._registry.node_by_key(asked.node_key)
        if node is None:
            self._counters.unknown_node_keys += 1
            return None
        if node.machine_key != link.machine_key:
            # told the same as for an unknown key: whoever tries keys learns nothing
            self._counters.foreign_node_keys += 1
            log.warning("%r asked with the node key of %s, which is another machine's", link, node.name)
            return None
        return node

    async def _answer_map(self, link: NoiseLink, request: Request, asked: MapRequest, node: Node) -> None:
        try:
            node = await self._update(asked, node)
        except NotFound:
            _say(link, request, HTTPStatus.NOT_FOUND, "this node is not known here; log in again")
            return
        except BadUpdate as error:
            self._bad(link, request, BadRequest(str(error)))
            return
        except RegistryError as error:
            _say(link, request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        facts = SessionFacts(capver=asked.version, is_go_client=bool(node.hostinfo.get("GoVersion")))
        if asked.is_lite:
            link.respond(request.stream, HTTPStatus.OK, b"")
        elif asked.stream:
            self._sessions.begin(node, link, request.stream, facts, asked.zstd)
        else:
            whole = full_map(self._registry.world, node.id, facts, self._today())
            link.respond(request.stream, HTTPStatus.OK, encode(whole, asked.zstd))

    async def _update(self, asked: MapRequest, node: Node) -> Node:
        """Store what the request reports. The stock client reports in lite updates only, others in their poll too."""
        if asked.read_only:
            return node
        self._registry.warnings.told(node.id, asked.debug_flags)
        endpoints = asked.endpoints
        if asked.stream and not endpoints:
            endpoints = None  # a poll that names no endpoints says nothing about them
        return await self._registry.update_node(
            node.id,
            hostinfo=asked.hostinfo or None,
            endpoints=endpoints,
            endpoint_types=asked.endpoint_types,
            disco_key=asked.disco_key,
            cap=asked.version,
        )

    def _bad(self, link: NoiseLink, request: Request, error: BadRequest) -> None:
        self._counters.bad_requests += 1
        log.info("%r sent what cannot be read: %s", link, visible(str(error)))
        _say(link, request, HTTPStatus.BAD_REQUEST, str(error))


def _say(link: NoiseLink, request: Request, status: int, text: str) -> None:
    body = (text + "\n").encode() if text and request.method != "HEAD" else b""
    link.respond(request.stream, status, body, "text/plain; charset=utf-8")
