"""mDNS questions as responders expect them, and their answers read with limits."""

import struct

from shared.expect import raises
from wayhomed.wire import dns, mdns
from wayhomed.wire.errors import BadWire

NAS = (b"nas", b"local")
HTTP = (b"_http", b"_tcp", b"local")
INSTANCE = (b"Anna's NAS",) + HTTP
IP = b"\xc0\xa8\x01\x14"


def record(labels, kind, data, class_=0x8001):
    return dns.encode_name(labels) + struct.pack(">HHIH", kind, class_, 120, len(data)) + data


def message(records, questions=(), flags=0x8400, counts=None):
    counts = (len(records), 0, 0) if counts is None else counts
    made = struct.pack(">HHHHHH", 0, flags, len(questions), counts[0], counts[1], counts[2])
    for labels in questions:
        made += dns.encode_name(labels) + b"\0\x0c\0\1"
    return made + b"".join(records)


def srv(port, host):
    return struct.pack(">HHH", 0, 0, port) + dns.encode_name(host)


WHOLE = message(
    [record(HTTP, 12, dns.encode_name(INSTANCE)), record(INSTANCE, 33, srv(5000, NAS)), record(NAS, 1, IP)],
    [HTTP],
    counts=(1, 1, 1),
)


def test_questions_ask_for_pointers_and_an_answer_to_us_alone():
    asked = mdns.encode_questions([HTTP, mdns.reverse_name(IP)])
    assert asked == (
        b"\0\0\0\0\0\2\0\0\0\0\0\0\5_http\4_tcp\5local\0\0\x0c\x80\1"
        b"\x0220\x011\x03168\x03192\x07in-addr\x04arpa\0\0\x0c\x80\1"
    )
    mdns.encode_questions([HTTP] * 24)
    raises(ValueError, mdns.encode_questions, [HTTP] * 25)


def test_kinds_of_service_are_told_by_their_names():
    assert mdns.service_name("_http._tcp") == HTTP
    assert mdns.all_services() == (b"_services", b"_dns-sd", b"_udp", b"local")
    assert mdns.service_kind(HTTP) == "_http._tcp"
    assert mdns.service_kind((b"_HTTP", b"_UDP", b"LOCAL")) == "_http._udp"
    for labels in ((), (b"_tcp", b"local"), (b"http", b"_tcp", b"local"), (b"", b"_tcp", b"local"), NAS + NAS):
        assert mdns.service_kind(labels) == ""
    assert mdns.service_kind((b"_http", b"_sctp", b"local")) == ""
    assert mdns.service_kind((b"_http", b"_tcp", b"example")) == ""


def test_an_answer_tells_names_services_and_addresses():
    found = mdns.decode_answers(WHOLE)
    assert found.pointers == [(HTTP, INSTANCE)]
    assert found.services == [(INSTANCE, 5000, NAS)]
    assert found.addresses == [(NAS, IP)]


def test_an_answer_that_is_cut_short_is_refused():
    for size in range(len(WHOLE)):
        raises(BadWire, mdns.decode_answers, WHOLE[:size])


def test_other_kinds_of_record_and_other_classes_are_passed_over():
    found = mdns.decode_answers(message([record(NAS, 16, b"\xff"), record(NAS, 1, b"", 3), record(NAS, 1, IP, 1)]))
    assert (found.pointers, found.services, found.addresses) == ([], [], [(NAS, IP)])


def test_an_answer_may_be_empty_and_so_may_a_record():
    assert mdns.decode_answers(message([])).pointers == []
    assert mdns.decode_answers(message([record(NAS, 16, b"")])).addresses == []


def test_a_question_is_no_answer():
    raises(BadWire, mdns.decode_answers, mdns.encode_questions([HTTP]))
    raises(BadWire, mdns.decode_answers, message([record(NAS, 1, IP)], flags=0x7FFF))


def test_records_whose_data_are_not_what_they_should_be_are_refused():
    name = dns.encode_name(NAS)
    for kind, data in ((1, IP + b"\0"), (1, IP[:3]), (33, b"\0\0\0\0\0"), (12, name + b"\0"), (12, name[:-1])):
        raises(BadWire, mdns.decode_answers, message([record(NAS, kind, data)]))
    raises(BadWire, mdns.decode_answers, message([record(NAS, 33, srv(80, NAS) + b"\0")]))
    # Cut short although the bytes behind it, those of the next record, would make the name whole
    raises(BadWire, mdns.decode_answers, message([record(NAS, 33, b"\0\0\0\0\0"), b"\0" * 11], counts=(2, 0, 0)))


def test_a_datagram_may_have_so_many_questions_records_and_bytes_and_no_more():
    one = record((b"a",), 1, IP)
    assert len(mdns.decode_answers(message([one] * 64)).addresses) == 64
    raises(BadWire, mdns.decode_answers, message([one] * 65))
    raises(BadWire, mdns.decode_answers, message([one] * 65, counts=(0, 65, 0)))
    raises(BadWire, mdns.decode_answers, message([one] * 65, counts=(0, 0, 65)))
    mdns.decode_answers(message([], [NAS] * 24))
    raises(BadWire, mdns.decode_answers, message([], [NAS] * 25))
    full = message([record(NAS, 16, bytes(1472 - len(message([record(NAS, 16, b"")]))))])
    assert len(full) == 1472
    mdns.decode_answers(full)
    raises(BadWire, mdns.decode_answers, full + b"\0")
