"""Where the demo is to write to: what can't be written is said in a sentence, before the story if that is known."""

from pathlib import Path

import pytest

from wayhome.demo.__main__ import _write, main
from wayhome.errors import HostError


@pytest.mark.parametrize(("option", "name"), [("--json", ""), ("--json", "none/demo.json"), ("--record", "none")])
def test_a_place_that_is_none_is_refused_before_the_story(tmp_path: Path, capsys, option: str, name: str):
    with pytest.raises(SystemExit) as ended:
        main([option, str(tmp_path / name)])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == "" and f"error: {option} " in told.err


def test_a_full_disk_is_told_in_a_sentence():
    with pytest.raises(HostError, match="/dev/full can't be written: No space left"):
        _write(Path("/dev/full"), "{}")
