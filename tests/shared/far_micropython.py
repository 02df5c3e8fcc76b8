# The end of a test that MicroPython runs: far_micropython.py FIRMWARE TESTS SOCKET; see far.py.
import asyncio
import gc
import socket
import sys

sys.path[:] = [sys.argv[1], sys.argv[2], ".frozen"]

from shared.far import Link, OtherEndIsGone  # noqa: E402 - the path comes first
from wayhomed.port.packets import unix_address, wait_readable  # noqa: E402


async def main() -> None:
    stream = socket.socket(1, 1 | 0x80000)  # AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC
    stream.connect(unix_address(sys.argv[3]))
    link = Link(stream, at_once=False)
    gc.threshold(512 * 1024)
    try:
        while True:
            await wait_readable(stream)
            link.serve_waiting()
    except OtherEndIsGone:
        pass


asyncio.run(main())
