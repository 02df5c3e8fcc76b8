"""Server and commands meet at the same state directory when nobody names one."""

from pathlib import Path

from wayhome.cli.admin_client import find_socket
from wayhome.state_directory import default_state_directory


def test_the_environment_names_it_for_everybody():
    assert default_state_directory({"WAYHOME_STATE": "/srv/mesh"}, 0) == Path("/srv/mesh")
    assert default_state_directory({"WAYHOME_STATE": "/srv/mesh", "HOME": "/home"}, 1000) == Path("/srv/mesh")


def test_root_keeps_it_where_services_do():
    assert default_state_directory({"HOME": "/h", "XDG_STATE_HOME": "/x"}, 0) == Path("/var/lib/wayhome")


def test_others_keep_it_in_their_own_state_folder():
    assert default_state_directory({"HOME": "/h"}, 1000) == Path("/h/.local/state/wayhome")
    assert default_state_directory({"HOME": "/h", "XDG_STATE_HOME": "/x"}, 1000) == Path("/x/wayhome")
    assert default_state_directory({"HOME": "/h", "XDG_STATE_HOME": "relative"}, 1000) == Path(
        "/h/.local/state/wayhome"
    )


def test_a_socket_that_is_named_wins_over_a_directory_and_that_over_the_default():
    assert find_socket(Path("/a.sock"), Path("/b"), {"WAYHOME_STATE": "/c"}, 0) == Path("/a.sock")
    assert find_socket(None, Path("/b"), {"WAYHOME_STATE": "/c"}, 0) == Path("/b/wayhome.sock")
    assert find_socket(None, None, {"WAYHOME_STATE": "/c"}, 0) == Path("/c/wayhome.sock")
