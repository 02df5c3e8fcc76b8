"""Short JSON texts."""

import json

from shared.expect import raises
from wayhomed.wire.json_text import MAX_DEPTH, parse

WHOLE = b'{"a": [1, {"b\\\\\\"}": "\xc3\xa9[", "c": null}], "d": {}, "e": true}'


def test_a_whole_text_is_read():
    assert parse(WHOLE) == {"a": [1, {'b\\"}': "\xe9[", "c": None}], "d": {}, "e": True}
    for text in (b"7", b"null", b' "a" ', b"[]", b"{}"):
        assert parse(text) == json.loads(str(text, "utf-8"))


def test_a_text_that_is_cut_off_anywhere_is_refused():
    for end in range(len(WHOLE)):
        raises(ValueError, parse, WHOLE[:end])
    # Found before a parser is asked, which might take it for whole.
    for text in (b"[1", b'{"a": {}', b'"a', b'["a', b'"a\\"'):
        assert str(raises(ValueError, parse, text)) == "cut off"


def test_what_is_no_json_is_refused():
    for text in (
        b"",
        b"}",
        b"]",
        b"{}}",
        b"[[]",
        b'"',
        b'"a\\"',
        b"x",
        b"\xff",
        b'{"a"',
        b"{} {}",
        b"\0",
        b"}{",
        b"1]",
    ):
        raises(ValueError, parse, text)


def test_a_text_is_read_down_to_a_depth():
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    raises(ValueError, parse, b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    raises(ValueError, parse, b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
