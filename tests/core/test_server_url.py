"""The coordinator's URL as people type it."""

from shared.expect import raises
from wayhomed.core.server_url import other_way, parse, redirected, text_of, with_target
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


def test_a_redirect_is_followed_to_where_it_says():
    here = parse("https://mesh.example.net/mesh")
    for location, url, target in (
        ("https://new.example.net:8443/key?v=120", "https://new.example.net:8443", "/key?v=120"),
        ("/other/key?v=120", "https://mesh.example.net", "/other/key?v=120"),
        ("//cdn.example.net/key", "https://cdn.example.net", "/key"),
        ("https://new.example.net", "https://new.example.net", "/"),
    ):
        found, asked = redirected(here, location)
        assert text_of(found)[: len(url)] == url and asked == target, location
    assert redirected(parse("http://mesh.example.net"), "https://mesh.example.net/key")[0].secure


def test_a_redirect_to_nowhere_or_out_of_tls_is_refused():
    here = parse("https://mesh.example.net")
    for location in ("", "key", "ftp://mesh.example.net/", "http://mesh.example.net/key", "https://x/ key", "/k?a b"):
        raises(BadWire, redirected, here, location)


def test_a_url_may_have_a_query():
    assert with_target("https://mesh.example.net/machine/ping?id=5") == (
        parse("https://mesh.example.net/machine/ping"),
        "/machine/ping?id=5",
    )


def test_there_is_another_way_unless_it_leads_into_a_home():
    for text, other in (
        ("https://mesh.example.net", (False, "mesh.example.net", 80, "mesh.example.net", "")),
        ("https://mesh.example.net:8443/a", (False, "mesh.example.net", 80, "mesh.example.net", "/a")),
        ("http://mesh.example.net:8080", (True, "mesh.example.net", 443, "mesh.example.net", "")),
        ("http://203.0.113.9", (True, "203.0.113.9", 443, "203.0.113.9", "")),
        ("http://[2001:db8::1]:80", (True, "2001:db8::1", 443, "[2001:db8::1]", "")),
    ):
        assert tuple(other_way(parse(text))) == other, text
    for text in ("http://localhost", "http://127.0.0.1:8080", "http://192.168.1.5", "http://[::1]", "http://[fd00::1]"):
        assert other_way(parse(text)) is None, text
