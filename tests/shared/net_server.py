"""What the tests of port.net connect to, for either Python: a process of its own, run by any CPython 3.

    python3 net_server.py FILE      # once it listens, FILE holds lines: NAME PORT

Ends by itself after two minutes, if nobody does it before.
"""

import asyncio
import os
import socket
import ssl
import sys
import threading

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")
FLOOD_BYTES = 3_000_000


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def answer_http(reader, writer):
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def hang_up(reader, writer):
    await reader.read(10)


async def say_nothing(reader, writer):
    await asyncio.sleep(3600)


async def flood(reader, writer):
    writer.write(bytes(FLOOD_BYTES))
    await writer.drain()


async def read_slowly(reader, writer):
    """Take what comes only once somebody has connected to "go"; then say how much it was."""
    writer.transport.pause_reading()
    await GO.wait()
    writer.transport.resume_reading()
    count = 0
    while data := await reader.read(65536):
        count += len(data)
        if data.endswith(b"."):
            break
    writer.write(str(count).encode())
    await writer.drain()
    await reader.read()


async def let_go(reader, writer):
    GO.set()
    await writer.drain()


GO = asyncio.Event()


def context(name, least=ssl.TLSVersion.TLSv1_2):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = least
    made.load_cert_chain(os.path.join(CERTIFICATES, name + ".pem"))
    return made


SERVERS = {
    "plain": (echo, None),
    "http": (answer_http, None),
    "hangs-up": (hang_up, None),
    "silent": (say_nothing, None),
    "plain-flood": (flood, None),
    "slow": (read_slowly, None),
    "go": (let_go, None),
    "tls-flood": (flood, context("good")),
    "tls-slow": (read_slowly, context("good")),
}
for each in ("good", "expired", "future", "for-clients", "forged", "with-relay-key"):
    SERVERS[each] = (echo, context(each))


def serving(handle):
    async def serve(reader, writer):
        try:
            await handle(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    return serve


def serve_new_tls_alone(listener):
    """Echo a connection at a time; unlike asyncio's TLS this tells why it refuses one."""
    new_alone = context("good", ssl.TLSVersion.TLSv1_3)
    while True:
        accepted, _who = listener.accept()
        try:
            with new_alone.wrap_socket(accepted, server_side=True) as stream:
                while data := stream.recv(65536):
                    stream.sendall(data)
        except OSError:
            pass
        accepted.close()


async def main(path):
    lines = []
    for name, (handle, tls) in SERVERS.items():
        server = await asyncio.start_server(serving(handle), "127.0.0.1", 0, ssl=tls, family=socket.AF_INET)
        lines.append(f"{name} {server.sockets[0].getsockname()[1]}\n")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve_new_tls_alone, args=(listener,), daemon=True).start()
    lines.append(f"new-tls-alone {listener.getsockname()[1]}\n")
    with open(path + ".new", "w") as file:
        file.writelines(lines)
    os.rename(path + ".new", path)
    await asyncio.sleep(120)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
