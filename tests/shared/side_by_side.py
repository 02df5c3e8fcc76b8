"""Tests of one file that run at the same time: most of a test of networks is waiting for timers that others fix.

@side_by_side
def test_something(folder):        # and parameters, if parametrized; no other fixtures
    ...

The first of them that pytest comes to starts all that this run has selected in its file, LABS_AT_ONCE at a time; each
then passes or fails by its own name, with its own traceback.
"""

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

LABS_AT_ONCE = 4


def side_by_side(body: Callable[..., None]) -> Callable[..., None]:
    """Turn a function of a folder (and of parameters) into a test that runs beside the others of its file."""

    def test(crowd: "Crowd", request: pytest.FixtureRequest, **_: Any) -> None:
        crowd.join(request.node.name)

    own = [one for name, one in inspect.signature(body).parameters.items() if name != "folder"]
    first = [one for name, one in inspect.signature(test).parameters.items() if name != "_"]
    setattr(test, "__signature__", inspect.Signature([*first, *own]))  # noqa: B010
    setattr(test, "body", body)  # noqa: B010
    test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
    return test


class Crowd:
    """What became of each test, by its name."""

    def __init__(self, items: list[pytest.Function], make_folder: Callable[[str], Path]) -> None:
        works = {}
        for item in items:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            works[item.name] = (getattr(item.obj, "body"), make_folder("lab"), parameters)  # noqa: B009
        with ThreadPoolExecutor(LABS_AT_ONCE) as threads:
            self._results = dict(zip(works, threads.map(self._run, works.values()), strict=True))

    @staticmethod
    def _run(work: tuple[Callable[..., None], Path, dict[str, Any]]) -> BaseException | None:
        body, folder, parameters = work
        try:
            body(folder, **parameters)
        except BaseException as error:
            return error
        return None

    def join(self, name: str) -> None:
        """Raise what the test of this name raised."""
        error = self._results[name]
        if error is not None:
            raise error


@pytest.fixture(scope="module")
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    """Every selected side-by-side test of this file, run."""
    items = [
        item
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item.obj, "body")
    ]
    return Crowd(items, tmp_path_factory.mktemp)
