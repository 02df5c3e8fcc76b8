"""The plain HTTP answers that clients expect where a relay is.

`/derp/probe` and `/derp/latency-check` measure latency where UDP is blocked; `/generate_204` tells a captive portal
from the Internet. Source: protocol reference, DERP section 1.
"""

import re

from aiohttp import web

_CHALLENGE = re.compile(r"[A-Za-z0-9.\-_:]{1,64}")
_NEVER_CACHED = "no-cache, no-store, must-revalidate, no-transform, max-age=0"


def routes() -> list[web.RouteDef]:
    """Return the routes, for any aiohttp application that stands where a relay is."""
    return [
        web.get("/derp", derp_without_upgrade),
        web.get("/derp/probe", probe),
        web.get("/derp/latency-check", probe),
        web.get("/generate_204", generate_204),
    ]


async def derp_without_upgrade(request: web.Request) -> web.Response:
    del request
    return web.Response(
        status=426,
        text="This is a DERP relay; clients come with an upgrade request.\n",
        headers={"Upgrade": "DERP", "Connection": "Upgrade"},
    )


async def probe(request: web.Request) -> web.Response:
    del request
    return web.Response(headers={"Access-Control-Allow-Origin": "*"})


async def generate_204(request: web.Request) -> web.Response:
    """Prove to a client that it reached us and no portal: the answer repeats its challenge."""
    response = web.Response(status=204, headers={"Cache-Control": _NEVER_CACHED})
    challenge = request.headers.get("X-Tailscale-Challenge", "")
    if _CHALLENGE.fullmatch(challenge):
        response.headers["X-Tailscale-Response"] = f"response {challenge}"
    return response


def routes_of_a_relay_alone() -> list[web.RouteDef]:
    """Return what a person or a search engine finds at a relay that stands alone."""
    return [web.get("/", home), web.get("/robots.txt", robots)]


async def home(request: web.Request) -> web.Response:
    del request
    return web.Response(text="This is a relay of a private mesh. There is nothing to see here.\n")


async def robots(request: web.Request) -> web.Response:
    del request
    return web.Response(text="User-agent: *\nDisallow: /\n")
