"""The login page in a real browser: that it shows, that it notices, and that nothing a device says gets to run."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from browser.chromium import chromium
from wayhome.coordinator.model import Device
from wayhome.coordinator.pages.routes import page_routes
from wayhome.coordinator.registry import Registry

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202egpj"


def device(hostname, **hostinfo):
    told = {"Hostname": hostname, "OS": "android", "OSVersion": "15", **hostinfo}
    return Device(machine_key=b"\x01" * 32, node_key=b"\x02" * 32, hostinfo=told, cap=113)


@pytest.fixture
async def registry(tmp_path):
    registry = await Registry.open(tmp_path / "wayhome.db")
    yield registry
    await registry.close()


@pytest.fixture
async def server(registry):
    app = web.Application()
    app.add_routes(page_routes(registry))
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


def page_of(server, login):
    return str(server.make_url(f"/register/{login.id}"))


async def test_the_page_shows_the_command_and_notices_by_itself_that_the_device_is_in(server, registry):
    user = await registry.create_user("anna")
    login = registry.begin_login(device("annas-phone"))
    async with chromium() as page:
        await page.open(page_of(server, login))
        assert login.fingerprint in await page.ask("document.body.innerText")
        command = f"wayhome node approve {login.code} --user NAME"
        assert await page.ask("document.getElementById('command').textContent") == command
        await registry.approve_login(login.code, user.id)
        await page.until("document.querySelector('h1').innerText === 'annas-phone is in'")
        assert page.complaints == []


async def test_the_page_notices_by_itself_that_the_device_was_turned_away(server, registry):
    login = registry.begin_login(device("annas-phone"))
    async with chromium() as page:
        await page.open(page_of(server, login))
        registry.refuse_login(login.code)
        await page.until("document.querySelector('h1').innerText === 'annas-phone was turned away'")


async def test_the_page_looks_again_without_disturbing_a_selection(server, registry):
    login = registry.begin_login(device("annas-phone"))
    async with chromium() as page:
        await page.open(page_of(server, login))
        await page.ask("getSelection().selectAllChildren(document.getElementById('command')); window.same = true")
        asked = "performance.getEntriesByType('resource').filter(entry => entry.name.endsWith('?state')).length"
        await page.until(f"{asked} >= 2")
        assert await page.ask("window.same && getSelection().toString()") == await page.ask(
            "document.getElementById('command').innerText"
        )


async def test_copying_the_command_takes_one_click(server, registry):
    login = registry.begin_login(device("annas-phone"))
    async with chromium() as page:
        await page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        await page.open(page_of(server, login))
        await page.click("#copy")
        await page.until("document.getElementById('copy').innerText === 'Copied'")
        copied = await page.ask("navigator.clipboard.readText()")
        assert copied == f"wayhome node approve {login.code} --user NAME"


async def test_a_hostile_device_name_is_shown_and_does_nothing(server, registry):
    login = registry.begin_login(device(HOSTILE, OS=HOSTILE))
    async with chromium() as page:
        await page.open(page_of(server, login))
        assert "<script>document.title" in await page.ask("document.querySelector('dd').innerText")
        assert await page.ask("document.title") == "Let this device in? · Wayhome"
        assert await page.ask("document.querySelectorAll('main img, main script').length") == 1
        assert "\u202e" not in await page.ask("document.body.innerText")
        assert page.complaints == []


async def test_the_policy_stops_an_inline_script_that_got_into_the_page_all_the_same(server, registry):
    login = registry.begin_login(device("annas-phone"))
    async with chromium() as page:
        await page.open(page_of(server, login))
        await page.ask(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.owned = true'}))"
        )
        assert await page.ask("window.owned") is None
        assert "Content Security Policy" in page.complaints[0]


@pytest.mark.parametrize("width", [320, 400, 800])
async def test_nothing_sticks_out_on_a_narrow_screen(server, registry, width):
    login = registry.begin_login(device("x" * 63))
    async with chromium() as page:
        await page.resize(width, 700)
        await page.open(page_of(server, login))
        assert await page.ask("document.documentElement.scrollWidth") <= width
        assert await page.ask(
            "[...document.querySelectorAll('main *')].every(e => e.scrollWidth <= e.clientWidth || "
            "getComputedStyle(e).display === 'inline')"
        )


async def test_without_script_the_page_says_all_and_has_no_dead_button(server, registry):
    login = registry.begin_login(device("annas-phone"))
    async with chromium() as page:
        await page.without_script()
        await page.call("Page.navigate", url=page_of(server, login))
        await page.call("DOM.enable")
        text = ""
        while login.code not in text:
            root = await page.call("DOM.getDocument", depth=-1)
            text = (await page.call("DOM.getOuterHTML", nodeId=root["root"]["nodeId"]))["outerHTML"]
        assert 'http-equiv="refresh"' in text
        assert 'id="copy" type="button" hidden' in text
