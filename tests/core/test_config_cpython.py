"""The configuration file under hypothesis: nothing crashes the parser, what is written reads back."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.core.config import MAX_FAULTS, SETTINGS, encode, parse

EXAMPLES = {name: setting.example for name, setting in SETTINGS.items()}
# What a hand may leave in a file: bytes of all kinds, mixed with pieces of right lines.
PIECES = st.sampled_from(
    [name.encode() for name in SETTINGS]
    + [example.encode() for example in EXAMPLES.values()]
    + [b"=", b"\n", b"\r\n", b" ", b"\t", b"#", b'"', b"'", b",", b"\0", b"\xef\xbb\xbf", b"/", b":", b"-", b"none"]
)
FILES = st.lists(PIECES | st.binary(max_size=8), max_size=60).map(b"".join)

prefixes = st.ip_addresses(v=4).map(lambda ip: (ip.packed, 32)) | st.ip_addresses(v=6).map(lambda ip: (ip.packed, 128))
networks = st.sampled_from(["10.0.0.0/8", "192.168.1.0/24", "172.16.0.0/12", "fd00:1::/64", "203.0.113.9/32"])
ports = st.integers(1, 65535)
services = st.tuples(st.sampled_from([6, 17]), ports, ports).map(lambda one: (one[0], min(one[1:]), max(one[1:])))
names = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ceilings = st.just("any") | st.lists(prefixes, max_size=5)
paths = st.from_regex(r"/[ -~]{0,30}[!-.0-~]", fullmatch=True).filter(lambda text: not ("'" in text and '"' in text))

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "login-server": names.map(lambda name: f"https://{name}.example"),
        "auth-key-file": paths,
        "hostname": names,
        "advertise-routes": st.lists(networks, unique=True),
        "accept-routes": st.booleans(),
        "snat": st.booleans(),
        "allow-services": st.just("any") | st.lists(services, max_size=8),
        "allow-publish": ceilings,
        "allow-peers-routes": ceilings,
        "allow-dns": st.just(False),
        "allow-exit": st.just(False),
        "ntp-servers": st.lists(names, max_size=8),
        "wireguard": st.sampled_from(["auto", "kernel", "userspace"]),
        "interface": st.from_regex(r"[a-z][a-z0-9_.-]{0,14}", fullmatch=True),
        "port": ports,
        "log-level": st.sampled_from(["error", "warning", "info", "debug"]),
        "system-log": st.booleans(),
    },
)


@given(FILES)
def test_no_file_crashes_the_parser_and_every_fault_has_a_line_and_words(data):
    found = parse(data)
    lines = data.count(b"\n") + 1
    assert len(found.faults) <= MAX_FAULTS + 2
    for fault in found.faults:
        assert 0 <= fault.line <= lines
        assert fault.expected
        sentence = fault.sentence()
        assert sentence.isprintable() and sentence.isascii()
    assert set(found.values) == set(found.lines)


@given(st.binary(max_size=4000))
def test_no_bytes_crash_the_parser(data):
    parse(data)


@given(VALUES)
def test_what_is_written_reads_back_the_same(values):
    found = parse(encode(values))
    assert [fault.sentence() for fault in found.faults] == []
    assert found.values == values


@given(VALUES, st.integers(0, 40))
def test_a_fault_takes_nothing_else_with_it(values, position):
    lines = encode(values).split(b"\n")
    position = min(position, len(lines))
    lines.insert(position, b"colour = blue")
    found = parse(b"\n".join(lines))
    assert [fault.line for fault in found.faults] == [position + 1]
    assert found.values == values


@given(VALUES, st.booleans(), st.booleans())
def test_line_ends_and_a_byte_order_mark_change_nothing(values, windows, marked):
    data = encode(values)
    if windows:
        data = data.replace(b"\n", b"\r\n")
    if marked:
        data = b"\xef\xbb\xbf" + data
    assert parse(data).values == values


def test_every_example_is_sound():
    for name, example in EXAMPLES.items():
        found = parse(f"{name} = {example}".encode())
        assert not found.faults and name in found.values, name


def test_the_file_that_the_package_brings_has_every_setting_and_sets_nothing():
    data = (Path(__file__).parents[2] / "firmware" / "package" / "wayhomed.conf").read_bytes()
    assert not parse(data).faults and not parse(data).values
    lines = [line[1:] if line[:1] == b"#" and b" = " in line else line for line in data.split(b"\n")]
    found = parse(b"\n".join(lines))
    assert [fault.sentence() for fault in found.faults] == []
    assert sorted(found.values) == sorted(SETTINGS)
