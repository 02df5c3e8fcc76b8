"""Style, types and the arrows between folders are tests like any other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from checks import board_types
from wayhome.images import micropython
from wayhome.images.apt_root import NoDebianMirror

ROOT = Path(__file__).parents[2]
CHECKED = ["firmware", "host_tools", "tests", "tasks.py"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def tool(name: str, *words: str) -> None:
    done = run(str(Path(sys.executable).parent / name), *words)
    assert done.returncode == 0, f"{name} {' '.join(words)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


def tracked_files() -> list[Path]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard")
    if listed.returncode:
        pytest.skip("not a git checkout: nothing says which files are the project's")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_ruff_finds_nothing():
    tool("ruff", "check", "--no-cache", *CHECKED)


def test_everything_is_formatted():
    tool("ruff", "format", "--no-cache", "--check", *CHECKED)


def test_host_tools_pass_mypy_strict():
    tool("mypy", "--strict", "host_tools/wayhome")


def test_the_boards_code_passes_mypy_with_micropython_stubs():
    done = board_types.check_as_micropython()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_boards_code_passes_mypy_with_cpythons_own_stubs():
    done = board_types.check_as_cpython()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_what_micropython_lacks_is_a_type_error(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import dataclasses, socket, time\n"
        "def address(ip):\n"
        "    return socket.inet_ntoa(ip)\n"
        "ticks: str = time.ticks_ms()\n"
    )
    found = board_types.check_as_micropython([wrong]).stdout
    assert 'module named "dataclasses"' in found
    assert 'has no attribute "inet_ntoa"' in found
    assert "[assignment]" in found, "the stubs of MicroPython's own calls were not met"


def test_stubs_are_laid_out_once_for_each_version(tmp_path):
    first = board_types.lay_out_stubs(tmp_path)
    before = (first / "stdlib/builtins.pyi").stat()
    assert board_types.lay_out_stubs(tmp_path) == first
    assert (first / "stdlib/builtins.pyi").stat().st_ino == before.st_ino
    assert [path.name for path in (tmp_path / "typings").iterdir()] == [first.name], "something unfinished was left"


def test_imports_follow_the_arrows():
    tool("lint-imports", "--no-cache")


def test_micropython_compiles_every_module_of_the_board():
    try:
        tree = micropython.fetch(ROOT / "build")
    except NoDebianMirror as error:
        pytest.skip(str(error))
    for path in sorted((ROOT / "firmware/wayhomed").rglob("*.py")):
        done = run(*micropython.command(tree), "-X", "compile-only", str(path))
        assert done.returncode == 0, f"{path.relative_to(ROOT)}: {done.stderr or done.stdout}"


def test_no_file_names_a_registry_or_a_path_of_somebodys_machine():
    forbidden = re.compile(
        rb"(pypi\.org|pythonhosted|registry\.npmjs|deb\.debian\.org|archive\.ubuntu|security\.debian\.org"
        rb"|/home/[a-z]+/|/root/\.)"
    )
    own = Path(__file__).resolve()
    found = [str(path) for path in tracked_files() if path.resolve() != own and forbidden.search(path.read_bytes())]
    assert not found


def test_every_task_that_the_docs_name_is_there():
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for path in documents for name in re.findall(r"\./inv ([a-z]+)", path.read_text())} | {"mutation"}
    listed = run(str(Path(sys.executable).parent / "inv"), "--list").stdout
    assert not [name for name in sorted(named) if not re.search(rf"^  {name}\b", listed, re.MULTILINE)]


def test_every_folder_of_code_opens_with_what_it_is_for():
    for package in [*(ROOT / "firmware").rglob("__init__.py"), *(ROOT / "host_tools").rglob("__init__.py")]:
        text = package.read_text()
        assert len(text.split('"""')[1].strip()) > 20, f"{package.relative_to(ROOT)} says nothing"


def test_every_link_and_path_in_the_documentation_is_there():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = document.read_text()
        links = [document.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
        paths = [ROOT / path for path in re.findall(r"`((?:docs|host_tools|firmware|tests)/[\w./-]+)`", text)]
        for path in links + paths:
            assert path.exists(), f"{document.relative_to(ROOT)} names {path}, which is not there"
