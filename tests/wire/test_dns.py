"""DNS messages."""

import struct

from shared.expect import raises
from wayhomed.wire import dns
from wayhomed.wire.errors import BadWire

NAS = (b"nas", b"wayhome", b"internal")
NAS_BYTES = b"\x03nas\x07wayhome\x08internal\0"
QUESTION = NAS_BYTES + b"\0\x01\0\x01"
OPT = b"\0\0\x29\x10\0\0\0\x80\0\0\0"  # 4096 bytes, DNSSEC wanted


def message(question=QUESTION, query_id=0x1234, flags=0x0100, counts=(1, 0, 0, 0), rest=b""):
    return struct.pack(">HHHHHH", query_id, flags, *counts) + question + rest


def query(**fields):
    return dns.decode_query(message(**fields))


def record(name=b"\xc0\x0c", kind=1, data=b"\x64\x40\0\x01", length=None):
    return name + struct.pack(">HHIH", kind, 1, 60, len(data) if length is None else length) + data


def reply(rest=b"", counts=(1, 0, 0, 0), **fields):
    return message(flags=fields.pop("flags", 0x8180), counts=counts, rest=rest, **fields)


def test_a_question_is_read():
    read = query()
    assert (read.id, read.opcode, read.flags) == (0x1234, dns.QUERY, dns.RD)
    assert (read.labels, read.kind, read.class_, read.question) == (NAS, dns.A, dns.IN, QUESTION)
    assert (read.udp_bytes, read.dnssec_ok, read.udp_limit()) == (0, False, 512)


def test_edns_tells_how_much_a_client_takes_and_whether_it_wants_signatures():
    read = query(counts=(1, 0, 0, 1), rest=OPT)
    assert (read.udp_bytes, read.dnssec_ok, read.udp_limit()) == (4096, True, 1232)
    read = query(counts=(1, 0, 0, 1), rest=b"\0\0\x29\x03\0\0\0\0\0\0\0")
    assert (read.udp_bytes, read.dnssec_ok, read.udp_limit()) == (768, False, 768)
    read = query(counts=(1, 0, 0, 1), rest=b"\0\0\x29\0\x64\0\0\0\0\0\0")
    assert read.udp_limit() == 512
    # a record of another kind among the additional ones says nothing
    assert query(counts=(1, 0, 0, 1), rest=record()).udp_bytes == 0


def test_only_what_a_client_decides_is_taken_from_its_flags():
    assert query(flags=0x7930).flags == dns.RD | dns.AD | dns.CD
    assert query(flags=0x7930).opcode == 15
    assert query(flags=0x0C8F).flags == 0


def test_what_is_no_question_is_refused():
    for length in range(12 + len(QUESTION)):
        raises(BadWire, dns.decode_query, message()[:length])
    for flags in (0x8000, 0x0200):  # an answer; a truncated question
        raises(BadWire, dns.decode_query, message(flags=flags))
    for counts in ((0, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0)):
        raises(BadWire, dns.decode_query, message(counts=counts, rest=QUESTION))
    raises(BadWire, dns.decode_query, message(counts=(1, 0, 0, 1)))  # no record there
    raises(BadWire, dns.decode_query, message(counts=(1, 0, 0, 2), rest=OPT))


def test_a_question_has_a_length_that_we_take():
    full = 1232 - 12 - len(QUESTION) - 11
    assert query(counts=(1, 0, 0, 1), rest=record(b"\0", 41, bytes(full))).kind == dns.A
    raises(BadWire, dns.decode_query, message(counts=(1, 0, 0, 1), rest=record(b"\0", 41, bytes(full + 1))))


def test_the_shortest_messages_are_about_the_root():
    assert dns.decode_query(message(b"\0\0\x02\0\x01")).labels == ()
    assert dns.decode_reply(reply(question=b"\0\0\x02\0\x01")).answers == []


def test_a_questions_name_has_no_pointer():
    # to the id, which is the root's zero byte here
    raises(BadWire, dns.decode_query, message(b"\x03nas\xc0\x00\0\x01\0\x01", 0))
    raises(BadWire, dns.decode_query, message(b"\xc0\x00\0\x01\0\x01", 0))


def test_a_name_may_go_on_further_ahead():
    data = b"\0\0" + NAS_BYTES + b"\x03www\xc0\x06" + b"\xc0\x18" + b"\x01x"
    assert dns.decode_name(data, 2) == (NAS, 2 + len(NAS_BYTES))
    assert dns.decode_name(data, 24) == ((b"www", b"wayhome", b"internal"), 30)
    assert dns.decode_name(data, 30) == ((b"www", b"wayhome", b"internal"), 32)
    assert dns.decode_name(b"\0", 0) == ((), 1)
    # an offset has 14 bits
    far = bytes(300) + b"\x01y\0" + b"\xc1\x2c"
    assert dns.decode_name(far, 303) == ((b"y",), 305)


def test_a_name_that_goes_round_in_circles_is_refused():
    raises(BadWire, dns.decode_name, b"\xc0\x00", 0)  # to itself
    raises(BadWire, dns.decode_name, b"\x01a\xc0\x00", 0)  # to its own beginning
    raises(BadWire, dns.decode_name, b"\0\x01a\xc0\x05\0", 1)  # forwards
    raises(BadWire, dns.decode_name, b"\xc0\x02\x01a\xc0\x00", 2)  # to each other, and so on
    raises(BadWire, dns.decode_name, b"\x01a\xc0\x00\xc0\x02", 4)


def test_a_name_that_is_cut_short_or_too_long_is_refused():
    for length in range(len(NAS_BYTES)):
        raises(BadWire, dns.decode_name, NAS_BYTES[:length], 0)
    raises(BadWire, dns.decode_name, b"\xc0", 0)
    raises(BadWire, dns.decode_name, b"\0\x01a\xc0", 1)
    for kind in (0x40, 0x80):
        raises(BadWire, dns.decode_name, bytes((kind,)) + b"a" * kind + b"\0", 0)
    assert len(dns.decode_name((b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0", 0)[0]) == 4  # 255 bytes
    raises(BadWire, dns.decode_name, (b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0", 0)


def test_names_are_text_and_back():
    for text in ("nas.wayhome.internal", "nas.wayhome.internal."):
        assert dns.labels_from_text(text) == NAS
    assert dns.labels_from_text(".") == ()
    assert dns.name_text(()) == "."
    assert dns.name_text((b"NAS", b"_x-1")) == "nas._x-1"
    assert dns.name_text((b"a.b", b"\x00\x7f\xff\\ ")) == "a\\046b.\\000\\127\\255\\092\\032"
    assert dns.encode_name(NAS) == NAS_BYTES
    for text in ("", "a..b", "..", "a" * 64, ".a", ".".join(["a" * 63] * 3 + ["a" * 62])):
        raises(BadWire, dns.labels_from_text, text)
    assert len(dns.labels_from_text("a" * 63)) == 1
    assert len(dns.encode_name(dns.labels_from_text(".".join(["a" * 63] * 3 + ["a" * 61])))) == 255


def test_an_upstream_is_asked_what_the_client_asks():
    assert dns.encode_query(0xABCD, query(flags=0x0110), QUESTION) == message(query_id=0xABCD, flags=0x0110)
    with_edns = query(counts=(1, 0, 0, 1), rest=OPT)
    asked = dns.encode_query(7, with_edns, QUESTION)
    assert asked == message(query_id=7, counts=(1, 0, 0, 1), rest=b"\0\0\x29\x04\xd0\0\0\x80\0\0\0")
    with_edns.dnssec_ok = False
    assert dns.encode_query(7, with_edns, QUESTION)[-6:] == bytes(6)


def test_letters_are_mixed_by_random_bits_and_nothing_else_is():
    assert dns.mixed_case(QUESTION, b"\0" * 4) == QUESTION[:-4].upper() + QUESTION[-4:]
    assert dns.mixed_case(QUESTION, b"\xff" * 4) == QUESTION
    assert dns.mixed_case(b"\x06aB1-zZ\0", b"\x05") + b"" == b"\x06aB1-zZ\0"  # what is all question's end stays
    question = b"\x08aB1-zZ@[\0\0\x41\0\x61"
    assert dns.mixed_case(question, b"\x05") == b"\x08aB1-zZ@[\0\0\x41\0\x61"
    assert dns.mixed_case(question, b"\x0a") == b"\x08Ab1-Zz@[\0\0\x41\0\x61"
    assert dns.mixed_letters(question) == 4
    assert dns.mixed_letters(QUESTION) == 18


def test_an_answer_is_known_by_id_question_and_case():
    mixed = dns.mixed_case(QUESTION, b"\x15\x55\x55")
    asked = dns.encode_query(0x1234, query(), mixed)
    assert dns.answers(reply(question=mixed), asked, mixed) == dns.OURS
    assert dns.answers(reply(question=mixed, rest=b"more"), asked, mixed) == dns.OURS
    assert dns.answers(reply(), asked, mixed) == dns.OTHER_CASE
    for other in (
        reply(question=mixed, query_id=0x1235),
        message(question=mixed),  # a question
        reply(question=mixed, flags=0xA180),  # another opcode
        reply(question=mixed, counts=(2, 0, 0, 0)),
        reply(question=mixed, counts=(0, 0, 0, 0)),
        reply(question=mixed)[:-1],
        reply(question=mixed[:-1] + b"\x03"),  # another class
        reply(question=mixed[:-3] + b"\x1c\0\x01"),  # another type
        reply(question=b"\x03nas\x07wayhome\x08INTERNAX\0\0\x01\0\x01"),
        b"",
        b"\x12\x34",
    ):
        assert dns.answers(other, asked, mixed) == dns.NOT_OURS


def test_types_that_look_like_letters_are_not_mixed_up():
    upper, lower = NAS_BYTES + b"\0\x41\0\x01", NAS_BYTES + b"\0\x61\0\x01"
    asked = dns.encode_query(0x1234, query(question=upper), upper)
    assert dns.answers(reply(question=lower), asked, upper) == dns.NOT_OURS


def test_an_answer_tells_its_outcome():
    assert dns.is_truncated(reply(flags=0x8380)) and not dns.is_truncated(reply(flags=0x8180))
    assert dns.rcode(reply(flags=0x8183)) == dns.NXDOMAIN
    assert dns.rcode(reply(flags=0x81F0)) == dns.NOERROR


def test_each_record_of_an_answer_is_read():
    soa = record(b"\xc0\x10", 6, b"x")
    read = dns.decode_reply(reply(record() + record() + soa + OPT, (1, 2, 1, 1), flags=0x8583))
    assert (read.id, read.flags, read.rcode) == (0x1234, 0x8583, dns.NXDOMAIN)
    assert [(one.labels, one.kind, one.class_, one.ttl_s, one.data) for one in read.answers] == [
        (NAS, dns.A, dns.IN, 60, b"\x64\x40\0\x01")
    ] * 2
    assert [(one.labels, one.kind, one.data) for one in read.authority] == [(NAS[1:], dns.SOA, b"x")]
    assert [one.kind for one in read.additional] == [dns.OPT]


def test_an_answer_that_is_not_whole_is_refused():
    whole = reply(record() + record(b"\x01a\0", 16, b""), (1, 1, 0, 1))
    dns.decode_reply(whole)
    for length in range(len(whole)):
        raises(BadWire, dns.decode_reply, whole[:length])
    raises(BadWire, dns.decode_reply, reply(record(length=5), (1, 1, 0, 0)))
    raises(BadWire, dns.decode_reply, message())
    raises(BadWire, dns.decode_reply, reply(counts=(0, 0, 0, 0)))
    raises(BadWire, dns.decode_reply, reply(QUESTION, counts=(2, 0, 0, 0)))
    raises(BadWire, dns.decode_reply, reply(record(), (1, 65535, 65535, 65535)))


def test_a_client_gets_its_own_id_and_its_own_letters():
    asked = query(query_id=0x4321)
    mixed = dns.mixed_case(QUESTION, bytes(4))
    told = reply(record(), (1, 1, 0, 0), question=mixed, query_id=9)
    assert dns.for_client(told, asked) == reply(record(), (1, 1, 0, 0), query_id=0x4321)


def test_our_own_answers_are_short_and_whole():
    asked = query(flags=0x0110, counts=(1, 0, 0, 1), rest=OPT)
    records = [dns.Record(NAS, dns.A, 5, b"\x64\x40\0\x01"), dns.Record((b"x",) + NAS[1:], dns.A, 5, b"\x64\x40\0\x02")]
    made = dns.encode_answer(asked, dns.NOERROR, records, [dns.soa(NAS[1:], 10)], dns.AA)
    assert made.count(b"wayhome") == 3  # the question, and twice in the SOA's data
    assert made[12 + len(QUESTION) :][:2] == b"\xc0\x0c"
    read = dns.decode_reply(made)
    assert (read.id, read.flags) == (0x1234, dns.QR | dns.AA | dns.RD | dns.CD | dns.RA)
    assert [(one.labels, one.ttl_s, one.data) for one in read.answers] == [
        (NAS, 5, b"\x64\x40\0\x01"),
        ((b"x",) + NAS[1:], 5, b"\x64\x40\0\x02"),
    ]
    assert (read.authority[0].labels, read.authority[0].ttl_s) == (NAS[1:], 10)
    mname, at = dns.decode_name(read.authority[0].data, 0)
    rname, at = dns.decode_name(read.authority[0].data, at)
    assert mname == NAS[1:] and rname == (b"nobody",) + NAS[1:]
    assert struct.unpack(">IIIII", read.authority[0].data[at:])[4] == 10
    assert (read.additional[0].kind, read.additional[0].class_, read.additional[0].ttl_s) == (dns.OPT, 1232, 0)


def test_names_that_share_nothing_with_the_question_are_written_out():
    other = (b"printer", b"home", b"arpa")
    made = dns.encode_answer(
        query(), dns.NOERROR, [dns.Record(other, dns.PTR, 5, b"\0"), dns.Record((), dns.NS, 5, b"")]
    )
    read = dns.decode_reply(made)
    assert [one.labels for one in read.answers] == [other, ()]
    assert read.additional == []
    # only whole labels from the end on are shared
    longer = (b"a",) + NAS
    assert dns.decode_reply(dns.encode_answer(query(), 0, [dns.Record(longer, 1, 5, b"")])).answers[0].labels == longer
    shorter = NAS[2:]
    assert (
        dns.decode_reply(dns.encode_answer(query(), 0, [dns.Record(shorter, 1, 5, b"")])).answers[0].labels == shorter
    )
    unlike = (b"nas", b"elsewhere", b"internal")
    assert dns.decode_reply(dns.encode_answer(query(), 0, [dns.Record(unlike, 1, 5, b"")])).answers[0].labels == unlike


def test_refusals_and_truncation_are_said_in_the_header():
    asked = query(flags=0x2900)
    assert dns.encode_answer(asked, dns.NOTIMP) == reply(flags=0xA984)
    read = dns.decode_reply(dns.truncated(query()))
    assert read.flags & dns.TC and not read.answers
