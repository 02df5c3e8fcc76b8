"""The relay on real sockets."""

import asyncio
import gc
import random
import socket
import ssl

import aiohttp
import pytest

from relay.derp_client import DerpClient
from relay.people import ANNE, BERT, CARL, NONCE, SERVER_PUBLIC, WIREGUARD, disco, number_of, wireguard
from wayhome.relay import certificate
from wayhome.relay.service import DerpConnection
from wayhome.relay.settings import RelaySettings
from wayhomed.wire import derp

UPGRADE = derp.encode_upgrade_request("relay.test")


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --- the way in ---


async def test_two_clients_reach_each_other(serve):
    place = await serve()
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    anne.send_packet(BERT, wireguard(1))
    assert await bert.packet() == (ANNE.public, wireguard(1))
    bert.send_packet(ANNE, disco(2))
    assert await anne.packet() == (BERT.public, disco(2))
    assert anne.server_key == SERVER_PUBLIC
    assert anne.info == derp.ServerInfo(2, 25_000_000, 2_500_000)


async def test_two_clients_reach_each_other_over_tls(serve, tmp_path):
    own = certificate.load_or_make(tmp_path, "relay.test")
    tls = certificate.server_context(own.certificate, own.key, SERVER_PUBLIC)
    place = await serve(tls=tls)
    anne = await DerpClient.join(place.port, ANNE, trusting())
    bert = await DerpClient.join(place.port, BERT, trusting())
    for n in range(200):
        anne.send_packet(BERT, wireguard(n, 1400))
    assert [number_of((await bert.packet())[1]) for _ in range(200)] == list(range(200))


async def test_a_client_that_starts_fast_gets_no_http_answer_and_loses_no_byte(serve):
    place = await serve()
    bert = await DerpClient.join(place.port, BERT)
    anne = await DerpClient.connect(place.port)
    request = derp.encode_upgrade_request("relay.test", fast_start=True)
    hello = derp.encode_client_info(ANNE.private, SERVER_PUBLIC, NONCE)
    # all of it in one segment: request, ClientInfo, NotePreferred, a packet
    anne.writer.write(
        request + hello + derp.encode_note_preferred(True) + derp.encode_send_packet(BERT.public, wireguard(1))
    )
    assert derp.decode_server_key(await anne.frame(derp.SERVER_KEY)) == SERVER_PUBLIC
    await anne.frame(derp.SERVER_INFO)
    assert await bert.packet() == (ANNE.public, wireguard(1))
    assert [client["home"] for client in place.relay.clients()] == [False, True]


async def test_the_way_in_is_the_same_however_its_bytes_were_cut(serve):
    place = await serve()
    stream = UPGRADE + derp.encode_client_info(ANNE.private, SERVER_PUBLIC, NONCE) + derp.encode_ping(b"12345678")
    for cut in range(1, len(stream), 9):
        anne = await DerpClient.connect(place.port)
        anne.writer.write(stream[:cut])
        await anne.writer.drain()
        await asyncio.sleep(0)
        anne.writer.write(stream[cut:])
        head = await anne.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Derp-Version: 2\r\n" in head
        await anne.frame(derp.SERVER_KEY)
        await anne.frame(derp.SERVER_INFO)
        assert await anne.frame(derp.PONG) == b"12345678"
        anne.close()


async def test_only_get_enters(serve):
    place = await serve()
    client = await DerpClient.connect(place.port)
    client.writer.write(UPGRADE.replace(b"GET", b"PUT"))
    assert b" 405 " in await client.reader.readline()


async def test_a_browser_comes_by_websocket(serve):
    place = await serve()
    bert = await DerpClient.join(place.port, BERT)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{place.port}/derp", protocols=("derp",), compress=0) as web_socket,
    ):
        assert web_socket.protocol == "derp"
        decoder = derp.DerpDecoder()
        frames = []

        async def frame():
            while not frames:
                frames.extend(decoder.feed(await web_socket.receive_bytes(timeout=60)))
            return frames.pop(0)

        assert (await frame())[0] == derp.SERVER_KEY
        # a frame may be cut over messages, and a message may hold several
        await web_socket.send_bytes(ANNE.hello[:20])
        await web_socket.send_bytes(ANNE.hello[20:] + derp.encode_send_packet(BERT.public, wireguard(1)))
        assert (await frame())[0] == derp.SERVER_INFO
        assert await bert.packet() == (ANNE.public, wireguard(1))
        await web_socket.ping()
        bert.send_packet(ANNE, wireguard(2, 60_000))
        assert derp.decode_packet((await frame())[1]) == (BERT.public, wireguard(2, 60_000))
    assert await bert.frame(derp.PEER_GONE) == ANNE.public + b"\0"


async def test_a_websocket_without_the_subprotocol_is_plain_derp(serve):
    place = await serve()
    client = await DerpClient.connect(place.port)
    client.writer.write(UPGRADE.replace(b"DERP", b"websocket"))
    assert b"101" in (await client.reader.readuntil(b"\r\n\r\n"))
    await client.say_hello(ANNE)


@pytest.mark.parametrize(
    "header",
    [
        b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n",
        b"Sec-WebSocket-Version: 13\r\n",
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff\xfe\r\n",
    ],
)
async def test_a_broken_websocket_request_is_refused(serve, header):
    place = await serve()
    client = await DerpClient.connect(place.port)
    asks = UPGRADE.replace(b"DERP", b"websocket")[:-2] + b"Sec-WebSocket-Protocol: derp\r\n" + header + b"\r\n"
    client.writer.write(asks)
    assert b" 400 " in await client.reader.readline()


async def test_pages_that_clients_expect(serve):
    place = await serve()
    base = f"http://127.0.0.1:{place.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(base + "/derp") as answer:
            assert answer.status == 426
        for path in ("/derp/probe", "/derp/latency-check"):
            for method in ("GET", "HEAD"):
                async with session.request(method, base + path) as answer:
                    assert answer.status == 200
                    assert answer.headers["Access-Control-Allow-Origin"] == "*"
                    assert await answer.read() == b""
            async with session.post(base + path) as answer:
                assert answer.status == 405
        for challenge, response in (
            (None, None),
            ("ts_host.example-1:x", "response ts_host.example-1:x"),
            ("x" * 64, "response " + "x" * 64),
            ("x" * 65, None),
            ("no spaces", None),
            ("nö", None),
        ):
            headers = {} if challenge is None else {"X-Tailscale-Challenge": challenge}
            async with session.get(base + "/generate_204", headers=headers) as answer:
                assert answer.status == 204
                assert "no-store" in answer.headers["Cache-Control"]
                assert answer.headers.get("X-Tailscale-Response") == response


# --- who may come in ---


async def test_by_default_nobody_is_admitted(serve):
    from wayhome.relay.service import admit_nobody

    place = await serve(admit=admit_nobody)
    anne = await DerpClient.connect(place.port)
    await anne.upgrade()
    anne.writer.write(ANNE.hello)
    assert await anne.is_closed()
    assert place.relay.counters()["endings"] == {"not admitted": 1}


async def test_admission_is_asked_with_key_and_address_and_meanwhile_nothing_is_lost(serve):
    asked = asyncio.get_running_loop().create_future()
    verdict = asyncio.get_running_loop().create_future()

    async def admit(node_key, source):
        if node_key == BERT.public:
            return "home"
        asked.set_result((node_key, source))
        return await verdict

    place = await serve(admit=admit)
    bert = await DerpClient.join(place.port, BERT)
    anne = await DerpClient.connect(place.port)
    await anne.upgrade()
    anne.writer.write(ANNE.hello + derp.encode_send_packet(BERT.public, wireguard(1)))
    assert await asked == (ANNE.public, "127.0.0.1")
    anne.send_packet(BERT, wireguard(2))
    verdict.set_result("home")
    assert [number_of((await bert.packet())[1]) for _ in range(2)] == [1, 2]


async def test_an_error_while_asking_keeps_the_door_shut(serve):
    async def admit(node_key, source):
        raise RuntimeError("the database is on fire")

    place = await serve(admit=admit)
    anne = await DerpClient.connect(place.port)
    await anne.upgrade()
    anne.writer.write(ANNE.hello)
    assert await anne.is_closed()


async def test_a_client_that_leaves_while_admission_is_asked_leaves_nothing(serve):
    asked = asyncio.Event()
    ended = asyncio.Event()

    async def admit(node_key, source):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    place = await serve(admit=admit)
    anne = await DerpClient.connect(place.port)
    await anne.upgrade()
    anne.writer.write(ANNE.hello)
    await asked.wait()
    place.relay.close()
    await ended.wait()
    await asyncio.sleep(0)
    assert place.relay.counters()["open_connections"] == 0


async def test_a_connection_that_has_ended_is_freed_without_the_garbage_collector(serve, tmp_path):
    own = certificate.load_or_make(tmp_path, "relay.test")
    place = await serve(tls=certificate.server_context(own.certificate, own.key, SERVER_PUBLIC))
    gc.collect()
    gc.disable()
    try:
        anne = await DerpClient.join(place.port, ANNE, trusting())
        assert connections_held() == 1
        anne.writer.close()
        async with asyncio.timeout(60):
            while connections_held():
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


def connections_held() -> int:
    return sum(isinstance(one, DerpConnection) for one in gc.get_objects())


async def test_a_disconnected_node_is_out_and_its_peers_are_told(serve):
    place = await serve()
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    anne.send_packet(BERT, wireguard(1))
    await bert.packet()
    assert place.relay.disconnect(ANNE.public) == 1
    assert await anne.is_closed()
    assert await bert.frame(derp.PEER_GONE) == ANNE.public + b"\0"


async def test_meshes_do_not_see_each_other(serve):
    async def admit(node_key, source):
        return "odd" if node_key == CARL.public else "even"

    place = await serve(admit=admit)
    anne, bert, carl = [await DerpClient.join(place.port, person) for person in (ANNE, BERT, CARL)]
    carl.send_packet(BERT, wireguard(1))
    await carl.answers()
    anne.send_packet(BERT, wireguard(2))
    assert await bert.packet() == (ANNE.public, wireguard(2))


# --- strangers and bad input ---


@pytest.mark.parametrize(
    "bad",
    [
        b"\x02\xff\xff\xff\xff",
        b"\x02\0\0\0\x10" + bytes(16),
        b"\x04\0\0\0\x20" + bytes(32),
        b"\x10\0\0\0\0",
        bytes(2000),
        b"\xff" * 2000,
        ANNE.hello[:-1] + b"?",
    ],
)
async def test_bad_bytes_in_the_handshake_end_it_and_disturb_nobody(serve, bad):
    place = await serve()
    bert, carl = await DerpClient.join(place.port, BERT), await DerpClient.join(place.port, CARL)
    stranger = await DerpClient.connect(place.port)
    await stranger.upgrade()
    stranger.writer.write(bad)
    assert await stranger.is_closed()
    carl.send_packet(BERT, wireguard(1))
    assert await bert.packet() == (CARL.public, wireguard(1))


async def test_random_bytes_from_an_admitted_client_disturb_nobody(serve):
    place = await serve()
    bert, carl = await DerpClient.join(place.port, BERT), await DerpClient.join(place.port, CARL)
    generator = random.Random(7)
    for _ in range(30):
        anne = await DerpClient.join(place.port, ANNE)
        anne.writer.write(generator.randbytes(generator.randrange(1, 4000)))
        anne.writer.write_eof()
        await anne.is_closed()
        anne.close()
    carl.send_packet(BERT, wireguard(1))
    assert await bert.packet() == (CARL.public, wireguard(1))
    counters = place.relay.counters()
    assert counters["clients"] == 2


async def test_a_repeated_handshake_is_skipped(serve):
    place = await serve()
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    anne.writer.write(ANNE.hello * 3 + BERT.hello)
    anne.send_packet(BERT, wireguard(1))
    assert await bert.packet() == (ANNE.public, wireguard(1))
    assert place.relay.counters()["clients"] == 2


async def test_connections_over_the_limit_are_told_so(serve):
    place = await serve(RelaySettings(connections=3))
    clients = [await DerpClient.join(place.port, person) for person in (ANNE, BERT, CARL)]
    late = await DerpClient.connect(place.port)
    late.writer.write(UPGRADE)
    assert b" 503 " in await late.reader.readline()
    clients[0].send_packet(BERT, wireguard(1))
    assert await clients[1].packet() == (ANNE.public, wireguard(1))


async def test_many_idle_handshakes_are_held_to_the_limit_and_an_honest_client_gets_in(serve):
    place = await serve(RelaySettings(handshakes=20))
    idle = []
    for _ in range(100):
        client = await DerpClient.connect(place.port)
        await client.upgrade()
        idle.append(client)
    assert place.relay.counters()["handshakes"] <= 20
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    anne.send_packet(BERT, wireguard(1))
    await bert.packet()
    for client in idle:
        client.close()


# --- slow readers ---


async def slow_reader(port, person, tls=None):
    """Join and then read nothing; the kernel's buffers are as small as they get."""
    carrier = socket.socket()
    carrier.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    carrier.setblocking(False)
    await asyncio.get_running_loop().sock_connect(carrier, ("127.0.0.1", port))
    name = {"server_hostname": "relay.test"} if tls else {}
    client = DerpClient(*await asyncio.open_connection(sock=carrier, limit=1024, ssl=tls, **name))
    await client.upgrade()
    await client.say_hello(person)
    client.writer.transport.pause_reading()
    return client


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_slow_reader_loses_packets_nobody_else_does_and_memory_stays_bounded(serve, tmp_path, encrypted):
    settings = RelaySettings(write_seconds=1000, client_bytes_per_second=0)
    own = certificate.load_or_make(tmp_path, "relay.test")
    place = await serve(settings, tls=own.context if encrypted else None)
    tls = trusting() if encrypted else None
    anne, carl = await DerpClient.join(place.port, ANNE, tls), await DerpClient.join(place.port, CARL, tls)
    slow = await slow_reader(place.port, BERT, tls)
    got = []
    for round_number in range(200):
        for n in range(30):
            anne.send_packet(BERT, wireguard(n, 1400))
        anne.send_packet(CARL, wireguard(round_number, 1400))
        got.append(number_of((await carl.packet())[1]))
    assert got == list(range(200))
    (bert,) = [client for client in place.relay.clients() if client["waiting_packets"]]
    assert bert["waiting_packets"] <= settings.queue_packets
    assert bert["packets_dropped"] > 500
    # the high-water mark, what one write may add to it, and the queues
    assert bert["waiting_bytes"] <= settings.write_buffer_bytes + 64 * 1024 + 1500 + 32 * 1500
    slow.close()


async def test_a_slow_reader_that_reads_again_gets_the_newest(serve):
    place = await serve(RelaySettings(write_seconds=1000, client_bytes_per_second=0))
    anne = await DerpClient.join(place.port, ANNE)
    slow = await slow_reader(place.port, BERT)
    for n in range(5000):
        anne.send_packet(BERT, wireguard(n, 1400))
        if n % 50 == 0:
            await anne.writer.drain()
    await anne.answers()
    slow.writer.transport.resume_reading()
    numbers = [number_of((await slow.packet())[1])]
    while numbers[-1] != 4999:
        numbers.append(number_of((await slow.packet())[1]))
    assert numbers == sorted(numbers)
    assert len(numbers) < 5000
    assert numbers[-32:] == list(range(4968, 5000))


async def test_a_client_that_takes_nothing_for_the_write_deadline_is_out(serve):
    place = await serve(RelaySettings(write_seconds=0.2, client_bytes_per_second=0))
    anne = await DerpClient.join(place.port, ANNE)
    slow = await slow_reader(place.port, BERT)
    while place.relay.counters()["endings"].get("took no bytes") is None:
        for n in range(100):
            anne.send_packet(BERT, wireguard(n, 1400))
        await anne.answers()
        await asyncio.sleep(0.05)
    assert place.relay.counters()["clients"] == 1
    slow.close()


async def test_a_client_that_sends_faster_than_announced_is_slowed_down_and_loses_nothing(serve):
    place = await serve(RelaySettings(client_bytes_per_second=2_000_000, client_burst_bytes=100_000))
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    for n in range(600):
        anne.send_packet(BERT, wireguard(n, 1000))
    assert [number_of((await bert.packet())[1]) for _ in range(600)] == list(range(600))
    assert place.relay.counters()["reads_delayed"] > 0


async def test_counters_and_clients_can_be_written_as_json(serve):
    import json

    place = await serve()
    anne, bert = await DerpClient.join(place.port, ANNE), await DerpClient.join(place.port, BERT)
    anne.send_packet(BERT, WIREGUARD)
    anne.send_packet(BERT, b"junk")
    await bert.packet()
    await anne.answers()
    counters = json.loads(json.dumps(place.relay.counters()))
    assert counters["packets_in"] == 2
    assert counters["packets_out"] == 1
    assert counters["drops"] == {"neither disco nor WireGuard": 1}
    assert counters["bytes_in"] == 2 * len(ANNE.hello) + (5 + 32 + 32) + (5 + 32 + 4) + (5 + 8)
    clients = json.loads(json.dumps(place.relay.clients()))
    assert [(client["packets_in"], client["packets_out"]) for client in clients] == [(2, 0), (0, 1)]
