from shared.expect import raises
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

# Text as RFC 5952 writes it, and the bytes in hex.
CANONICAL = (
    ("0.0.0.0", "00000000"),
    ("100.64.0.1", "64400001"),
    ("255.255.255.255", "ffffffff"),
    ("::", "00" * 16),
    ("::1", "00" * 15 + "01"),
    ("1::", "0001" + "00" * 14),
    ("fd7a:115c:a1e0::53", "fd7a115ca1e000000000000000000053"),
    ("2001:db8:0:1:1:1:1:1", "20010db8000000010001000100010001"),
    ("2001:0:0:1::1", "20010000000000010000000000000001"),
    ("2001:db8::1:0:0:1", "20010db8000000000001000000000001"),
    ("1:2:3:4:5:6:7:8", "00010002000300040005000600070008"),
    ("::ffff:192.0.2.33", "00" * 10 + "ffffc0000221"),
)
OTHER_SPELLINGS = (
    ("FD7A:115C:A1E0::53", "fd7a:115c:a1e0::53"),
    ("fd7a:115c:a1e0:0:0:0:0:53", "fd7a:115c:a1e0::53"),
    ("0001:0002:0003:0004:0005:0006:0007:0008", "1:2:3:4:5:6:7:8"),
    ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ("1:2:3:4:5:6:192.0.2.33", "1:2:3:4:5:6:c000:221"),
    ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
    ("0000:0000:0000:0000:0000:ffff:255.255.255.255", "::ffff:255.255.255.255"),
)
NO_ADDRESSES = (
    "", " ", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "1.2.3.-4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.", ".1.2.3",
    "1.2.3.4a", "1.2.3.٣", "1..2.3", "0x1.2.3.4", "1.2.3.1000", "1.2.3.4/8",
    ":", ":::", "1", "1:2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
    "1::2::3", "12345::", "g::", "::g", "1:", ":1", "::1:", ":1::", "fe80::1%eth0", "[::1]", "::1 ", " ::1",
    "1.2.3.4::", "1.2.3.4:1:2:3:4:5:6", "::1.2.3", "::1.2.3.4.5", "::1.2.3.256", "1:2:3:4:5:6:7:1.2.3.4",
    "1:2:3:4:5:1.2.3.4", "::1.2.3.4:1", "::-1", "::+1", ":: ", "::é",
    "0" * 100, "::" + "0" * 100, "0000:0000:0000:0000:0000:0000:0000:00001", "1::2:3:4:5:6:7:8:9",
    "0:0000:0000:0000:0000:0000:ffff:255.255.255.255", "1:2:3:4:5:6:7:8:9.9", "1:2:3:4:5:6:7:8:9:1.2.3.4",
    "::1:2:3:4:5:6:7:8:9:1.2.3.4", "0:" * 1000, "::" + ":0" * 1000, "0." * 1000,
)  # fmt: skip


def test_addresses_are_read_and_written_in_their_canonical_text():
    for text, packed in CANONICAL:
        assert address.ip_from_text(text).hex() == packed
        assert address.ip_text(bytes.fromhex(packed)) == text


def test_other_spellings_are_read_as_the_same_address():
    for text, canonical in OTHER_SPELLINGS:
        assert address.ip_text(address.ip_from_text(text)) == canonical


def test_what_is_no_address_is_refused():
    for text in NO_ADDRESSES:
        raises(BadWire, address.ip_from_text, text)
    for other in (None, 5, b"1.2.3.4", [], {}, True):
        raises(BadWire, address.ip_from_text, other)
        raises(BadWire, address.prefix_from_text, other)
        raises(BadWire, address.endpoint_from_text, other)


def test_bytes_that_are_no_address_are_a_bug():
    for length in (0, 3, 5, 15, 17):
        raises(ValueError, address.ip_text, bytes(length))


def test_prefixes_are_read_and_written():
    for text in ("10.0.0.0/8", "0.0.0.0/0", "100.64.0.1/32", "::/0", "fd7a:115c:a1e0::/48", "fd7a:115c:a1e0::1/128"):
        assert address.prefix_text(address.prefix_from_text(text)) == text
    assert address.prefix_from_text("10.0.0.0/8") == (b"\n\0\0\0", 8)


def test_a_bare_address_is_a_prefix_of_full_length():
    assert address.prefix_from_text("10.1.2.3") == (b"\n\1\2\3", 32)
    assert address.prefix_from_text("::1") == (bytes(15) + b"\1", 128)


def test_a_prefix_with_host_bits_is_refused():
    for text in ("10.0.0.1/8", "10.128.0.0/8", "0.0.0.1/0", "10.0.0.1/31", "::1/127", "fd7a:115c:a1e0:1::/48"):
        raises(BadWire, address.prefix_from_text, text)


def test_a_length_that_the_family_lacks_is_refused():
    for text in ("10.0.0.0/33", "::/129", "10.0.0.0/", "/8", "10.0.0.0/08", "10.0.0.0/-8", "10.0.0.0/8/8", "::/000"):
        raises(BadWire, address.prefix_from_text, text)
    for text in (
        "10.0.0.0/8 ",
        "10.0.0.0/ 8",
        "10.0.0.0/1e1",
        "10.0.0.0/٨",
        "0.0.0.0/" + "0" * 20,
        "0.0.0.0/99999999999",
    ):
        raises(BadWire, address.prefix_from_text, text)


def test_endpoints_are_read_and_written():
    for text in ("192.0.2.1:41641", "[2001:db8::1]:41641", "0.0.0.0:0", "[::]:65535"):
        assert address.endpoint_text(address.endpoint_from_text(text)) == text
    assert address.endpoint_from_text("127.3.3.40:1") == (b"\x7f\x03\x03\x28", 1)


def test_what_is_no_endpoint_is_refused():
    for text in (
        "", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:080", "1.2.3.4:1a", ":80", "::1:80",
        "[1.2.3.4]:80", "[::1]", "[::1]:", "[::1:80", "::1]:80", "[]:80", "[[::1]]:80", "[::1]]:80",
        "[fe80::1%eth0]:80", "1.2.3.4:000000000000000000001", "1.2.3.4:" + "9" * 5000, "80",
        "[:80", "]:80", "1.2.3.4:99999999999999999999", "nas:80",
    ):  # fmt: skip
        raises(BadWire, address.endpoint_from_text, text)


def prefix(text):
    return address.prefix_from_text(text)


def test_a_prefix_contains_its_addresses_and_no_others():
    ten = prefix("10.0.0.0/8")
    assert address.contains(ten, address.ip_from_text("10.0.0.0"))
    assert address.contains(ten, address.ip_from_text("10.255.255.255"))
    assert not address.contains(ten, address.ip_from_text("11.0.0.0"))
    assert not address.contains(ten, address.ip_from_text("9.255.255.255"))
    assert address.contains(prefix("10.1.2.3/32"), b"\n\1\2\3")
    assert not address.contains(prefix("10.1.2.3/32"), b"\n\1\2\2")
    mesh = prefix("fd7a:115c:a1e0::/48")
    assert address.contains(mesh, address.ip_from_text("fd7a:115c:a1e0:ffff::1"))
    assert not address.contains(mesh, address.ip_from_text("fd7a:115c:a1e1::"))


def test_a_default_route_contains_its_own_family_only():
    assert address.contains(prefix("0.0.0.0/0"), b"\xff\xff\xff\xff")
    assert not address.contains(prefix("0.0.0.0/0"), bytes(16))
    assert not address.contains(prefix("::/0"), bytes(4))


def test_prefixes_overlap_when_one_holds_the_other():
    assert address.overlaps(prefix("10.0.0.0/8"), prefix("10.1.0.0/16"))
    assert address.overlaps(prefix("10.1.0.0/16"), prefix("10.0.0.0/8"))
    assert address.overlaps(prefix("10.1.0.0/16"), prefix("10.1.0.0/16"))
    assert not address.overlaps(prefix("10.0.0.0/16"), prefix("10.1.0.0/16"))
    assert not address.overlaps(prefix("0.0.0.0/0"), prefix("::/0"))
