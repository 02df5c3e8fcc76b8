"""STUN on real UDP sockets."""

import asyncio
import socket

import pytest

from wayhome.errors import HostError
from wayhome.relay.stun import answer_to, serve_stun
from wayhomed.wire import stun
from wayhomed.wire.address import ip_from_text

TXID = bytes(range(12))
REQUEST = stun.encode_binding_request(TXID)


def asker(family: int = socket.AF_INET, address: str = "127.0.0.1") -> socket.socket:
    carrier = socket.socket(family, socket.SOCK_DGRAM)
    carrier.setblocking(False)
    carrier.bind((address, 0))
    return carrier


async def answer(carrier: socket.socket) -> tuple[bytes, tuple]:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(carrier, readable.set)  # uvloop has no sock_recvfrom
    try:
        async with asyncio.timeout(60):
            await readable.wait()
    finally:
        loop.remove_reader(carrier)
    return carrier.recvfrom(2048)


@pytest.fixture
async def serve():
    services = []

    async def start(*addresses):
        services.append(await serve_stun(addresses))
        return services[-1]

    yield start
    for service in services:
        service.close()


async def test_a_client_learns_from_where_it_is_seen(serve):
    service = await serve(("127.0.0.1", 0))
    with asker() as carrier:
        carrier.sendto(REQUEST, service.addresses[0])
        datagram, peer = await answer(carrier)
        assert stun.decode_binding_response(datagram) == (TXID, b"\x7f\0\0\1", carrier.getsockname()[1])
        assert peer == service.addresses[0]
    assert service.counters == {"answered": 1, "dropped": 0, "failed": 0}


async def test_ipv6_is_answered_too(serve):
    service = await serve(("::1", 0))
    with asker(socket.AF_INET6, "::1") as carrier:
        carrier.sendto(REQUEST, service.addresses[0])
        datagram, _ = await answer(carrier)
        assert stun.decode_binding_response(datagram) == (TXID, ip_from_text("::1"), carrier.getsockname()[1])


async def test_a_wildcard_answers_from_the_address_that_was_asked(serve):
    service = await serve(("0.0.0.0", 0))
    port = service.addresses[0][1]
    with asker() as carrier:
        for asked in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
            carrier.sendto(REQUEST, (asked, port))
            assert (await answer(carrier))[1] == (asked, port)


async def test_two_ports_both_answer(serve):
    service = await serve(("127.0.0.1", 0), ("127.0.0.1", 0))
    with asker() as carrier:
        for address in service.addresses:
            carrier.sendto(REQUEST, address)
            assert (await answer(carrier))[1] == address


async def test_what_is_no_clients_request_gets_no_answer(serve):
    service = await serve(("127.0.0.1", 0))
    with asker() as carrier:
        for junk in (b"", b"?", bytes(2000), REQUEST[:-1], REQUEST + b"\0\0\0\0", bytes(20), REQUEST * 20):
            carrier.sendto(junk, service.addresses[0])
        carrier.sendto(REQUEST, service.addresses[0])
        # answers come in order, so all the others were dropped before this one
        assert stun.decode_binding_response((await answer(carrier))[0])[0] == TXID
    assert service.counters == {"answered": 1, "dropped": 7, "failed": 0}


async def test_an_asker_that_is_gone_disturbs_nobody(serve):
    service = await serve(("127.0.0.1", 0))
    for _ in range(20):
        with asker() as gone:
            gone.sendto(REQUEST, service.addresses[0])
    with asker() as carrier:
        carrier.sendto(REQUEST, service.addresses[0])
        assert (await answer(carrier))[1] == service.addresses[0]


def test_a_mapped_ipv4_address_and_a_zone_are_understood():
    mapped = answer_to(REQUEST, ("::ffff:198.51.100.7", 41641, 0, 0))
    assert stun.decode_binding_response(mapped) == (TXID, b"\xc6\x33\x64\x07", 41641)
    zoned = answer_to(REQUEST, ("fe80::1%eth0", 1, 0, 2))
    assert stun.decode_binding_response(zoned) == (TXID, ip_from_text("fe80::1"), 1)


async def test_a_busy_port_is_told_in_words_and_nothing_stays_open(serve):
    first = await serve(("127.0.0.1", 0))
    with pytest.raises(HostError, match="--stun-listen names another address"):
        await serve(("127.0.0.1", 0), first.addresses[0])
    with pytest.raises(HostError, match="not-an-address"):
        await serve(("not-an-address", 3478))
