"""Time servers and certificates against input nobody planned; scapy's reading of the first."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.ntp import NTPHeader

from wayhomed.wire import certificate, ntp
from wayhomed.wire.errors import BadWire

NONCE = b"\x11" * 8
QUESTION = ntp.encode_request(NONCE)
BUILD_S = 1_793_491_200
times_ms = st.integers(BUILD_S * 1000, (BUILD_S + 2**32 - 1) * 1000)


@given(st.binary(max_size=1100), st.integers(0, 2**33))
def test_any_bytes_are_an_answer_or_bad_wire(datagram, not_before_s):
    try:
        read = ntp.decode_answer(datagram, NONCE, not_before_s)
    except BadWire:
        return
    assert read.refusal or read.sent_ms >= not_before_s * 1000


@given(st.data(), times_ms)
def test_an_answer_with_changed_bytes_is_an_answer_or_bad_wire(data, now_ms):
    made = bytearray(ntp.encode_answer(QUESTION, now_ms, now_ms))
    for _ in range(data.draw(st.integers(1, 6))):
        made[data.draw(st.integers(0, 47))] = data.draw(st.integers(0, 255))
    try:
        read = ntp.decode_answer(bytes(made), NONCE, BUILD_S)
    except BadWire:
        return
    assert read.root_distance_ms >= 0


@given(times_ms, st.integers(0, 2000), st.integers(1, 15), st.integers(0, 60_000))
def test_what_was_written_is_read(received_ms, took_ms, stratum, distance_ms):
    made = ntp.encode_answer(QUESTION, received_ms, received_ms + took_ms, stratum, distance_ms)
    read = ntp.decode_answer(made, NONCE, BUILD_S)
    assert (read.received_ms, read.stratum) == (received_ms, stratum)
    assert abs(read.root_distance_ms - distance_ms) <= 1


def test_scapy_reads_our_question_as_a_clients():
    read = NTPHeader(QUESTION)
    assert (read.version, read.mode, read.stratum) == (4, 3, 0)


def test_scapys_server_is_understood():
    made = NTPHeader(version=4, mode=4, stratum=2, delay=0.5, dispersion=0.25, recv=3_900_000_000.0)
    made.sent = 3_900_000_000.25
    raw = bytearray(bytes(made))
    raw[24:32] = NONCE
    read = ntp.decode_answer(bytes(raw), NONCE, 0)
    assert read.sent_ms - read.received_ms == 250
    assert read.root_distance_ms == 500


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_bad_wire(der):
    try:
        not_before, not_after = certificate.validity(der)
    except BadWire:
        return
    assert len(not_before) == len(not_after) == 14


def test_a_certificate_of_the_cryptography_library_is_read():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    first, last = datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2051, 2, 3, 4, 5, 6, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), first, last)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert certificate.validity(der) == ("20261123120000", "20510203040506")
