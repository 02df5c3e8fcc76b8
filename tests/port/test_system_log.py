"""The system's log, played by a socket of the test's own."""

import os
import socket
from binascii import hexlify

from shared.expect import raises
from wayhomed.port import packets, random_bytes, runtime

PATH = "/tmp/wayhome-log-test-" + hexlify(random_bytes(6)).decode()
LINES = 5_000  # more than a socket holds


class Listener:
    def __init__(self, name: str):
        self.path = PATH + name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(packets.unix_address(self.path))

    def close(self) -> None:
        self.socket.close()
        os.remove(self.path)


def own_pid() -> str:
    with open("/proc/self/stat") as file:
        return file.read(16).split(" ")[0]


def test_a_line_has_its_facility_and_severity_our_name_and_number():
    listener = Listener("1")
    log = runtime.SystemLog(listener.path)
    log.write(6, "relay home: connected")
    log.write(3, "größer")
    assert str(listener.socket.recv(200), "utf-8") == "<30>wayhomed[" + own_pid() + "]: relay home: connected"
    assert str(listener.socket.recv(200), "utf-8") == "<27>wayhomed[" + own_pid() + "]: größer"
    listener.close()


def test_a_log_that_is_not_there_is_an_oserror():
    assert raises(OSError, runtime.SystemLog, PATH + "none").errno == 2


def test_a_log_that_nobody_reads_or_that_ends_keeps_nobody_waiting():
    listener = Listener("2")
    log = runtime.SystemLog(listener.path)
    for number in range(LINES):
        log.write(6, f"line {number}")
    assert str(listener.socket.recv(200), "utf-8").endswith(": line 0")
    listener.close()
    log.write(6, "into the void")
