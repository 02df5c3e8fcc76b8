"""What `./inv package` packs: the daemon as bytecode with its installer; what that lays out runs under MicroPython."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from wayhome.images import board_package, bytecode, micropython
from wayhome.images.apt_root import NoDebianMirror

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(board_package.pack(ROOT / "build")) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def installed(unpacked, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    subprocess.run([unpacked / "package/install", "--service", "procd", "--root", root], check=True)
    return root


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_installed_is_the_tree_whose_size_the_benchmark_tells(installed):
    tree = bytecode.compile_package(ROOT / "build")
    held = contents(installed / "usr/lib/wayhome/wayhomed")
    assert held == contents(tree / "wayhomed")
    assert {path.suffix for path in held} == {".mpy"}
    assert sum(map(len, held.values())) == bytecode.size_bytes(tree)


def test_the_same_sources_give_the_same_archive(tmp_path):
    first, second = (board_package.pack(tmp_path / name) for name in ("first", "second"))
    assert first.name == second.name == "wayhomed-0.1.0-micropython.tar.gz"
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["usr/sbin/wayhomed", "usr/bin/wayhomectl"])
def test_micropython_runs_what_was_installed(installed, tmp_path, name):
    try:
        tree = micropython.fetch(ROOT / "build")
    except NoDebianMirror as error:
        pytest.skip(str(error))
    words = micropython.command(tree)
    program = tmp_path / "micropython"
    program.write_text(f'#!/bin/sh\nexec {" ".join(words[: words.index("-X")])} "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run([installed / name, "--help"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(name).name in done.stdout


def test_installing_over_sources_leaves_none_of_them(unpacked, tmp_path):
    for folder in (ROOT / "firmware", unpacked):
        subprocess.run([folder / "package/install", "--service", "none", "--root", tmp_path], check=True)
    assert not list((tmp_path / "usr/lib/wayhome/wayhomed").rglob("*.py"))
