"""The coordinator's URL as people type it."""

from shared.expect import raises
from wayhomed.core.server_url import parse, text_of
from wayhomed.wire.errors import BadWire


def test_a_url_is_taken_apart():
    for text, parts in (
        ("https://mesh.example.net", (True, "mesh.example.net", 443, "mesh.example.net", "")),
        ("https://mesh.example.net/", (True, "mesh.example.net", 443, "mesh.example.net", "")),
        ("http://203.0.113.10:8080", (False, "203.0.113.10", 8080, "203.0.113.10:8080", "")),
        ("http://[2001:db8::1]:8080/mesh/", (False, "2001:db8::1", 8080, "[2001:db8::1]:8080", "/mesh")),
        ("https://[2001:db8::1]", (True, "2001:db8::1", 443, "[2001:db8::1]", "")),
    ):
        assert tuple(parse(text)) == parts, text


def test_a_url_is_shown_in_one_form():
    assert text_of(parse("https://mesh.example.net:443/x/")) == "https://mesh.example.net:443/x"


def test_what_is_no_url_says_what_to_write():
    for text in (
        "",
        "mesh.example.net",
        "ftp://mesh.example.net",
        "https://",
        "https://:443",
        "https://mesh.example.net:0",
        "https://mesh.example.net:70000",
        "https://mesh.example.net:x",
        "https://user@mesh.example.net",
        "https://mesh.example.net/a b",
        "https://mesh.example.net/\r\nX-Evil: 1",
        "https://mesh.example.net\r\nX-Evil: 1",
        "https://[2001:db8::1",
        "https://[2001:db8::1]x",
        "https://" + "a" * 300,
    ):
        assert str(raises(BadWire, parse, text)).startswith(("a login server", "the login server", "behind the login"))
