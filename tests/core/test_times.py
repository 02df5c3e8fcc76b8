"""RFC 3339 times and seconds since 1970."""

from shared.expect import raises
from wayhomed.core.times import seconds_from_text, text_from_seconds
from wayhomed.wire.errors import BadWire


def test_a_time_is_read_to_the_second():
    for text, seconds in (
        ("1970-01-01T00:00:01Z", 1),
        ("2000-02-29T12:30:45Z", 951827445),
        ("2026-11-23T02:14:31Z", 1795400071),
        ("2026-11-23T02:14:31.123456789Z", 1795400071),
        ("2026-11-23T04:14:31+02:00", 1795400071),
        ("2026-11-22T21:14:31-05:00", 1795400071),
        ("2100-03-01T00:00:00Z", 4107542400),
    ):
        assert seconds_from_text(text) == seconds, text


def test_the_zero_time_means_absent():
    assert seconds_from_text("0001-01-01T00:00:00Z") == 0
    assert text_from_seconds(0) == "0001-01-01T00:00:00Z"


def test_writing_a_time_reads_back_the_same():
    for seconds in (1, 951782400, 951827445, 1795400071, 4107542399, 4107542400, 253402300799):
        assert seconds_from_text(text_from_seconds(seconds)) == seconds


def test_anything_else_is_refused():
    for text in (
        "",
        "yesterday",
        "2026-11-23",
        "2026-11-23T02:14:31",
        "2026-13-23T02:14:31Z",
        "2026-11-23T24:14:31Z",
        "2026-11-23 02:14:31Z",
        "2026-11-23T02:14:31X",
        "2026-11-23T02:14:31+2:00",
        "+026-11-23T02:14:31Z",
        "2026-11-23T02:14:31." + "1" * 100 + "Z",
    ):
        raises(BadWire, seconds_from_text, text)
