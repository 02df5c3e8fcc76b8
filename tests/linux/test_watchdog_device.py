"""The kernel's watchdog, played by the test."""

import struct

from shared.expect import raises
from wayhomed.linux.errors import DataPlaneError
from wayhomed.linux.watchdog_device import WatchdogDevice
from wayhomed.port import const

_SETTIMEOUT = const(0xC0045706)
_GETTIMEOUT = const(0x80045707)


class Kernel:
    """C's calls as the kernel's watchdog answers them: timeout_s is what its driver has, or can't do else."""

    def __init__(self, timeout_s, settable=True):
        self.timeout_s = timeout_s
        self.settable = settable
        self.calls = []

    def func(self, _result, name, _arguments):
        return getattr(self, name)

    def open(self, path, flags, _mode):
        self.calls.append("open " + path)
        assert flags & 3 == 1
        return 7

    def ioctl(self, descriptor, request, buffer):
        assert descriptor == 7
        if request == _SETTIMEOUT:
            if not self.settable:
                return -1
            self.timeout_s = struct.unpack("i", buffer)[0]
        else:
            assert request == _GETTIMEOUT
        buffer[:] = struct.pack("i", self.timeout_s)
        return 0

    def write(self, _descriptor, data, size):
        self.calls.append("write " + str(data[:size], "utf-8"))
        return size

    def close(self, _descriptor):
        self.calls.append("close")
        return 0


def test_it_is_asked_for_a_minute_and_fed_with_anything_but_the_magic_letter():
    kernel = Kernel(10)
    device = WatchdogDevice("/dev/watchdog", kernel)
    assert device.period_ms == 60_000
    device.feed()
    assert kernel.calls == ["open /dev/watchdog", "write \0"]


def test_a_driver_with_a_period_of_its_own_is_fed_at_that():
    assert WatchdogDevice("/dev/watchdog", Kernel(16, False)).period_ms == 16_000


def test_a_clean_stop_switches_it_off_and_a_hand_over_does_not():
    kernel = Kernel(60)
    WatchdogDevice("/dev/watchdog", kernel).release()
    assert kernel.calls[1:] == ["write V", "close"]
    kernel = Kernel(60)
    WatchdogDevice("/dev/watchdog", kernel).hand_over()
    assert kernel.calls[1:] == ["write \0", "close"]


def test_what_is_no_watchdog_is_refused_in_words():
    for path, why in (("/dev/no-such-watchdog", "there is none"), ("/dev/null", "it is no watchdog")):
        error = str(raises(DataPlaneError, WatchdogDevice, path))
        assert path in error
        assert why in error
        assert "--watchdog" in error
