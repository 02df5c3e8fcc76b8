"""One JSON object is cut into its values, however its bytes were cut."""

from shared.expect import raises
from wayhomed.wire import json_cutter
from wayhomed.wire.errors import BadWire
from wayhomed.wire.json_cutter import ANY, ITEMS, WHOLE, JsonCutter

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


def test_what_is_no_object_reaches_no_reader():
    for text in (b"[1]", b'"x"', b"5,", b"true ", b"null,"):
        sink = Sink()
        raises(BadWire, JsonCutter(PLAN, sink).feed, text)
        assert sink.seen == []


def test_names_count_without_regard_to_case_and_no_name_is_one():
    assert cut(b'{"ONE":1,"One":2,"on":3,"ones":4,"oNf":5,"":6}') == [(["one"], 1), (["one"], 2)]
    assert cut(b'{"ANY":{"":1,"B":2}}') == [["any"], (["any", ""], 1), (["any", "B"], 2)]


def test_nesting_is_bounded_even_where_it_is_passed_over():
    deep = b"[" * 64 + b"]" * 64
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


def test_a_value_of_exactly_the_limit_is_read_whole_and_in_pieces():
    fits = b'{"one":"' + b"x" * 998 + b'"}'
    over = b'{"one":"' + b"x" * 999 + b'"}'
    for at in (0, 500):
        assert len(cut(fits[:at], fits[at:])[0][1]) == 998
        error = raises(BadWire, cut, over[:at], over[at:])
        assert "value of more than 1000 bytes" in str(error)


def test_unless_told_otherwise_a_value_has_at_most_half_a_megabyte():
    sink = Sink()
    JsonCutter(PLAN, sink).feed(b'{"one":"' + b"x" * (524_288 - 2) + b'"}')
    assert len(sink.seen[0][1]) == 524_288 - 2
    raises(BadWire, JsonCutter(PLAN, Sink()).feed, b'{"one":"' + b"x" * (524_288 - 1) + b'"}')


def test_a_name_has_at_most_1024_bytes_with_its_quotes():
    assert cut(b'{"' + b"x" * 1022 + b'":1}') == []
    error = raises(BadWire, cut, b'{"' + b"x" * 1023 + b'":1}')
    assert "name of more than 1024 bytes" in str(error)


class FullJson:
    """A machine whose memory is full when a value is to be read."""

    def loads(self, text):
        raise MemoryError


def test_a_value_that_memory_does_not_take_is_refused():
    real = json_cutter.json
    json_cutter.json = FullJson()
    try:
        error = raises(BadWire, cut, b'{"one":[1,2]}')
    finally:
        json_cutter.json = real
    assert "memory" in str(error)
    assert cut(b'{"one":[1,2]}') == [(["one"], [1, 2])]
