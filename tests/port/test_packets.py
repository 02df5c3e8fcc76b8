"""Sockets that give packets: one read, one packet, whatever the buffer holds."""

from shared.expect import raises
from wayhomed.port import packets


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
