"""The command "set-clock": the machine's clock and the battery-backed one, within limits that no caller can move.

    request   {"command": "set-clock", "time_ms": 1795435200000, "how": "step", "rtc": true}
    result    {"by_ms": 1234, "rtc": true}: how far the clock moves; whether the RTC was written

how: "step" sets it, "slew" makes it run faster or slower by 0.5 ms a second until it is right, "leave" touches the RTC
alone. Refused: what is no time between the build date and 20 years after it, and a step back while the tunnel stands.
"""

import os

from wayhomed.core import clock as clocks
from wayhomed.core import times
from wayhomed.port import system_clock

from .refusal import Refused

_HOWS = ("step", "slew", "leave")
_INTERFACES = "/sys/class/net/"


class ClockSetter:
    """build_s: the build date, seconds since 1970; interface: the tunnel's, whose presence forbids steps back.

    machine: what sets the clocks, port.system_clock or a test's.
    """

    def __init__(self, build_s: int, interface: str, machine=system_clock):
        self._build_s = build_s
        self._interface = interface
        self._machine = machine

    def set_clock(self, request: dict) -> dict:
        """Do what the request says; return the result. Raises Refused, OSError."""
        time_ms, how, rtc = request.get("time_ms"), request.get("how"), request.get("rtc", False)
        if not isinstance(time_ms, int) or time_ms is True or how not in _HOWS or rtc not in (True, False):
            raise Refused("set-clock takes time_ms, how (step, slew or leave) and rtc (true or false)")
        if not self._build_s * 1000 <= time_ms <= (self._build_s + clocks.BELIEVED_S) * 1000:
            raise Refused("a time before the build date of this helper, or 20 years after it, is not believed")
        by_ms = time_ms - self._machine.wall_ms()
        if how == "step":
            if by_ms < 0 and self._tunnel_stands():
                raise Refused("the clock does not step back while %s stands" % self._interface)
            self._machine.set_wall_ms(time_ms)
        elif how == "slew":
            if abs(by_ms) > clocks.MAX_SLEW_MS:
                raise Refused("that is too far to slew")
            self._machine.slew(by_ms)
        else:
            by_ms = 0
        return {"by_ms": by_ms, "rtc": rtc and self._write_rtc(time_ms)}

    def _tunnel_stands(self) -> bool:
        try:
            os.stat(_INTERFACES + self._interface)
        except OSError:
            return False
        return True

    def _write_rtc(self, time_ms: int) -> bool:
        # A board without one, or one that is broken, has its clock set all the same.
        try:
            return self._machine.write_rtc(time_ms, times.civil(time_ms // 1000))
        except OSError:
            return False
