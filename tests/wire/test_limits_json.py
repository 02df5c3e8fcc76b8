"""Numbers without end in a coordinator's JSON."""

from shared.expect import raises
from wayhomed.wire.errors import BadWire
from wayhomed.wire.json_cutter import ITEMS, WHOLE, JsonCutter


class Sink:
    def __init__(self):
        self.values = []

    def begins(self, path):
        pass

    def value(self, path, value):
        self.values.append(value)


def values_of(data):
    sink = Sink()
    cutter = JsonCutter({"whole": WHOLE, "items": ITEMS}, sink)
    cutter.feed(data)
    cutter.close()
    return sink.values


def test_a_number_without_end_is_refused_before_it_is_read():
    for text in (b"9" * 100_000, b'{"a":[1,{"b":-' + b"1" * 2049 + b"}]}", b"[0." + b"3" * 3000 + b"]"):
        error = raises(BadWire, values_of, b'{"whole":' + text + b"}")
        assert "digits" in str(error)
    raises(BadWire, values_of, b'{"items":[1,2,' + b"7" * 500_000 + b"]}")


def test_long_values_with_digits_in_them_are_read():
    keys = b'"' + b"nodekey:" + b"0123456789abcdef" * 4 + b'"'
    assert len(values_of(b'{"items":[' + b",".join([keys] * 2000) + b"]}")) == 2000
    assert values_of(b'{"whole":["' + b"1" * 1024 + b'",' + b"12345," * 1000 + b"6]}")[0][1] == 12345
