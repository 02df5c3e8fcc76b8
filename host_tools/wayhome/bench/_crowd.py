"""Peers for a benchmark: nodes that register and say where they are, and are then silent.

Run inside a lab's host as `python -m wayhome.bench._crowd HOST PORT FIRST COUNT`, the auth key on its standard input.
"""

import asyncio
import sys

from wayhomed.wire.keys import MACHINE, key_from_text

from ..errors import HostError
from .control_client import ControlClient

_AT_ONCE = 8


async def server_key(host: str, port: int) -> bytes:
    """Return a coordinator's Noise key."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /key?v=130 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    start = answer.index('"publicKey":"') + len('"publicKey":"')
    return key_from_text(MACHINE, answer[start : start + 69])


async def join(host: str, port: int, auth_key: str, numbers: range) -> None:
    """Register as many nodes, each as a client of average size would describe itself."""
    key = await server_key(host, port)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            client = await ControlClient.connect(host, port, key)
            name = f"device-{number}"
            client.hostinfo |= {"Hostname": name, "GoVersion": "go1.25", "OSVersion": "6.12", "DeviceModel": "board"}
            answer = await client.register(auth_key=auth_key, hostname=name)
            if not answer["MachineAuthorized"]:
                raise HostError(f"{name} was refused: {answer['Error']}")
            client.hostinfo["NetInfo"] = {"PreferredDERP": 900}
            low = f"{number >> 8 & 255}.{number & 255}"
            await client.update(Endpoints=[f"198.18.{low}:41641", f"192.168.{low}:41641"])
            client.close()

    await asyncio.gather(*(one(number) for number in numbers))


def main(words: list[str]) -> None:
    host, port, first, count = words[0], *map(int, words[1:])
    asyncio.run(join(host, port, sys.stdin.readline().strip(), range(first, first + count)))


if __name__ == "__main__":
    main(sys.argv[1:])
