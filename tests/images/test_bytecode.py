"""The board's package as bytecode: MicroPython takes it for the package, and it is made anew only when it must be."""

import subprocess
from pathlib import Path

import pytest

from wayhome.images import bytecode, micropython
from wayhome.images.apt_root import NoDebianMirror

ROOT = Path(__file__).parents[2]


def a_package(folder: Path, **modules: str) -> Path:
    package = folder / "wayhomed"
    package.mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    return folder


def test_a_tree_is_kept_until_a_source_changes(tmp_path):
    firmware = a_package(tmp_path / "firmware", __init__="", one="x = 1\n")
    first = bytecode.compile_package(tmp_path / "build", firmware)
    assert bytecode.compile_package(tmp_path / "build", firmware) == first
    a_package(firmware, one="x = 2\n")
    second = bytecode.compile_package(tmp_path / "build", firmware)
    assert second != first
    assert sorted(path.name for path in second.rglob("*.mpy")) == ["__init__.mpy", "one.mpy"]


def test_few_former_trees_are_kept(tmp_path):
    firmware = a_package(tmp_path / "firmware", __init__="")
    for number in range(7):
        a_package(firmware, one=f"x = {number}\n")
        newest = bytecode.compile_package(tmp_path / "build", firmware)
    place = tmp_path / "build" / "bytecode"
    trees = [path for path in place.iterdir() if path.is_dir() and path.name != "files"]
    assert newest in trees
    assert len(trees) == 4
    assert len(list((place / "files").iterdir())) == 1 + len(trees)


def test_a_file_that_is_no_python_is_named_and_no_tree_appears(tmp_path):
    firmware = a_package(tmp_path / "firmware", __init__="", wrong="def f(:\n")
    with pytest.raises(bytecode.NotCompiled, match=r"wayhomed/wrong.py"):
        bytecode.compile_package(tmp_path / "build", firmware)
    place = tmp_path / "build" / "bytecode"
    assert {path.name for path in place.iterdir() if path.is_dir()} == {"files", "partial"}


@pytest.mark.parametrize("architecture", ["amd64", pytest.param("armhf", marks=pytest.mark.emulated)])
def test_micropython_imports_the_daemon_from_bytecode_and_tracebacks_name_its_lines(architecture):
    try:
        tree = micropython.fetch(ROOT / "build", architecture)
    except NoDebianMirror as error:
        pytest.skip(str(error))
    package = bytecode.compile_package(ROOT / "build")
    script = (
        "import sys; sys.path[:] = [sys.argv[1], '.frozen']\n"
        "import wayhomed.agent.daemon\n"
        "from wayhomed.wire import keys, errors\n"
        "try: keys.key_from_text('nodekey:', 'nonsense')\n"
        "except errors.BadWire as error: sys.print_exception(error)\n"
    )
    words = [*micropython.command(tree, architecture=architecture), "-c", script, str(package)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 'File "wayhomed/wire/keys.py", line ' in done.stdout, done.stdout + done.stderr


def test_the_daemon_takes_no_more_flash_than_its_budget():
    package = bytecode.compile_package(ROOT / "build")
    assert bytecode.size_bytes(package) <= 400 * 1024


def test_what_only_cpython_uses_takes_no_flash(tmp_path):
    firmware = a_package(tmp_path / "firmware", __init__="", net="x = 1\n", net_cpython="x = 1\n", cpython="x = 1\n")
    tree = bytecode.compile_package(tmp_path / "build", firmware)
    assert sorted(path.name for path in tree.rglob("*.mpy")) == ["__init__.mpy", "net.mpy"]
