"""Where Debian comes from is read from the machine's own apt sources, in both of their forms."""

from pathlib import Path

import pytest

from wayhome.images.apt_root import FetchFailed, Mirror, NoDebianMirror, debian_mirror


def mirror_of(tmp_path: Path, name: str, text: str) -> Mirror:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / name).write_text(text)
    return debian_mirror(tmp_path / "sources.list", folder)


def test_a_deb822_stanza_gives_mirror_and_key(tmp_path):
    text = (
        "# local\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
    )
    found = mirror_of(tmp_path, "debian.sources", text + "Signed-By: /keys/debian.gpg\n")
    assert found == Mirror("http://mirror.example/debian", "/keys/debian.gpg")


def test_a_one_line_source_gives_mirror_and_key(tmp_path):
    found = mirror_of(
        tmp_path, "a.list", "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian trixie main contrib\n"
    )
    assert found == Mirror("http://mirror.example/debian", "/k.gpg")


def test_a_source_without_a_named_key_is_signed_by_debians_own(tmp_path):
    assert mirror_of(tmp_path, "a.list", "deb http://mirror.example/debian bookworm main\n").signed_by.endswith(
        "debian-archive-keyring.gpg"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deb http://mirror.example/debian-security bookworm-security main\n",
        "deb http://other.example/apt nodistro main\n",
        "# deb http://mirror.example/debian bookworm main\n",
        "deb http://mirror.example/debian\n",
        "deb\x00http://x bookworm main",
    ],
)
def test_sources_without_a_plain_debian_suite_say_what_to_do(tmp_path, text):
    with pytest.raises(NoDebianMirror, match="apt-get update"):
        mirror_of(tmp_path, "a.list", text)


def test_a_failing_unpack_leaves_the_old_tree(tmp_path):
    from wayhome.images.apt_root import AptRoot

    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "old").touch()
    broken = tmp_path / "broken.deb"
    broken.write_bytes(b"not a package")
    with pytest.raises(FetchFailed, match="dpkg-deb failed"):
        AptRoot(tmp_path, "trixie").unpack([broken], tree)
    assert (tree / "old").exists()
