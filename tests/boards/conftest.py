"""Tests that boot virtual machines. A file here may name others whose tests it runs inside a guest:

    RUN_IN_GUEST = ["linux/test_*_lab_cpython.py"]      # below tests/

Each of their tests is then an item of that file too, run by a pytest inside one guest, on Debian's kernel. Tests for
the guest alone lie in tests/boards/inside: they are not run on this machine.
"""

import os
from pathlib import Path

import pytest

from boards.in_guest import GuestFile, files_to_run_in_guest

INSIDE = Path(__file__).parent / "inside"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if collection_path.is_relative_to(INSIDE) and "WAYHOME_IN_GUEST" not in os.environ:
        return True
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".py" and file_path.name.startswith("test_") and files_to_run_in_guest(file_path):
        return GuestFile.from_parent(parent, path=file_path)
    return None
