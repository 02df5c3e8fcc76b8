"""Names for those who use this machine as an exit node."""

import asyncio
import struct

from wayhomed.agent import peer_api
from wayhomed.agent.dns_listener import UdpListener
from wayhomed.agent.peer_api import PeerApi
from wayhomed.agent.resolver import Resolver
from wayhomed.core import ranges
from wayhomed.core.ceiling import Ceiling
from wayhomed.core.dataplane import Plan, Preferences
from wayhomed.core.netmap import Netmap
from wayhomed.port import net, random_bytes
from wayhomed.port.tasks import run_all, sleep_ms, within
from wayhomed.wire import dns

LIMIT_MS = 60_000  # only ends a test that has failed


class FakeBoard:
    """What the part knows of the daemon."""

    def __init__(self):
        self.netmap = Netmap()
        self.configuration = self.session = self
        self.ceiling = Ceiling()
        self.applies = self.told = 0

    def apply_again(self):
        self.applies += 1

    def settings_changed(self):
        pass

    def tell(self):
        self.told += 1


def with_api(test, users=None):
    """Run test(ip) with a PeerApi at an address of the loopback network, which asks an upstream that knows all."""

    async def main():
        chosen = random_bytes(6)
        ip, above = b"\x7f" + chosen[:2] + b"\x01", b"\x7f" + chosen[3:5] + b"\x02"
        board = FakeBoard()
        resolver = Resolver(board)
        resolver.machines_upstreams = lambda: [(above, 5300)]

        def asked(listener, query, source):
            record = dns.Record(query.labels, dns.A, 60, b"\x0a\0\0\x01")
            listener.send(source, query, dns.encode_answer(query, dns.NOERROR, [record]))

        upstream = UdpListener(above, 5300, lambda _ip: True, asked)
        api = PeerApi(board, resolver)
        plan = Plan()
        plan.addresses = [ip]
        plan.exit_users = ranges.Ranges([ranges.of_prefix((b"\x7f\0\0\0", 8))] if users is None else users)
        api.serve_exit_users(True)
        api.applied(plan, None)

        async def client():
            while not board.told:
                await sleep_ms(1)
            await test(api, ip)

        try:
            await run_all(api.run(), upstream.run(), client())
        finally:
            resolver.upstreams.close()
            upstream.close()

    asyncio.run(within(LIMIT_MS, main(), "the test"))


async def request(ip, data):
    stream = await net.connect_tcp(ip, peer_api.PORT, LIMIT_MS, 0)
    try:
        await stream.write(data)
        received = b""
        while True:
            more = await stream.read()
            if not more:
                return received
            received += more
    finally:
        stream.close()


def post(query_id=7):
    question = dns.encode_name((b"example", b"org")) + b"\0\x01\0\x01"
    message = struct.pack(">HHHHHH", query_id, 0x100, 1, 0, 0, 0) + question
    return b"POST /dns-query HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(message) + message


def test_peers_that_use_the_exit_node_get_answers():
    async def test(api, ip):
        head, _, body = (await request(ip, post())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n")
        read = dns.decode_reply(body)
        assert read.id == 7 and read.answers[0].data == b"\x0a\0\0\x01"
        services = api.hostinfo()["Services"]
        assert {"Proto": "peerapi4", "Port": peer_api.PORT} in services
        assert {"Proto": "peerapi-dns-proxy", "Port": 1} in services

    with_api(test)


def test_several_that_ask_the_same_at_once_get_an_answer_each():
    async def test(api, ip):
        ids = []

        async def one(query_id):
            ids.append(dns.decode_reply((await request(ip, post(query_id))).partition(b"\r\n\r\n")[2]).id)

        for task in [asyncio.create_task(one(query_id)) for query_id in (1, 2, 3, 4)]:
            await task
        assert sorted(ids) == [1, 2, 3, 4]

    with_api(test)


def test_others_and_other_requests_are_turned_away():
    async def test(api, ip):
        assert (await request(ip, b"GET /v0/env HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        for bad in (b"nonsense\r\n\r\n", b"GET /dns-query?dns=YQ HTTP/1.1\r\n\r\n", b"x" * 9000):
            assert (await request(ip, bad)).startswith(b"HTTP/1.1 400 ")

        api._board.netmap.dns = {"ExitNodeFilteredSet": [5, "", ".Example.ORG"]}
        body = (await request(ip, post())).partition(b"\r\n\r\n")[2]
        assert dns.rcode(body) == dns.NXDOMAIN

    with_api(test)

    async def forbidden(api, ip):
        assert (await request(ip, post())).startswith(b"HTTP/1.1 403 ")

    with_api(forbidden, [])


def test_nothing_is_offered_before_it_is_asked_for():
    board = FakeBoard()
    api, wishes = PeerApi(board, Resolver(board)), Preferences()
    api.wish(wishes)
    assert wishes.peer_api_port == 0 and api.hostinfo() == {} and api.status() == {} and not api.troubles()
    api.serve_exit_users(True)
    api.wish(wishes)
    assert wishes.peer_api_port == peer_api.PORT and board.applies == 1
    api.serve_exit_users(True)
    assert board.applies == 1
