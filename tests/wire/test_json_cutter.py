"""One JSON object is cut into its values, however its bytes were cut."""

from shared.expect import raises
from wayhomed.wire.errors import BadWire
from wayhomed.wire.json_cutter import ANY, ITEMS, MAX_DEPTH, WHOLE, JsonCutter

PLAN = {"list": ITEMS, "any": {ANY: WHOLE}, "lists": {ANY: ITEMS}, "one": WHOLE}


class Sink:
    def __init__(self):
        self.seen = []

    def begins(self, path):
        self.seen.append(list(path))

    def value(self, path, value):
        self.seen.append((list(path), value))


def cut(*pieces, limit=1000):
    sink = Sink()
    cutter = JsonCutter(PLAN, sink, limit)
    for piece in pieces:
        cutter.feed(piece)
    cutter.close()
    return sink.seen


TEXT = (
    b' { "list" : [ {"x":"\\"}{\\\\"} , 5, "q\\\\\\"" , null,[[ ]], -1.5e3 ] ,"skip":{"a":[1,"]}\\\\"]},"skip2":"}\\"",'
    b'"any":{"Z":{"k":[]}, "y":7, "t":true},"lists":{"a":[],"b":null,"c":[1]},"one": 12.5 , "ONE":null,"n":0}\r\n'
)
SEEN = [
    ["list"], (["list", 0], {"x": '"}{\\'}), (["list", 1], 5), (["list", 2], 'q\\"'), (["list", 3], None),
    (["list", 4], [[]]), (["list", 5], -1500.0),
    ["any"], (["any", "Z"], {"k": []}), (["any", "y"], 7), (["any", "t"], True),
    ["lists"], ["lists", "a"], (["lists", "b"], None), ["lists", "c"], (["lists", "c", 0], 1),
    (["one"], 12.5), (["one"], None),
]  # fmt: skip


def test_values_come_by_plan_and_the_rest_is_passed_over():
    assert cut(TEXT) == SEEN


def test_the_cuts_mean_nothing():
    for first in range(0, len(TEXT), 2):
        for second in range(first, len(TEXT), 5):
            assert cut(TEXT[:first], TEXT[first:second], TEXT[second:]) == SEEN, (first, second)
    assert cut(*[TEXT[at : at + 1] for at in range(len(TEXT))]) == SEEN


def test_a_value_of_another_kind_than_planned_comes_whole():
    assert cut(b'{"list":{"a":1},"any":[1],"lists":5}') == [(["list"], {"a": 1}), (["any"], [1]), (["lists"], 5)]


def test_what_is_no_object_is_refused():
    for text in (
        b"", b" ", b"{", b"[]", b"5", b'"x"', b"null", b"{}}", b"{},", b"{} {}", b'{"a"}', b'{"a":}', b'{"a":1,}',
        b'{"one":1', b'{"one"', b'{"one":tru}', b'{"one":"x', b'{"list":[1}', b'{"list":[1', b'{"list":[,]}',
        b'{"any":{"a":1]}', b'{,"a":1}', b'{"a" 1}', b"{one:1}", b'{"one":"\xff"}', b'{"list":[1 2]}', b"{]",
    ):  # fmt: skip
        raises(BadWire, cut, text)


def test_nesting_is_bounded_even_where_it_is_passed_over():
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert cut(b'{"skip":' + deep + b"}") == []
    raises(BadWire, cut, b'{"skip":[' + deep + b"]}")
    raises(BadWire, cut, b'{"one":[' + deep + b"]}")


def test_a_value_is_bounded_before_it_is_held_and_one_passed_over_is_not():
    assert len(cut(b'{"one":"' + b"x" * 990 + b'"}')) == 1
    raises(BadWire, cut, b'{"one":"' + b"x" * 1000 + b'"}')
    sink = Sink()
    cutter = JsonCutter(PLAN, sink, 1000)
    cutter.feed(b'{"one":"')
    cutter.feed(b"x" * 900)
    raises(BadWire, cutter.feed, b"x" * 200)
    assert cut(b'{"skip":"' + b"x" * 5000 + b'"}') == []
    raises(BadWire, cut, b'{"' + b"x" * 5000 + b'":1}')
