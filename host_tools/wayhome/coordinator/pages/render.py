"""From what is known about a login to the page's text. Pure: no request, no registry."""

import hashlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import jinja2

from ...visible_text import visible

FOLDER = Path(__file__).parent

# Whatever a page needs beside its HTML; served from here and from nowhere else.
ASSETS = {
    "login.css": "text/css",
    "login.js": "text/javascript",
    "mark.svg": "image/svg+xml",
}

# Without script the page loads itself anew this often. Longer than the script's 2 s: each load takes away a selection.
_REFRESH_SECONDS = 10


class LoginState(Enum):
    """What a login page has to say; the values are also what its script compares."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class LoginView:
    """What the login page shows. device and system are a stranger's words, taken as they came."""

    state: LoginState
    lifetime_minutes: int
    device: str = ""
    system: str = ""
    fingerprint: str = ""
    code: str = ""


def render_login(view: LoginView) -> str:
    """Return the HTML of a login page in any state. The stranger's words come out as text, never as markup."""
    titles = {
        LoginState.WAITING: "Let this device in?",
        LoginState.APPROVED: "The device is in",
        LoginState.REFUSED: "The device was turned away",
        LoginState.UNKNOWN: "This page is no longer of use",
    }
    return _TEMPLATES.get_template("login.html").render(
        state=view.state.value,
        title=titles[view.state],
        device=visible(view.device) or "a device without a name",
        system=visible(view.system),
        fingerprint=view.fingerprint,
        code=view.code,
        command_start="wayhome node approve",
        command_end="--user NAME",
        refresh_seconds=_REFRESH_SECONDS,
        lifetime_minutes=view.lifetime_minutes,
    )


def asset_path(name: str) -> str:
    """Return the path under which an asset is served; it changes with the content, so it may be cached for good."""
    return f"/pages/{_ASSET_VERSIONS[name]}/{name}"


def _version(name: str) -> str:
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:12]


_ASSET_VERSIONS = {name: _version(name) for name in ASSETS}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["asset"] = asset_path
