from shared.expect import raises
from wayhomed.wire import certificate
from wayhomed.wire.errors import BadWire


def element(tag, inside):
    if len(inside) < 128:
        return bytes((tag, len(inside))) + inside
    return bytes((tag, 0x82, len(inside) >> 8, len(inside) & 255)) + inside


def made(not_before, not_after, version=True):
    validity = element(0x30, not_before + not_after)
    parts = element(0x02, b"\x01\x02") + element(0x30, bytes(10)) + element(0x30, bytes(200)) + validity
    if version:
        parts = element(0xA0, element(0x02, b"\x02")) + parts
    return element(0x30, element(0x30, parts + element(0x30, bytes(300))) + element(0x03, bytes(70)))


def utc(text):
    return element(0x17, text)


EARLY, LATE = utc(b"260101000000Z"), utc(b"270131235959Z")


def test_both_kinds_of_time_are_read():
    assert certificate.validity(made(EARLY, LATE)) == ("20260101000000", "20270131235959")
    late = element(0x18, b"20991231235959Z")
    assert certificate.validity(made(EARLY, late)) == ("20260101000000", "20991231235959")


def test_two_digits_of_a_year_mean_1950_to_2049():
    assert certificate.validity(made(utc(b"500101000000Z"), utc(b"491231000000Z"))) == (
        "19500101000000",
        "20491231000000",
    )


def test_a_certificate_without_version_is_read():
    assert certificate.validity(made(EARLY, LATE, version=False))[1] == "20270131235959"


def test_what_is_cut_short_is_refused():
    whole = made(EARLY, LATE)
    for length in range(len(whole)):
        raises(BadWire, certificate.validity, whole[:length])


def cut_inside(parts):
    """What is left of a certificate if its issuer closed it too early: the lengths around it are right."""
    return element(0x30, element(0x30, parts))


def test_what_is_cut_short_inside_is_refused():
    parts = element(0xA0, element(0x02, b"\x02")) + element(0x02, b"\x01") + element(0x30, bytes(10))
    parts += element(0x30, bytes(200)) + element(0x30, EARLY + LATE)
    assert certificate.validity(cut_inside(parts)) == ("20260101000000", "20270131235959")
    for length in range(len(parts)):
        raises(BadWire, certificate.validity, cut_inside(parts[:length]))
        # What follows the certificate is none of it.
        raises(BadWire, certificate.validity, cut_inside(parts[:length]) + parts[length:])
    for times in (b"", EARLY, EARLY[:5], EARLY + LATE[:1], EARLY + LATE[:2], EARLY + b"\x17\x81", EARLY + b"\x17\x00"):
        raises(BadWire, certificate.validity, cut_inside(parts[:-32] + element(0x30, times)))
        raises(BadWire, certificate.validity, cut_inside(parts[:-32] + element(0x30, times)) + LATE)


def test_times_that_are_none_are_refused():
    for text in (b"", b"260101000000", b"2601010000Z", b"26010100000aZ", b"260101000000+"):
        raises(BadWire, certificate.validity, made(utc(text), LATE))
    raises(BadWire, certificate.validity, made(element(0x16, b"260101000000Z"), LATE))
    raises(BadWire, certificate.validity, made(EARLY, element(0x18, b"270131235959Z")))


def test_a_length_has_one_byte_or_one_or_two_more():
    for length in (b"\x1e", b"\x81\x1e", b"\x82\x00\x1e"):
        parts = element(0x02, b"\x01") + element(0x30, b"") * 2 + b"\x30" + length + EARLY + LATE
        assert certificate.validity(cut_inside(parts))[0] == "20260101000000"
    for length in (b"\x80", b"\x83\x00\x00\x1e", b"\xff"):
        parts = element(0x02, b"\x01") + element(0x30, b"") * 2 + b"\x30" + length + EARLY + LATE
        raises(BadWire, certificate.validity, cut_inside(parts))


def test_a_certificate_has_at_most_65536_bytes():
    parts = element(0x02, b"\x01") + element(0x30, b"") * 2 + element(0x30, EARLY + LATE)
    shell = element(0x30, parts + element(0x30, bytes(65_000)))
    for size, is_read in ((65_536, True), (65_537, False)):
        whole = element(0x30, shell + bytes(size - 4 - len(shell)))
        assert len(whole) == size
        if is_read:
            assert certificate.validity(whole)[0] == "20260101000000"
        else:
            raises(BadWire, certificate.validity, whole)


def test_lengths_without_end_are_refused():
    raises(BadWire, certificate.validity, b"\x30\x80" + bytes(100))
    raises(BadWire, certificate.validity, b"\x30\x84\xff\xff\xff\xff" + bytes(100))
    raises(BadWire, certificate.validity, bytes(70_000))
