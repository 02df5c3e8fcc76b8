"""Questions carried to upstreams: the answers believed, the waiting, the loops."""

import struct

from wayhomed.core import dns_forward
from wayhomed.core.dns_forward import Forwarder
from wayhomed.wire import dns
from wayhomed.wire.address import ip_from_text as ip

ONE, TWO = (ip("192.0.2.1"), 53), (ip("192.0.2.2"), 53)
CLIENT = (ip("192.168.1.50"), 40000)
NAME = "printer.example.org"


class Dice:
    """Random bytes of a test's own, the same in every run and never twice."""

    def __init__(self):
        self.thrown = 1

    def __call__(self, count):
        made = bytearray()
        for _ in range(count):
            self.thrown = self.thrown * 1_103_515_245 + 12_345 & 0x7FFFFFFF
            made.append(self.thrown >> 16 & 255)
        return bytes(made)


def question(name=NAME, kind=dns.A):
    return dns.encode_name(dns.labels_from_text(name)) + struct.pack(">HH", kind, dns.IN)


def query(name=NAME, query_id=1, kind=dns.A, letters=None):
    return dns.decode_query(struct.pack(">HHHHHH", query_id, 0x100, 1, 0, 0, 0) + (letters or question(name, kind)))


def answer(message, code=dns.NOERROR, flags=0, letters=None, query_id=None):
    asked = dns.decode_query(message)
    asked.question = letters or asked.question
    asked.id = asked.id if query_id is None else query_id
    return dns.encode_answer(asked, code, [dns.Record(asked.labels, dns.A, 60, b"\x01\x02\x03\x04")], (), flags)


def begun(upstreams=(ONE,), now_ms=0, **fields):
    forwarder = Forwarder(Dice())
    pending, is_new = forwarder.ask(query(**fields), CLIENT, CLIENT, list(upstreams), now_ms)
    assert is_new
    return forwarder, pending


def attempt(forwarder, pending, now_ms=0):
    made = forwarder.next_attempt(pending, now_ms)
    assert made is not None
    return made


def test_an_answer_of_the_upstream_is_the_answer():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    assert (tried.upstream, tried.by_tcp) == (ONE, False)
    reply = answer(tried.message)
    forwarder.received(pending, tried, reply, 10)
    assert pending.is_done and pending.answer == reply
    assert [entry[0] for entry in pending.clients] == [CLIENT]
    forwarder.finished(pending)
    assert forwarder.pending_count() == 0 and forwarder.counts["unanswered"] == 0


def test_each_attempt_has_an_id_and_letters_of_its_own():
    forwarder, pending = begun()
    first, second = attempt(forwarder, pending), attempt(forwarder, pending, 1000)
    assert first.message[:2] != second.message[:2] and first.question != second.question
    assert first.question != question() and dns.decode_query(first.message).question == first.question


def test_forged_answers_are_not_believed():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    truth = answer(tried.message)
    forged = [
        b"",
        b"x" * 500,
        truth[:-1],  # not whole
        answer(tried.message, query_id=struct.unpack(">H", tried.message[:2])[0] ^ 1),
        answer(tried.message, letters=question("another.example.org")),
        answer(tried.message, letters=question(kind=dns.AAAA)),
        tried.message,  # a question
    ]
    for reply in forged:
        forwarder.received(pending, tried, reply, 1)
        assert not pending.is_done and tried.is_open
    assert forwarder.counts["wrong"] == len(forged)
    forwarder.received(pending, tried, truth, 2)
    assert pending.answer == truth


def test_letters_of_another_case_are_asked_again_by_tcp():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    forwarder.received(pending, tried, answer(tried.message, letters=question()), 1)
    assert not pending.is_done and pending.next_timer() >= 1
    again = attempt(forwarder, pending, 1)
    assert (again.upstream, again.by_tcp) == (ONE, True)
    forwarder.received(pending, tried, answer(tried.message), 2)  # too late: nobody listens there any more
    assert not pending.is_done
    reply = answer(again.message, letters=question())  # an honest one without regard to case
    forwarder.received(pending, again, reply, 2)
    assert pending.answer == reply


def test_many_wrong_answers_are_reported_and_asked_again_by_tcp():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    for guess in range(8):
        assert tried.is_open
        forwarder.received(pending, tried, answer(tried.message, query_id=guess), guess)
    assert not tried.is_open and forwarder.forging(10) == [ONE]
    assert attempt(forwarder, pending, 10).by_tcp
    assert forwarder.forging(10_000_000) == []


def test_a_truncated_answer_is_asked_again_by_tcp_once():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    forwarder.received(pending, tried, answer(tried.message, flags=dns.TC), 1)
    by_tcp = attempt(forwarder, pending, 1)
    assert by_tcp.by_tcp and forwarder.next_attempt(pending, 2) is None
    reply = answer(by_tcp.message)
    forwarder.received(pending, by_tcp, reply, 3)
    assert pending.answer == reply


def test_nonsense_by_tcp_ends_that_attempt():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    forwarder.received(pending, tried, answer(tried.message, flags=dns.TC), 1)
    by_tcp = attempt(forwarder, pending, 1)
    forwarder.received(pending, by_tcp, b"nonsense", 2)
    assert pending.is_done and pending.answer is None


def test_the_next_upstream_is_asked_beside_one_that_is_silent():
    forwarder, pending = begun([ONE, TWO])
    first = attempt(forwarder, pending)
    assert forwarder.next_attempt(pending, 999) is None and pending.next_timer() == 1000
    second = attempt(forwarder, pending, 1000)
    assert second.upstream == TWO
    forwarder.received(pending, first, answer(first.message), 1100)  # the first may still answer
    assert pending.is_done and not second.is_open


def test_an_upstream_that_refuses_or_fails_is_followed_at_once_by_the_next():
    for code in (dns.SERVFAIL, dns.REFUSED, None):
        forwarder, pending = begun([ONE, TWO])
        first = attempt(forwarder, pending)
        if code is None:
            forwarder.failed(pending, first, 5)
        else:
            forwarder.received(pending, first, answer(first.message, code), 5)
        assert not pending.is_done and pending.next_timer() == 5
        second = attempt(forwarder, pending, 5)
        assert second.upstream == TWO
        reply = answer(second.message)
        forwarder.received(pending, second, reply, 6)
        assert pending.answer == reply


def test_the_last_word_is_better_than_none():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    reply = answer(tried.message, dns.REFUSED)
    forwarder.received(pending, tried, reply, 5)
    assert pending.is_done and pending.answer == reply
    forwarder, pending = begun()
    forwarder.failed(pending, attempt(forwarder, pending), 5)
    assert pending.is_done and pending.answer is None
    forwarder.finished(pending)
    assert forwarder.counts["unanswered"] == 1


def test_that_there_is_no_such_name_is_an_answer():
    forwarder, pending = begun([ONE, TWO])
    tried = attempt(forwarder, pending)
    reply = answer(tried.message, dns.NXDOMAIN)
    forwarder.received(pending, tried, reply, 5)
    assert pending.answer == reply


def test_silence_ends_after_a_few_attempts():
    forwarder, pending = begun([ONE, TWO])
    now_ms, made = 0, []
    while not pending.is_done:
        found = forwarder.next_attempt(pending, now_ms)
        if found is not None:
            made.append(found.upstream)
        assert pending.is_done or pending.next_timer() > now_ms
        now_ms = pending.next_timer()
    assert made == [ONE, TWO, ONE, TWO, ONE] and now_ms <= 5000
    assert pending.answer is None and not [one for one in pending.attempts if one.is_open]


def test_equal_questions_are_asked_once():
    forwarder, pending = begun()
    tried = attempt(forwarder, pending)
    other = (ip("192.168.1.51"), 5000)
    joined, is_new = forwarder.ask(query(query_id=9), other, other, [ONE], 1)
    assert joined is pending and not is_new
    again, is_new = forwarder.ask(query(), CLIENT, CLIENT, [ONE], 2)  # the first client, impatient
    assert again is pending and not is_new
    assert [entry[0] for entry in pending.clients] == [CLIENT, other]
    forwarder.received(pending, tried, answer(tried.message), 3)
    late, is_new = forwarder.ask(query(query_id=10), other, other, [ONE], 3)  # not yet tidied up
    assert is_new and late is not pending
    forwarder.finished(pending)
    assert forwarder.pending_count() == 1
    forwarder.finished(late)
    assert forwarder.pending_count() == 0


def test_what_is_pending_is_bounded_for_all_and_for_each():
    forwarder = Forwarder(Dice())
    taken = refused = 0
    for number in range(40):
        pending, _ = forwarder.ask(query(f"n{number}.example.org"), CLIENT, CLIENT, [ONE], 0)
        taken, refused = taken + (pending is not None), refused + (pending is None)
    assert (taken, refused) == (dns_forward.MAX_PENDING_OF_CLIENT, 8)
    for number in range(200):
        client = (ip(f"192.168.2.{number}"), 1)
        forwarder.ask(query(f"m{number}.example.org"), client, client, [ONE], 0)
    assert forwarder.pending_count() == dns_forward.MAX_PENDING
    joined = 0
    for number in range(100):
        client = (ip(f"192.168.3.{number}"), 1)
        joined += forwarder.ask(query("n0.example.org"), client, client, [ONE], 0)[0] is not None
    assert joined == dns_forward.MAX_CLIENTS_OF_PENDING - 1
    assert forwarder.counts["busy"] > 0


def test_places_are_free_again_once_questions_are_done():
    forwarder = Forwarder(Dice())
    for _round in range(3):
        made = [forwarder.ask(query(f"n{n}.example.org"), CLIENT, CLIENT, [ONE], 0)[0] for n in range(32)]
        for pending in made:
            forwarder.finished(pending)


def test_our_own_question_that_comes_back_is_known_by_its_letters():
    forwarder, pending = begun([ONE, TWO])
    tried = attempt(forwarder, pending)
    stranger = (ip("192.168.1.77"), 999)
    back, _ = forwarder.ask(query(letters=tried.question), stranger, stranger, [ONE, TWO], 5)
    assert back is None and forwarder.looping(5) == [ONE] and forwarder.counts["looped"] == 1
    assert attempt(forwarder, pending, 5).upstream == TWO
    other, _ = forwarder.ask(query("else.example.org"), CLIENT, CLIENT, [ONE], 6)
    assert other is None  # nobody is left to be asked
    assert forwarder.looping(70_000) == []
    other, is_new = forwarder.ask(query("else.example.org"), CLIENT, CLIENT, [ONE], 70_000)
    assert is_new


def test_our_own_question_that_comes_back_from_the_upstream_is_known_by_that():
    forwarder, pending = begun()
    attempt(forwarder, pending)
    upstream = (ONE[0], 33333)
    assert forwarder.ask(query(), upstream, upstream, [ONE], 5) == (None, False)
    assert forwarder.looping(5) == [ONE]
    assert forwarder.next_attempt(pending, 5) is None and pending.is_done and pending.answer is None


def test_who_is_upstream_and_client_at_once_may_ask_for_other_things():
    forwarder, pending = begun()
    attempt(forwarder, pending)
    upstream = (ONE[0], 33333)
    assert forwarder.ask(query("else.example.org"), upstream, upstream, [TWO], 5)[1]
    assert forwarder.ask(query(kind=dns.AAAA), upstream, upstream, [TWO], 5)[1]
    # a program of this machine, whose own resolver is our upstream, asks the same at the same time
    own = (ip("192.168.1.2"), 5353)
    forwarder, pending = begun([own])
    forwarder.own_ips = [own[0]]
    attempt(forwarder, pending)
    program = (own[0], 40001)
    assert forwarder.ask(query(), program, program, [own], 5) == (pending, False)


def test_plain_letters_prove_no_loop():
    forwarder, pending = begun(name="a-1.b")
    tried = attempt(forwarder, pending)
    other = (ip("192.168.1.51"), 5000)
    joined, is_new = forwarder.ask(query(letters=tried.question), other, other, [ONE], 1)  # too few letters
    assert joined is pending and not is_new and not forwarder.looping(1)


def test_a_loop_that_changes_the_letters_is_no_storm():
    forwarder, pending = begun()
    sent = 0
    for now_ms in range(0, 5000, 100):
        if forwarder.next_attempt(pending, now_ms) is not None:
            sent += 1
            far = (ip("192.168.9.9"), 53)
            _joined, is_new = forwarder.ask(query(), far, far, [ONE], now_ms)
            assert not is_new
    assert sent == dns_forward.MAX_ATTEMPTS


def test_our_own_listeners_are_never_asked():
    forwarder = Forwarder(Dice())
    forwarder.own = [ONE]
    assert forwarder.ask(query(), CLIENT, CLIENT, [ONE], 0) == (None, False)
    pending, _ = forwarder.ask(query(), CLIENT, CLIENT, [ONE, TWO], 0)
    assert attempt(forwarder, pending).upstream == TWO
