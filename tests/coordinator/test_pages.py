"""The login page: what it shows in each state, and that a stranger's words stay words."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wayhome.coordinator.model import Device
from wayhome.coordinator.pages.render import ASSETS, LoginState, LoginView, asset_path, render_login
from wayhome.coordinator.pages.routes import page_routes
from wayhome.coordinator.registry import Registry, Settings

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title><script>alert(1)</script>",
    "annas\u202egpj.phone",
    "\x1b[31mred\x00\n\r",
    "&lt;b&gt;",
]


def device(number=1, hostname="annas-phone", **hostinfo):
    told = {"Hostname": hostname, "OS": "android", "OSVersion": "15", **hostinfo}
    return Device(machine_key=bytes([number]) * 32, node_key=bytes([number + 100]) * 32, hostinfo=told, cap=113)


class Clock:
    def __init__(self):
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def registry(tmp_path, clock):
    registry = await Registry.open(tmp_path / "wayhome.db", Settings(login_lifetime=timedelta(minutes=15)), clock)
    yield registry
    await registry.close()


@pytest.fixture
async def client(registry):
    app = web.Application()
    app.add_routes(page_routes(registry))
    async with TestClient(TestServer(app)) as client:
        yield client


async def page(client, login_id):
    """Return (status, text) of a login page."""
    answer = await client.get(f"/register/{login_id}")
    assert answer.content_type == "text/html"
    return answer.status, unescape(re.sub(r"<[^>]*>", "", await answer.text()))


async def state(client, login_id):
    return (await (await client.get(f"/register/{login_id}?state")).json())["state"]


async def test_a_waiting_device_shows_its_name_key_code_and_the_command(client, registry):
    login = registry.begin_login(device())
    status, text = await page(client, login.id)
    assert status == 200
    for shown in ("annas-phone", "android 15", login.fingerprint, f"wayhome node approve {login.code} --user NAME"):
        assert shown in text
    assert await state(client, login.id) == "waiting"


async def test_the_page_says_so_when_the_device_is_in(client, registry):
    user = await registry.create_user("anna")
    login = registry.begin_login(device())
    await page(client, login.id)
    await registry.approve_login(login.code, user.id)
    assert await state(client, login.id) == "approved"
    status, text = await page(client, login.id)
    assert (status, "annas-phone is in" in text) == (200, True)


async def test_the_page_says_so_when_the_device_was_turned_away(client, registry):
    login = registry.begin_login(device())
    await page(client, login.id)
    registry.refuse_login(login.code)
    assert await state(client, login.id) == "refused"
    assert "turned away" in (await page(client, login.id))[1]


async def test_a_page_older_than_a_login_lives_says_what_to_do(client, registry, clock):
    login = registry.begin_login(device())
    await page(client, login.id)
    clock.now += timedelta(minutes=16)
    await registry.timer_fired()
    status, text = await page(client, login.id)
    assert status == 404
    assert "15 minutes" in text and "Log in again on the device" in text
    assert login.code not in text


@pytest.mark.parametrize("login_id", ["unknown", "x" * 3000, "%00", "..%2f..%2fetc", "%3Cscript%3E"])
async def test_an_unknown_page_is_friendly_and_repeats_nothing(client, login_id):
    status, text = await page(client, login_id)
    assert status == 404
    assert "Log in again on the device" in text
    assert "script" not in text and "xxx" not in text


async def test_a_page_is_not_found_by_the_short_code(client, registry):
    login = registry.begin_login(device())
    assert (await page(client, login.code))[0] == 404
    assert (await page(client, login.code.lower()))[0] == 404


async def test_pages_may_load_from_here_only_and_stay_out_of_frames_and_caches(client, registry):
    login = registry.begin_login(device())
    for path in (f"/register/{login.id}", f"/register/{login.id}?state", "/register/unknown"):
        answer = await client.get(path)
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert policy["style-src"] == policy["script-src"] == "'self'"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("state", list(LoginState))
def test_pages_have_no_inline_script_or_style_and_name_no_other_host(state):
    text = render_login(LoginView(state, 15, "phone", "android", "[abcde]", "K7QM-4XTD"))
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?:|//", text)
    for source in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert source in {asset_path(name) for name in ASSETS}


async def test_assets_are_served_under_a_path_that_changes_with_them(client):
    for name, kind in ASSETS.items():
        answer = await client.get(asset_path(name))
        assert (answer.status, answer.content_type) == (200, kind)
        assert "immutable" in answer.headers["Cache-Control"]
        assert "url(" not in await answer.text()


def test_without_script_a_waiting_page_reloads_itself():
    text = render_login(LoginView(LoginState.WAITING, 15, code="K7QM-4XTD"))
    assert re.search(r'<noscript><meta http-equiv="refresh" content="\d+"></noscript>', text)


@pytest.mark.parametrize("state", list(LoginState))
@pytest.mark.parametrize("words", HOSTILE)
def test_a_strangers_words_never_become_markup(state, words):
    plain = render_login(LoginView(state, 15, "name", "system", "[abcde]", "K7QM-4XTD"))
    text = render_login(LoginView(state, 15, words, words, "[abcde]", "K7QM-4XTD"))
    tags = re.compile(r"<[^>]*>")
    assert tags.findall(text) == tags.findall(plain)
    assert not any(letter in text for letter in "\x00\x1b\r\u202e")
    assert "49" not in text


async def test_a_hostile_host_name_arrives_as_text(client, registry):
    for number, words in enumerate(HOSTILE, start=1):
        login = registry.begin_login(device(number, words, OS=words))
        answer = await client.get(f"/register/{login.id}")
        assert "alert(1)</script>" not in await answer.text()
        assert "<img src=x" not in await answer.text()


def test_a_device_without_a_name_is_called_so():
    assert "a device without a name" in render_login(LoginView(LoginState.WAITING, 15))
