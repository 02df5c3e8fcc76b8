"""The recording in the README as a browser shows it: it plays without help, and stands still for who wants that."""

from pathlib import Path

import pytest

from browser.chromium import chromium

pytestmark = pytest.mark.browser

DOCS = Path(__file__).parents[2] / "docs"
_RUNNING = "document.getAnimations().filter(one => one.playState === 'running').length"
_SEEN = (
    "[...document.querySelectorAll('text')].filter(one => one.checkVisibility({opacityProperty: true}))"
    ".map(one => one.textContent).join(' ')"
)


async def look(page, moment_s):
    """Return the words that are seen at a moment of the film."""
    await page.ask(f"document.getAnimations().forEach(one => {{ one.pause(); one.currentTime = {moment_s * 1000}; }})")
    return await page.ask(_SEEN)


async def prefer(page, motion):
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": motion}])


@pytest.mark.parametrize("name", ["demo.svg", "picture.svg"])
async def test_words_stay_within_the_picture_and_nothing_is_complained_of(name):
    async with chromium() as page:
        await page.open((DOCS / name).as_uri())
        outside = await page.ask(
            "(edge => [...document.querySelectorAll('text')].map(one => [one.textContent, one.getBBox()])"
            ".filter(([, box]) => box.x < 0 || box.x + box.width > edge.width || box.y + box.height > edge.height)"
            ".map(([text]) => text))(document.documentElement.viewBox.baseVal)"
        )
        assert outside == []
        assert page.complaints == []


async def test_the_film_goes_by_the_relay_first_then_straight_and_ends_with_what_was_measured():
    async with chromium() as page:
        await prefer(page, "no-preference")
        await page.open((DOCS / "demo.svg").as_uri())
        assert await page.ask(_RUNNING) > 0
        length_s = await page.ask(
            "Math.max(...document.getAnimations().map(a => a.effect.getTiming().duration)) / 1000"
        )
        seen = [await look(page, length_s * percent / 100) for percent in range(1, 100, 2)]
        assert "joined after" not in seen[0] and "joined after" in seen[-1]
        by_relay = next(number for number, words in enumerate(seen) if "The first packets took" in words)
        assert "straight through after" not in seen[by_relay]
        assert any("straight through after" in words for words in seen[by_relay:])


async def test_who_wants_less_motion_sees_the_end_standing_still():
    async with chromium() as page:
        await prefer(page, "reduce")
        await page.open((DOCS / "demo.svg").as_uri())
        assert await page.ask(_RUNNING) == 0
        words = await page.ask(_SEEN)
        assert "joined after" in words and "straight through" in words and "first packets" not in words
