"""Serves the pages: /register/ID, on which a device waits to be let in, and what the page needs.

app.add_routes(page_routes(registry))
"""

from collections import OrderedDict
from http import HTTPStatus

import msgspec
from aiohttp import web

from ..admin_json import system
from ..model import PendingLogin
from ..registry import LoginGone, LoginRefused, Registry
from .render import ASSETS, FOLDER, LoginState, LoginView, asset_path, render_login

# A page may load its style, script and picture from here, ask here, and nothing else: no inline script or style, no
# frame around it, no form. Whatever a stranger's device name might smuggle into it stays dead letters.
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PAGE_HEADERS = {**_SECURITY_HEADERS, "Cache-Control": "no-store"}
_ASSET_HEADERS = {**_SECURITY_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}

# Logins that were looked at, remembered for the moment when they are decided: bounded, as anyone can start a login.
_REMEMBERED = 4096


def page_routes(registry: Registry) -> list[web.RouteDef]:
    """Return the routes of the coordinator's pages, for the application that serves its plain HTTP requests.

    Answers are whole bodies, as `http_front` wants them.
    """
    pages = _LoginPages(registry)
    contents = {asset_path(name): ((FOLDER / name).read_bytes(), kind) for name, kind in ASSETS.items()}

    async def asset(request: web.Request) -> web.Response:
        body, kind = contents[request.path]
        return web.Response(body=body, content_type=kind, headers=_ASSET_HEADERS)

    return [web.get("/register/{id}", pages.login), *(web.get(path, asset) for path in contents)]


class _LoginPages:
    """The login page of each waiting device, and what became of those that were looked at."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: OrderedDict[str, PendingLogin] = OrderedDict()

    async def login(self, request: web.Request) -> web.Response:
        """Answer with the page; with ?state, for its script, only with what the page would say."""
        view = await self.view(request.match_info["id"])
        status = HTTPStatus.NOT_FOUND if view.state is LoginState.UNKNOWN else HTTPStatus.OK
        if "state" in request.query:
            body = msgspec.json.encode({"state": view.state.value})
            return web.Response(status=status, body=body, content_type="application/json", headers=_PAGE_HEADERS)
        return web.Response(status=status, text=render_login(view), content_type="text/html", headers=_PAGE_HEADERS)

    async def view(self, login_id: str) -> LoginView:
        """Return what the page of this id shows now."""
        lifetime_minutes = round(self._registry.settings.login_lifetime.total_seconds() / 60)
        login = self._waiting(login_id)
        state = LoginState.WAITING
        if login is None:
            login = self._seen.get(login_id)
            state = LoginState.UNKNOWN if login is None else await self._outcome(login)
        if login is None or state is LoginState.UNKNOWN:
            return LoginView(LoginState.UNKNOWN, lifetime_minutes)
        return LoginView(
            state,
            lifetime_minutes,
            device=login.hostname,
            system=system(login.device.hostinfo),
            fingerprint=login.fingerprint,
            code=login.code,
        )

    def _waiting(self, login_id: str) -> PendingLogin | None:
        try:
            login = self._registry.find_login(login_id)
        except LoginGone:
            return None
        if login.id != login_id:
            # found by its code, which is short enough to be guessed: a page is for those who were given its address
            return None
        self._seen[login_id] = login
        self._seen.move_to_end(login_id)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return login

    async def _outcome(self, login: PendingLogin) -> LoginState:
        """Tell what became of a login that no longer waits: let in, refused, or nobody came in time."""
        node = self._registry.node_by_key(login.device.node_key)
        if node is not None and node.machine_key == login.device.machine_key:
            return LoginState.APPROVED
        try:
            # answers at once, as the login is decided
            await self._registry.wait_for_login(login.id, login.device.machine_key)
        except LoginRefused:
            return LoginState.REFUSED
        except LoginGone:
            return LoginState.UNKNOWN
        return LoginState.APPROVED
