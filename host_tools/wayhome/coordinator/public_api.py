"""Plain HTTP of the coordinator, outside Noise: /key, /verify, /health.

Source: protocol reference, "GET /key?v=N", and DERP "Admission".
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
from aiohttp import web

from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import MACHINE, NODE, ZERO, key_from_text, key_text

from .json_reading import BadRequest, Shape, read
from .registry import Registry

VERIFY_BYTES = 4096


class _Verify(msgspec.Struct, rename="pascal"):
    node_public: str
    source: str = ""


_VERIFY = Shape("NodePublic Source")


def routes(registry: Registry, public_key: bytes, today: Callable[[], datetime]) -> list[web.RouteDef]:
    """Return the routes, for the application behind the HTTP front."""
    key_answer = msgspec.json.encode(
        {"legacyPublicKey": key_text(MACHINE, ZERO), "publicKey": key_text(MACHINE, public_key)}
    )

    async def key(request: web.Request) -> web.Response:
        del request
        return web.Response(body=key_answer, content_type="application/json")

    async def no_upgrade(request: web.Request) -> web.Response:
        del request
        text = "this is where clients of the mesh begin; they ask for an upgrade to tailscale-control-protocol\n"
        return web.Response(status=400, text=text)

    async def health(request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "pass"})

    async def verify(request: web.Request) -> web.Response:
        """Tell a relay whether a node key is one of ours."""
        if (request.content_length or 0) > VERIFY_BYTES:
            raise web.HTTPRequestEntityTooLarge(VERIFY_BYTES, request.content_length or 0)
        body = await request.content.read(VERIFY_BYTES + 1)
        while body and len(body) <= VERIFY_BYTES and (more := await request.content.read(VERIFY_BYTES + 1)):
            body += more
        if len(body) > VERIFY_BYTES:
            raise web.HTTPRequestEntityTooLarge(VERIFY_BYTES, len(body))
        try:
            asked = read(body, _VERIFY, _Verify)
            node_key = key_from_text(NODE, asked.node_public)
        except (BadRequest, BadWire) as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.json_response({"Allow": may_relay(registry, node_key, today()) is not None})

    return [
        web.get("/key", key),
        web.route("*", "/ts2021", no_upgrade),
        web.get("/health", health),
        web.post("/verify", verify),
    ]


def may_relay(registry: Registry, node_key: bytes, now: datetime) -> str | None:
    """Return the mesh that a node key may use a relay in, None if it may not. There is one mesh for a coordinator."""
    node = registry.node_by_key(node_key)
    return None if node is None or node.expired(now) else registry.settings.suffix
