"""MicroPython is fetched once, however many processes of a test run want it at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from wayhome.images import apt_root, micropython


def test_who_comes_while_another_fetches_waits_and_finds_it_there(tmp_path, monkeypatch):
    workers = 4
    begun: list[str] = []
    together = Barrier(workers)

    def fetch(_root: apt_root.AptRoot, packages: list[str]) -> list[Path]:
        begun.append("fetch")
        assert len(begun) == 1
        return []

    def unpack(_root: apt_root.AptRoot, debs: list[Path], into: Path) -> None:
        into.mkdir()

    monkeypatch.setattr(apt_root.AptRoot, "fetch", fetch)
    monkeypatch.setattr(apt_root.AptRoot, "unpack", unpack)

    def want() -> Path:
        together.wait(30)
        return micropython.fetch(tmp_path)

    with ThreadPoolExecutor(workers) as pool:
        found = [one.result() for one in [pool.submit(want) for _ in range(workers)]]
    assert set(found) == {tmp_path / "micropython" / "tree"}
    assert begun == ["fetch"]
