"""Clocks and time servers that the tests own. CPython only."""

import asyncio
import os
from contextlib import asynccontextmanager

from wayhomed.agent.version import BUILD_S
from wayhomed.helper.main import Helper
from wayhomed.helper.set_clock import ClockSetter
from wayhomed.wire import ntp
from wayhomed.wire.errors import BadWire

NOW_S = BUILD_S + 90 * 86_400
Y2099_S = 4_070_908_800


class FakeMachine:
    """A machine's clocks: port.system_clock for one process. shows_ms: its wall clock; kept: by another service."""

    def __init__(self, shows_s: int, boot: str = "this boot"):
        self.shows_ms = shows_s * 1000
        self.boot = boot
        self.up = 50_000
        self.kept = False
        self.slewed_ms = self.rtc_ms = 0

    def wall_ms(self) -> int:
        return self.shows_ms

    def up_ms(self) -> int:
        return self.up

    def boot_id(self) -> str:
        return self.boot

    def is_kept(self) -> bool:
        return self.kept

    def set_wall_ms(self, time_ms: int) -> None:
        self.shows_ms = time_ms

    def slew(self, by_ms: int) -> None:
        self.slewed_ms = by_ms

    def write_rtc(self, time_ms: int, fields: tuple) -> bool:
        self.rtc_ms = time_ms
        return True

    def pass_s(self, seconds: float) -> None:
        self.shows_ms += int(seconds * 1000)
        self.up += int(seconds * 1000)


@asynccontextmanager
async def helping(machine: FakeMachine, path, interface: str = "no-such-tunnel"):
    """Run the real helper on these clocks; give its socket's path."""
    setter = ClockSetter(BUILD_S, interface, machine)
    serving = asyncio.create_task(Helper(str(path), [os.geteuid()], {"set-clock": setter.set_clock}).run())
    await asyncio.sleep(0)
    try:
        yield str(path)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


class FakeTimeServer(asyncio.DatagramProtocol):
    """A time server on a loopback address. answer(question) gives the datagrams to send back."""

    def __init__(self, time_s: int):
        self.time_s = time_s
        self.questions: list[bytes] = []
        self.answer = self.honest

    def honest(self, question: bytes) -> list[bytes]:
        return [ntp.encode_answer(question, self.time_s * 1000, self.time_s * 1000)]

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address) -> None:
        self.questions.append(data)
        try:
            answers = self.answer(data)
        except BadWire:
            return
        for each in answers:
            self.transport.sendto(each, address)


@asynccontextmanager
async def time_servers(*times_s: int):
    """Give ([FakeTimeServer], [address], port): servers that say these times."""
    loop = asyncio.get_running_loop()
    servers: list[FakeTimeServer] = []
    port = 0
    try:
        for number, time_s in enumerate(times_s):
            server = FakeTimeServer(time_s)
            await loop.create_datagram_endpoint(lambda s=server: s, local_addr=(f"127.0.0.{number + 1}", port))
            port = server.transport.get_extra_info("sockname")[1]
            servers.append(server)
        yield servers, [f"127.0.0.{number + 1}" for number in range(len(servers))], port
    finally:
        for server in servers:
            server.transport.close()
