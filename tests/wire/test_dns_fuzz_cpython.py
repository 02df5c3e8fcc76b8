"""DNS messages against input nobody planned, and dnspython's second opinion."""

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from wayhomed.wire import dns as ours
from wayhomed.wire.errors import BadWire

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(
    lambda one: sum(map(len, one)) + len(one) < 255
)
kinds = st.integers(1, 65535)


@given(st.binary(max_size=1300), st.integers(0, 1300))
def test_any_bytes_are_a_message_or_bad_wire(data, at):
    for read in (ours.decode_query, ours.decode_reply, lambda data: ours.decode_name(data, at)):
        try:
            read(data)
        except BadWire:
            pass
    ours.answers(data, b"\0" * 20, b"\0" * 8)


@given(st.data(), labels, kinds)
def test_changed_messages_are_messages_or_bad_wire(data, name, kind):
    query = asked(name, kind)
    made = bytearray(
        ours.encode_answer(query, 0, [ours.Record(tuple(name), 1, 5, b"abcd")], [ours.soa(tuple(name[1:]), 9)])
    )
    for _ in range(data.draw(st.integers(1, 6))):
        made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
    for read in (ours.decode_query, ours.decode_reply):
        try:
            read(bytes(made))
        except BadWire:
            pass


def asked(name, kind, edns=False):
    message = dns.message.make_query(dns.name.Name([*name, b""]), kind)
    if edns:
        message.use_edns(0, payload=1400)
    return ours.decode_query(message.to_wire())


@given(labels, kinds, st.booleans())
def test_dnspythons_questions_are_read_and_ours_by_it(name, kind, edns):
    query = asked(name, kind, edns)
    assert (query.labels, query.kind, query.udp_bytes) == (tuple(name), kind, 1400 if edns else 0)
    read = dns.message.from_wire(ours.encode_query(77, query, ours.mixed_case(query.question, b"\xa5" * 32)))
    assert read.id == 77 and read.question[0].name == dns.name.Name([*name, b""])
    assert read.question[0].rdtype == kind and read.edns == (0 if edns else -1)


@given(labels, labels, st.booleans())
def test_dnspython_reads_our_answers(name, other, edns):
    query = asked(name, 1, edns)
    made = ours.encode_answer(
        query,
        ours.NXDOMAIN,
        [
            ours.Record(tuple(name), 1, 5, b"\x64\x40\0\x01"),
            ours.Record(tuple(other), 12, 5, ours.encode_name(query.labels)),
        ],
        [ours.soa(tuple(name[1:]), 10)] if sum(map(len, name)) < 200 else [],
        ours.AA,
    )
    read = dns.message.from_wire(made)
    assert read.rcode() == 3 and read.flags & dns.flags.AA and read.flags & dns.flags.RA
    assert read.find_rrset(read.answer, dns.name.Name([*name, b""]), 1, 1)[0].address == "100.64.0.1"
    assert read.find_rrset(read.answer, dns.name.Name([*other, b""]), 1, 12)[0].target == dns.name.Name([*name, b""])
    if read.authority:
        assert read.authority[0][0].minimum == 10


@given(labels, st.lists(labels, max_size=8))
def test_dnspythons_compressed_answers_are_read(name, others):
    question = dns.message.make_query(dns.name.Name([*name, b""]), "A")
    response = dns.message.make_response(question)
    for other in others:
        target = dns.name.Name([*other, b""])
        response.answer.append(dns.rrset.from_text(target, 60, "IN", "A", "192.0.2.1"))
    read = ours.decode_reply(response.to_wire())
    told = [dns.name.Name([*one.labels, b""]) for one in read.answers]
    assert told == [one.name for one in response.answer for _ in one]
    assert {ours.name_text(one.labels) for one in read.answers} == {ours.name_text(tuple(other)) for other in others}


@given(labels, labels)
def test_two_names_are_the_same_if_their_texts_are(one, other):
    same = dns.name.Name([*one, b""]) == dns.name.Name([*other, b""])
    assert (ours.name_text(tuple(one)) == ours.name_text(tuple(other))) == same
