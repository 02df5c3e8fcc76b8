"""What an administrator hears of a node: its key's end, and the client's own warnings, few and short."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from coordinator.rig import START, mesh
from wayhome.coordinator import client_warnings
from wayhome.coordinator.client_warnings import WARNED_AHEAD, WARNING_CHARACTERS, WARNINGS, ClientWarnings

DAY = timedelta(days=1)


async def warnings_after(tmp_path, *flags: str, expiry=None) -> list[str]:
    async with mesh(tmp_path) as m:
        node = await m.join()
        m.registry.warnings.told(node.id, flags)
        if expiry is not None:
            node = replace(node, expiry=expiry)
        return m.registry.warnings.of(node, START)


async def test_known_warnings_are_sentences_and_strangers_are_quoted(tmp_path):
    said = await warnings_after(tmp_path, "warn-ip-forwarding-off", "warn-of-tea", "warn-key-expires-soon", "v2-test")
    assert len(said) == 2
    assert "does not forward packets" in said[0]
    assert said[1] == "it says: warn-of-tea"


async def test_a_key_that_ends_within_four_weeks_is_told_in_days(tmp_path):
    for left, words in (
        (WARNED_AHEAD + timedelta(seconds=1), None),
        (WARNED_AHEAD, "in 28 days"),
        (DAY + timedelta(seconds=1), "in 2 days"),
        (DAY, "in less than a day"),
        (timedelta(seconds=1), "in less than a day"),
        (timedelta(0), None),
    ):
        folder = tmp_path / str(left.total_seconds())
        folder.mkdir()
        said = await warnings_after(folder, expiry=START + left)
        assert ([words in sentence for sentence in said] == [True]) if words else not said, left


async def test_the_newest_request_is_what_holds_and_a_node_that_leaves_is_forgotten(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join()
        m.registry.warnings.told(node.id, ["warn-router-unhealthy"])
        m.registry.warnings.told(node.id, [])
        assert m.registry.warnings.of(node, START) == []
        m.registry.warnings.told(node.id, ["warn-router-unhealthy"])
        await m.registry.delete_node(node.id)
        assert m.registry.warnings.of(node, START) == []


@given(flags=st.lists(st.text() | st.text().map("warn-".__add__), max_size=40))
def test_what_is_kept_of_a_clients_words_is_bounded(flags):
    warnings = ClientWarnings()
    warnings.told(1, flags)
    kept = warnings._said.get(1, ())
    assert len(kept) <= WARNINGS and all(len(flag) <= WARNING_CHARACTERS for flag in kept)
    assert all(flag.startswith(client_warnings._PREFIX) for flag in kept)
