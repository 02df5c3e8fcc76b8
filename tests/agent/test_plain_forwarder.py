"""The forwarder's sockets: questions by UDP and TCP, upstreams that lie, cut short, stay silent or loop."""

import asyncio
import struct

from shared.expect import raises
from wayhomed.agent.dns_listener import TcpListener, UdpListener
from wayhomed.agent.plain_forwarder import forward
from wayhomed.agent.upstreams import read_message, write_message
from wayhomed.port import net, packets, random_bytes
from wayhomed.port.tasks import run_all, within
from wayhomed.wire import dns

LIMIT_MS = 60_000  # only ends a test that has failed


def place():
    """Return an address and port of the loopback network that most likely nobody else has."""
    chosen = random_bytes(3)
    return b"\x7f" + bytes((chosen[0], chosen[1], chosen[2] | 1)), 5300 + chosen[0]


def message(name="printer.example.org", query_id=7, edns=False):
    question = dns.encode_name(dns.labels_from_text(name)) + struct.pack(">HH", dns.A, dns.IN)
    rest = b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if edns else b""
    return struct.pack(">HHHHHH", query_id, 0x100, 1, 0, 0, 1 if edns else 0) + question + rest


def with_upstream(respond, test, loops=False, copies=1):
    """Run test(place of the forwarder, questions that came) with an upstream that answers respond(query, by_tcp):
    a message, None for silence. copies: how often by UDP.
    """

    async def main():
        own, above = place(), place()
        seen: list = []

        def asked(listener, query, source):
            by_tcp = isinstance(listener, TcpListener)
            seen.append((query, by_tcp))
            reply = respond(query, by_tcp)
            if reply is not None and by_tcp:
                listener.send(source, query, reply)
            elif reply is not None:
                for _ in range(copies):
                    listener._socket.sendto(reply, packets.inet_address(source[0], source[1]))

        upstream = [kind(above[0], above[1], lambda ip: True, asked) for kind in (UdpListener, TcpListener)]

        async def client():
            await asyncio.sleep(0)
            await test(own, seen)

        try:
            running = [forward(own, [own] if loops else [above]), client()]
            await run_all(*([one.run() for one in upstream] + running))
        finally:
            for one in upstream:
                one.close()

    asyncio.run(within(LIMIT_MS, main(), "the test"))


async def ask_udp(where, query):
    asking = packets.udp_socket()
    try:
        asking.connect(packets.inet_address(where[0], where[1]))
        asking.send(query)
        await packets.wait_readable(asking)
        return asking.recv(65_535)
    finally:
        asking.close()


async def ask_tcp(where, *queries):
    stream = await net.connect_tcp(where[0], where[1], LIMIT_MS, 0)
    held, replies = bytearray(), []
    try:
        for query in queries:
            await write_message(stream, query)
            replies.append(await read_message(stream, 65_535, held))
    finally:
        stream.close()
    return replies


async def is_hung_up(stream):
    try:
        return not await stream.read()
    except OSError:
        return True


def address_answer(query, count=1, flags=0):
    return dns.encode_answer(
        query,
        dns.NOERROR,
        [dns.Record(query.labels, dns.A, 60, bytes((10, 0, 0, n % 256))) for n in range(count)],
        (),
        flags,
    )


def test_a_question_comes_back_answered():
    async def test(where, seen):
        for _ in range(3):
            read = dns.decode_reply(await ask_udp(where, message(query_id=0x4321)))
            assert read.id == 0x4321 and read.answers[0].data == bytes((10, 0, 0, 0))
            assert dns.name_text(read.answers[0].labels) == "printer.example.org"
        ids = [query.id for query, _by_tcp in seen]
        assert len(ids) == 3 and not (ids[0] == ids[1] == ids[2])  # the upstream is asked with ids of our own
        questions = [query.question for query, _by_tcp in seen]
        assert not (questions[0] == questions[1] == questions[2])  # and letters

    with_upstream(lambda query, by_tcp: address_answer(query), test)


def test_questions_by_tcp_are_answered_one_after_the_other():
    async def test(where, seen):
        replies = await ask_tcp(where, message(), message("other.example.org", 8))
        assert [dns.decode_reply(reply).id for reply in replies] == [7, 8]

    with_upstream(lambda query, by_tcp: address_answer(query), test)


def test_a_long_answer_is_fetched_by_tcp_and_cut_for_who_asked_by_udp():
    def respond(query, by_tcp):
        return address_answer(query, 100) if by_tcp else address_answer(query, 0, dns.TC)

    async def test(where, seen):
        reply = await ask_udp(where, message(edns=True))
        assert dns.is_truncated(reply) and len(reply) < 100
        assert [by_tcp for _query, by_tcp in seen] == [False, True]
        replies = await ask_tcp(where, message(edns=True))
        assert len(dns.decode_reply(replies[0]).answers) == 100

    with_upstream(respond, test)


def test_forged_answers_are_passed_over():
    def respond(query, by_tcp):
        if by_tcp:
            return address_answer(query)
        query.id ^= 1  # guessed, and wrongly
        return address_answer(query)

    async def test(where, seen):
        read = dns.decode_reply(await ask_udp(where, message()))
        assert read.answers and [by_tcp for _query, by_tcp in seen] == [False, True]

    with_upstream(respond, test, copies=8)


def test_an_upstream_that_is_ourselves_is_never_asked():
    async def test(where, seen):
        read = dns.decode_reply(await ask_udp(where, message()))
        assert read.rcode == dns.SERVFAIL

    with_upstream(lambda query, by_tcp: None, test, loops=True)


def test_nobody_at_the_upstreams_port_is_told_at_once():
    async def main():
        where, nobody = place(), place()

        async def client():
            await asyncio.sleep(0)
            assert dns.rcode(await ask_udp(where, message())) == dns.SERVFAIL

        await run_all(forward(where, [nobody]), client())

    asyncio.run(within(LIMIT_MS, main(), "the test"))


def test_nonsense_gets_no_word():
    async def test(where, seen):
        asking = packets.udp_socket()
        asking.connect(packets.inet_address(where[0], where[1]))
        for nonsense in (b"", b"x", b"\xff" * 2000, message()[:-1], b"\0" * 12):
            asking.send(nonsense)
        stream = await net.connect_tcp(where[0], where[1], LIMIT_MS, 0)
        await stream.write(b"\xff\xff" + b"x" * 100)
        assert await is_hung_up(stream)
        stream.close()
        read = dns.decode_reply(await ask_udp(where, message()))
        assert read.answers and len(seen) == 1
        assert raises(OSError, asking.recv, 100).errno == packets.EAGAIN
        asking.close()

    with_upstream(lambda query, by_tcp: address_answer(query), test)
