"""From the upgrade to the first HTTP/2 frame, over real sockets: what honest clients need, what others get."""

import asyncio
import os
import secrets

import pytest

from shared.running_coordinator import NOISE_PRIVATE, Running, running
from wayhome.bench.control_client import ConnectionEnded, ControlClient, Identity
from wayhomed.wire import control, noise
from wayhomed.wire.keys import new_private, public_of

SERVER = public_of(NOISE_PRIVATE)


async def talk(server: Running, sent: bytes, *, until_close: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    async with asyncio.timeout(5):
        answer = await (reader.read() if until_close else reader.read(65536))
    writer.close()
    return answer


def upgrade(handshake: str, method: str = "POST", name: str = "tailscale-control-protocol") -> bytes:
    return (
        f"{method} /ts2021 HTTP/1.1\r\nHost: h\r\nUpgrade: {name}\r\nConnection: upgrade\r\n"
        f"X-Tailscale-Handshake: {handshake}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def initiator(version: int = 130, server: bytes = SERVER) -> noise.Initiator:
    return noise.Initiator(Identity().machine_private, server, version, new_private(secrets.token_bytes(32)))


async def ended(client: ControlClient) -> None:
    async with asyncio.timeout(10):
        await client.lost


async def still_serves(server: Running) -> None:
    client = await server.join(f"honest-{len(server.clients)}")
    assert (await client.poll().message())["Node"]


async def test_all_that_the_client_waits_for_comes_with_the_101():
    async with running() as server:
        made = initiator()
        answer = await talk(server, control.encode_upgrade_request("h", made.message), until_close=False)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ") and b"upgrade: tailscale-control-protocol" in head.lower()
        session = made.response_received(rest[: noise.RESPONSE_BYTES])
        early = control.EarlyPayloadReader()
        frames = early.feed(session.feed(rest[noise.RESPONSE_BYTES :]))
        assert early.challenge and frames[3] == 4 and frames[5:9] == bytes(4)  # a SETTINGS frame


async def test_bytes_that_come_with_the_upgrade_request_are_not_lost():
    # No honest client can seal records before it has seen message 2; bytes that reach the session end it loudly.
    async with running() as server:
        await talk(server, control.encode_upgrade_request("h", initiator().message) + b"\x04\x00\x10" + b"x" * 16)
        assert server.counters.broken_sessions == 1


@pytest.mark.parametrize("version", [0, 1, 112])
async def test_a_client_that_is_too_old_is_told_so(version: int):
    async with running() as server:
        with pytest.raises(ConnectionEnded, match="too old"):
            await server.connect(version=version)
        assert server.counters.old_clients == 1


@pytest.mark.parametrize("version", [113, 130, 145, 65535])
async def test_newer_clients_are_served(version: int):
    async with running() as server:
        await server.connect(version=version)


async def test_a_handshake_for_another_servers_key_is_refused_in_words():
    async with running() as server:
        with pytest.raises(ConnectionEnded, match="another key"):
            await ControlClient.connect("127.0.0.1", server.port, public_of(new_private(b"x" * 32)))
        assert server.counters.bad_handshakes == 1
        await still_serves(server)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (upgrade(""), b"400"),
        (upgrade("%%%"), b"400"),
        (upgrade("AAAA"), b"400"),
        (upgrade("A" * 10_000), b"400"),
        (upgrade("AHEBAGAP" * 17, method="GET"), b"405"),
        (upgrade("AHEBAGAP" * 17, name="h2c"), b"400"),
        (b"POST /ts2021 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET /ts2021 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"400"),
    ],
)
async def test_an_upgrade_without_a_handshake_is_refused_in_words(sent: bytes, status: bytes):
    async with running() as server:
        answer = await talk(server, sent.replace(b"Connection: upgrade", b"Connection: upgrade, close"))
        assert answer.split(b" ")[1] == status and len(answer.partition(b"\r\n\r\n")[2]) > 5
        await still_serves(server)


async def test_random_bytes_at_any_place_end_that_connection_and_no_other():
    async with running() as server:
        good = initiator().message
        for cut in range(0, len(good), 5):
            broken = good[:cut] + os.urandom(1) + good[cut + 1 :]
            await talk(server, control.encode_upgrade_request("h", broken), until_close=False)
        for size in (1, 16, 200, 5000):
            client = await server.connect()
            client.send_raw(b"\x04\x00\x40" + os.urandom(64 + size))
            await ended(client)
            client = await server.connect()
            client.send_plaintext(os.urandom(size) + b"\xff" * 100_000)
            await ended(client)
        await still_serves(server)


async def test_a_record_sent_twice_ends_the_connection():
    async with running() as server:
        client = await server.connect()
        record = client._session.seal(b"\0\0\x08\x06\0\0\0\0\0" + bytes(8))
        client.send_raw(record + record)
        await ended(client)
        assert server.counters.broken_sessions == 1


async def test_a_handshake_that_is_never_finished_is_given_up_after_its_deadline():
    async with running() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(control.encode_upgrade_request("h", initiator().message))
        await reader.readuntil(b"\r\n\r\n")
        friend = await server.join()
        server.time_passes(9)
        assert len(server.coordinator.links.open) == 2
        server.time_passes(2)
        await reader.read()
        assert server.counters.unfinished_handshakes == 1
        assert (await friend.update()).status == 200
        writer.close()


async def test_a_request_that_never_becomes_whole_is_given_up_after_its_deadline():
    async with running() as server:
        client = await server.connect()
        await client.ask("POST", "/machine/set-dns")
        head = b"\x83\x87\x41\x01h\x04\x0c/machine/map"
        client.send_plaintext(len(head).to_bytes(3, "big") + b"\x01\x04\0\0\0\x05" + head)
        await asyncio.sleep(0.05)
        server.time_passes(29)
        assert not client.lost.done()
        server.time_passes(2)
        await ended(client)
        assert server.counters.unfinished_handshakes == 1


async def test_key_says_who_the_server_is():
    async with running() as server:
        status, body = await server.get("/key?v=130")
        assert status == 200 and SERVER.hex().encode() in body and b'"legacyPublicKey":"mkey:' + b"0" * 64 in body


async def test_a_client_that_asks_to_close_gets_its_answer_and_the_close():
    async with running() as server:
        answer = await talk(server, b"GET /key?v=130 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert SERVER.hex().encode() in answer


async def test_verify_tells_relays_who_is_in():
    async with running() as server:
        client = await server.join()
        for key, allowed in ((client.identity.node_public, b"true"), (bytes(31) + b"\1", b"false")):
            body = b'{"nodepublic":"nodekey:' + key.hex().encode() + b'","Source":"1.2.3.4"}'
            assert await server.post("/verify", body) == (200, b'{"Allow": ' + allowed + b"}")
        assert (await server.post("/verify", b'{"NodePublic":7}'))[0] == 400
        assert (await server.post("/verify", b" " * 5000))[0] == 413
        assert (await server.get("/health"))[0] == 200
