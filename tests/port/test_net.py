"""Streams, TLS, name lookup and local sockets, against servers that keep to the rules and servers that don't."""

import asyncio
import gc
import os
from binascii import a2b_base64, hexlify

from shared.expect import raises
from wayhomed.port import net, process, random_bytes, runtime
from wayhomed.port.crypto import sha256
from wayhomed.port.ffi import libc
from wayhomed.port.tasks import run_all, sleep_ms, within

SHARED = __file__[: __file__.rfind("/tests/")] + "/tests/shared"
AUTHORITIES = SHARED + "/certificates/authorities.pem"
OTHERS = SHARED + "/certificates/other-authorities.pem"
HERE = b"\x7f\x00\x00\x01"
FLOOD_BYTES = 3_000_000
LIMIT_MS = 60_000  # only ends a test that has failed


def place(name):
    return "/tmp/wayhome-net-test-" + hexlify(random_bytes(6)).decode() + name


def run(coroutine):
    try:
        return asyncio.run(within(LIMIT_MS, coroutine, "the test"))
    finally:
        asyncio.new_event_loop()  # under MicroPython the loop outlives run()


def with_servers(test):
    """Run test(ports) with the servers of net_server.py, whose ports are told by name."""

    async def main():
        path = place("-ports")
        server = process.Child(["python3", SHARED + "/net_server.py", path], {})
        try:
            while not runtime.is_there(path):
                assert server.exit_code() is None, "the servers ended"
                await sleep_ms(10)
            lines = str(runtime.read_file(path, 65_536), "utf-8").split("\n")
            return await test(dict([(line.split(" ")[0], int(line.split(" ")[1])) for line in lines if line]))
        finally:
            await process.end(server, 5)
            runtime.remove_file(path)

    return run(main())


async def connect(port):
    return await net.connect_tcp(HERE, port, 10_000, 0)


async def read_exactly(stream, count):
    received = 0
    while received < count:
        data = await stream.read()
        assert data, received
        received += len(data)
    return received


async def echoed(stream, text=b"hello"):
    await stream.write(text)
    received = b""
    while len(received) < len(text):
        data = await stream.read()
        assert data, "the stream ended"
        received += data
    return received


async def trusts(port, *arguments):
    """Start TLS by these authorities, talk, and close."""
    below = await connect(port)
    try:
        stream = await net.tls_by_authorities(below, *arguments)
        assert await echoed(stream) == b"hello"
    finally:
        below.close()


async def failure(awaitable, kind=OSError):
    """Return the error that it ends with."""
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError("no " + str(kind))


def sentence(error):
    return error.args[-1]


# --- TLS: who is believed ---


def test_a_certificate_from_the_authorities_for_this_name_is_believed():
    async def test(ports):
        await trusts(ports["good"], "relay.example", "", True, AUTHORITIES)
        await trusts(ports["good"], "www.wild.example", "", True, AUTHORITIES)
        await trusts(ports["good"], "fronted.example", "relay.example", True, AUTHORITIES)

    with_servers(test)


def test_another_name_is_not():
    async def test(ports):
        for name in ("other.example", "wild.example", "a.b.wild.example", "relay.example.org"):
            error = await failure(trusts(ports["good"], name, "", True, AUTHORITIES), net.TlsRefused)
            assert "not valid for '" + name + "'" in sentence(error), sentence(error)
        error = await failure(trusts(ports["good"], "relay.example", "other.example", True, AUTHORITIES))
        assert sentence(error) == "the certificate is not for other.example"

    with_servers(test)


def test_a_certificate_of_nobody_we_know_is_not():
    async def test(ports):
        unknown = "the certificate of relay.example is not trusted: unable to get local issuer certificate"
        error = await failure(trusts(ports["good"], "relay.example", "", True, OTHERS), net.TlsRefused)
        assert sentence(error) == unknown
        error = await failure(trusts(ports["good"], "relay.example"), net.TlsRefused)
        assert sentence(error) == unknown
        for authorities in (AUTHORITIES, OTHERS):
            error = await failure(trusts(ports["forged"], "relay.example", "", True, authorities), net.TlsRefused)
            assert "is not trusted" in sentence(error), sentence(error)

    with_servers(test)


def test_a_certificate_that_is_for_clients_is_not():
    async def test(ports):
        error = await failure(trusts(ports["for-clients"], "relay.example", "", True, AUTHORITIES), net.TlsRefused)
        assert "is not trusted" in sentence(error)

    with_servers(test)


def test_dates_matter():
    async def test(ports):
        for kind, why in (("expired", "certificate has expired"), ("future", "certificate is not yet valid")):
            error = await failure(trusts(ports[kind], "relay.example", "", True, AUTHORITIES), net.TlsRefused)
            assert sentence(error) == "the certificate of relay.example is not trusted: " + why

    with_servers(test)


def test_with_a_clock_that_nobody_trusts_all_but_the_dates_matters():
    async def test(ports):
        for kind in ("good", "expired", "future"):
            await trusts(ports[kind], "relay.example", "", False, AUTHORITIES)
            await trusts(ports[kind], "fronted.example", "relay.example", False, AUTHORITIES)
            error = await failure(trusts(ports[kind], "other.example", "", False, AUTHORITIES), net.TlsRefused)
            assert "not valid for 'other.example'" in sentence(error)
            error = await failure(trusts(ports[kind], "relay.example", "", False, OTHERS), net.TlsRefused)
            assert "unable to get local issuer" in sentence(error)
        for kind in ("forged", "for-clients"):
            error = await failure(trusts(ports[kind], "relay.example", "", False, AUTHORITIES), net.TlsRefused)
            assert "is not trusted" in sentence(error)

    with_servers(test)


def test_a_pin_believes_one_certificate_and_no_other():
    pem = str(runtime.read_file(SHARED + "/certificates/expired.pem", 65_536), "utf-8")
    own = pem.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    pin = sha256(a2b_base64(own.replace("\n", "")))

    async def test(ports):
        below = await connect(ports["expired"])
        stream = await net.tls_by_pin(below, "whatever", pin)
        assert await echoed(stream) == b"hello"
        stream.close()
        below = await connect(ports["good"])
        error = await failure(net.tls_by_pin(below, "whatever", pin), net.TlsRefused)
        assert sentence(error) == "the certificate is not the one that the relay map pins"
        below.close()

    with_servers(test)


def test_the_certificate_with_the_relays_key_that_relays_append_does_no_harm():
    async def test(ports):
        await trusts(ports["with-relay-key"], "relay.example", "", True, AUTHORITIES)

    with_servers(test)


def test_a_server_of_new_tls_alone_is_reached_at_the_second_try_at_the_latest():
    async def test(ports):
        try:
            await trusts(ports["new-tls-alone"], "new.wild.example", "", True, AUTHORITIES)
        except net.TlsRefused:
            pass
        await trusts(ports["new-tls-alone"], "new.wild.example", "", True, AUTHORITIES)

    with_servers(test)


# --- TLS: what is no TLS ---


def test_a_server_without_tls_is_told_apart():
    async def test(ports):
        for kind in ("plain", "http"):
            below = await connect(ports[kind])
            error = await failure(net.tls_unverified(below, "relay.example"), net.TlsRefused)
            assert sentence(error) == "relay.example does not speak TLS there; is it http:// or another port?"
            below.close()

    with_servers(test)


def test_a_server_that_hangs_up_in_the_handshake_or_says_nothing_is_an_oserror():
    async def test(ports):
        below = await connect(ports["hangs-up"])
        error = await failure(net.tls_unverified(below, "relay.example"))
        assert error.errno == 104
        below.close()
        below = await connect(ports["silent"])
        error = await failure(within(50, net.tls_unverified(below, "relay.example"), "TLS"))
        assert error.errno == 110
        below.close()

    with_servers(test)


def test_what_ended_in_a_failed_handshake_is_closed_once():
    # A descriptor that is closed twice is another connection's the second time.
    async def test(ports):
        for _ in range(30):
            below = await connect(ports["plain"])
            await failure(net.tls_unverified(below, "relay.example"))
            below.close()
            below.close()
        streams = []
        for _ in range(10):
            streams.append(await connect(ports["plain"]))
        gc.collect()
        for stream in streams:
            assert await echoed(stream) == b"hello"
            stream.close()

    with_servers(test)


# --- Streams ---


async def starts(ports, is_tls, kind):
    below = await connect(ports[("tls-" if is_tls else "plain-") + kind if kind == "flood" else kind])
    return await net.tls_unverified(below, "relay.example") if is_tls else below


def test_a_stream_is_read_to_its_end():
    async def test(ports):
        for is_tls in (False, True):
            stream = await starts(ports, is_tls, "flood")
            received = 0
            largest = 0
            while True:
                data = await stream.read(5_000)
                if not data:
                    break
                received += len(data)
                largest = max(largest, len(data))
            assert received == FLOOD_BYTES and largest <= 5_000
            assert await stream.read() == b""
            stream.close()

    with_servers(test)


def test_one_task_writes_megabytes_while_another_reads_them_back():
    async def test(ports):
        for is_tls in (False, True):
            stream = await starts(ports, is_tls, "good" if is_tls else "plain")
            outcome = []

            async def write(to):
                for _ in range(40):
                    await to.write(bytes(50_000))
                await asyncio.Event().wait()

            async def read(source, into):
                into.append(await read_exactly(source, 40 * 50_000))

            await run_all(write(stream), read(stream, outcome))
            assert outcome == [40 * 50_000]
            stream.close()

    with_servers(test)


def test_a_reader_that_gives_up_leaves_a_waiting_writer_alone():
    total = 12_000_000  # more than both ends' buffers

    async def write(stream, written):
        for _ in range(total // 100_000 - 1):
            await stream.write(bytes(100_000))
        await stream.write(bytes(99_999) + b".")
        written.append(True)

    def through(is_tls):
        async def test(ports):
            below = await connect(ports["tls-slow" if is_tls else "slow"])
            stream = await net.tls_unverified(below, "relay.example") if is_tls else below
            written = []
            writing = asyncio.create_task(write(stream, written))
            for _ in range(3):
                assert (await failure(within(20, stream.read(), "the read"))).errno == 110
            assert not written
            (await connect(ports["go"])).close()
            assert int(await stream.read()) == total
            await writing
            stream.close()

        return test

    with_servers(through(False))
    with_servers(through(True))


def test_a_cancelled_reader_loses_no_byte():
    async def test(ports):
        for is_tls in (False, True):
            stream = await starts(ports, is_tls, "good" if is_tls else "plain")
            assert (await failure(within(10, stream.read(), "the read"))).errno == 110
            reading = asyncio.create_task(stream.read())
            await sleep_ms(5)
            reading.cancel()
            await failure(reading, asyncio.CancelledError)
            assert await echoed(stream, b"all of it") == b"all of it"
            stream.close()

    with_servers(test)


def test_writing_to_who_has_gone_is_an_oserror():
    async def test(ports):
        stream = await connect(ports["hangs-up"])
        await stream.write(b"a byte or ten")
        assert await stream.read() == b""

        async def write_on():
            for _ in range(1000):
                await stream.write(bytes(10_000))

        assert (await failure(write_on())).errno in (32, 104)
        stream.close()

    with_servers(test)


def test_a_refused_connection_says_where_it_went():
    error = raises(OSError, run, net.connect_tcp(HERE, 1, 1_000, 0))
    assert error.errno == 111 and sentence(error) == "connecting to 127.0.0.1 port 1: Connection refused"


# --- Names ---


def test_an_address_needs_no_lookup():
    assert run(net.resolve("192.0.2.7", 1_000)) == [b"\xc0\x00\x02\x07"]
    assert run(net.resolve("2001:db8::1", 1_000)) == [b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"]


def test_a_name_is_looked_up():
    found = run(net.resolve("localhost", 10_000))
    assert HERE in found or bytes(15) + b"\x01" in found


def test_a_name_that_nobody_has_is_an_oserror_that_tells_it():
    error = raises(OSError, run, net.resolve("no.such.host.invalid", 30_000))
    assert "no.such.host.invalid" in sentence(error)


def test_what_is_no_name_is_not_looked_up():
    for name in ("a..b", "x" * 64, ".", "", "x" * 300):
        error = raises(OSError, run, net.resolve(name, 10_000))
        assert error.errno == 22 and "not a host name" in sentence(error), (name, error)


def test_a_lookup_that_is_given_up_leaves_nothing_behind():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    async def give_up():
        task = asyncio.create_task(net.resolve("no.such.host.invalid", 30_000))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, OSError):
            pass

    async def main():
        # The C library may open something for good at the first.
        try:
            await net.resolve("no.such.host.invalid", 30_000)
        except OSError:
            pass
        gc.collect()
        before = descriptors()
        for _ in range(20):
            await give_up()
        # CPython can't end the C library's lookups: each has its socket until the name server has answered.
        while descriptors() > before:
            await sleep_ms(5)

    run(main())


def test_own_addresses_are_addresses():
    for ip in net.own_addresses():
        assert len(ip) in (4, 16)


# --- Local sockets ---


def test_a_local_socket_has_its_mode_and_knows_who_connects():
    path = place(".sock")

    async def main():
        listener = net.LocalListener(path, 0o640)
        assert runtime.mode_of(path) == 0o640
        accepting = asyncio.create_task(listener.accept())
        stream = await net.connect_local(path)
        accepted, (pid, uid, _gid) = await accepting
        assert pid == libc().func("i", "getpid", "")() and uid == runtime.user_id()
        writing = asyncio.create_task(stream.write(bytes(500_000)))
        assert await read_exactly(accepted, 500_000) == 500_000
        await writing
        stream.close()
        assert await accepted.read() == b""
        accepted.close()
        listener.close()
        assert not runtime.is_there(path)

    run(main())


def test_a_dead_processs_socket_is_replaced_and_a_living_ones_is_not():
    path = place(".sock")

    async def main():
        runtime.write_file(path, b"", 0o600)
        listener = net.LocalListener(path, 0o600)
        error = raises(OSError, net.LocalListener, path, 0o600)
        assert error.errno == 98
        stream = await net.connect_local(path)
        stream.close()
        listener.close()

    run(main())


def test_a_local_socket_that_is_not_there_is_an_oserror():
    assert raises(OSError, run, net.connect_local(place(".sock"))).errno == 2
    assert raises(OSError, net.LocalListener, "/no/such/place/socket", 0o600).errno == 2


def test_more_clients_than_the_listener_holds_all_get_through():
    path = place(".sock")

    async def main():
        listener = net.LocalListener(path, 0o600)
        got = []

        async def ask():
            stream = await net.connect_local(path)
            await stream.write(b"x")
            got.append(await stream.read())
            stream.close()

        tasks = [asyncio.create_task(ask()) for _ in range(30)]
        await sleep_ms(1)
        for _ in tasks:
            stream, _who = await listener.accept()
            await stream.write(await stream.read())
            stream.close()
        for task in tasks:
            await task
        listener.close()
        assert got == [b"x"] * 30

    run(main())
