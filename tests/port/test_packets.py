"""Sockets that give packets: one read, one packet, whatever the buffer holds."""

import asyncio
import os
from binascii import hexlify

from shared.expect import raises
from wayhomed.port import packets, random_bytes
from wayhomed.port.tasks import within

LIMIT_MS = 60_000  # only ends a test that has failed


def test_a_read_into_a_larger_buffer_returns_with_what_is_there():
    here = packets.netlink_socket(0)
    # a dump of the machine's links, as one asks the kernel's route family: header of 16 bytes, then struct ifinfomsg
    here.send(b"\x20\0\0\0" + b"\x12\0\x01\x03" + b"\x01\0\0\0" + bytes(4) + bytes(16))
    buffer = bytearray(262144)
    size = packets.receive_into(here, buffer)
    assert 32 <= size < len(buffer)
    assert buffer[8:12] == b"\x01\0\0\0"  # the answer to our first question
    here.close()


def test_a_failed_read_has_its_number():
    here = packets.udp_socket()  # sockets for packets do not wait
    assert raises(OSError, packets.receive_into, here, bytearray(10)).errno == packets.EAGAIN
    here.close()


def test_who_waits_is_not_forgotten_with_the_one_before_who_was_cancelled():
    place = "/tmp/wayhome-packets-test-" + hexlify(random_bytes(6)).decode()

    async def packet_at(here):
        await packets.wait_readable(here)
        return here.recv(10)

    async def send_soon():
        for _ in range(10):
            await asyncio.sleep(0)
        there = packets.unix_datagram()
        there.connect(packets.unix_address(place))
        there.send(b"hello")
        there.close()

    async def main():
        here = packets.unix_datagram()
        here.bind(packets.unix_address(place))
        before = asyncio.create_task(packet_at(here))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before.cancel()  # it has not ended yet
        sending = asyncio.create_task(send_soon())
        packet = await packet_at(here)
        await sending
        here.close()
        return packet

    try:
        assert asyncio.run(within(LIMIT_MS, main(), "a packet")) == b"hello"
    finally:
        os.remove(place)
