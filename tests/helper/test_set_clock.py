from shared.expect import raises
from wayhomed.helper.refusal import Refused
from wayhomed.helper.set_clock import ClockSetter

BUILD_S = 1_793_491_200
NOW = 1_800_000_000_000
STANDS, DOWN = "lo", "no-such-tunnel"


class Machine:
    """Clocks that nobody else looks at."""

    def __init__(self, shows_ms):
        self.shows_ms = shows_ms
        self.done = []
        self.rtc_fails = False

    def wall_ms(self):
        return self.shows_ms

    def set_wall_ms(self, time_ms):
        self.done.append(("step", time_ms))

    def slew(self, by_ms):
        self.done.append(("slew", by_ms))

    def write_rtc(self, time_ms, fields):
        if self.rtc_fails:
            raise OSError(5, "input/output error")
        self.done.append(("rtc", fields))
        return True


def refused(machine, interface, **request):
    return str(raises(Refused, ClockSetter(BUILD_S, interface, machine).set_clock, request))


def asked(machine, interface=DOWN, **request):
    return ClockSetter(BUILD_S, interface, machine).set_clock(request)


def test_the_clock_is_stepped_forward_also_while_the_tunnel_stands():
    machine = Machine(0)
    assert asked(machine, STANDS, time_ms=NOW, how="step", rtc=True) == {"by_ms": NOW, "rtc": True}
    assert machine.done == [("step", NOW), ("rtc", (2027, 1, 15, 8, 0, 0))]


def test_the_clock_never_steps_back_while_the_tunnel_stands():
    for ahead in (1, 1000, 10**12):
        machine = Machine(NOW + ahead)
        refusal = refused(machine, STANDS, time_ms=NOW, how="step", rtc=True)
        assert "step back" in refusal
        assert machine.done == []


def test_without_a_tunnel_a_clock_that_is_too_late_is_set_right():
    machine = Machine(4_070_908_800_000)
    assert asked(machine, DOWN, time_ms=NOW, how="step")["rtc"] is False
    assert machine.done == [("step", NOW)]


def test_times_before_the_build_date_and_20_years_after_it_are_refused():
    for time_ms in (-5, 0, BUILD_S * 1000 - 1, (BUILD_S + 631_152_000) * 1000 + 1, 4_070_908_800_000, 1 << 80):
        for how in ("step", "slew", "leave"):
            machine = Machine(NOW)
            refused(machine, DOWN, time_ms=time_ms, how=how, rtc=True)
            assert machine.done == []


def test_a_clock_is_slewed_either_way_but_not_for_months():
    machine = Machine(NOW)
    assert asked(machine, STANDS, time_ms=NOW - 60_000, how="slew") == {"by_ms": -60_000, "rtc": False}
    assert asked(machine, STANDS, time_ms=NOW + 500, how="slew") == {"by_ms": 500, "rtc": False}
    assert machine.done == [("slew", -60_000), ("slew", 500)]
    refused(machine, STANDS, time_ms=NOW - 2_000_001, how="slew")


def test_the_battery_backed_clock_alone_is_set_where_the_other_must_be_left():
    machine = Machine(NOW + 10**10)
    assert asked(machine, STANDS, time_ms=NOW, how="leave", rtc=True) == {"by_ms": 0, "rtc": True}
    assert machine.done == [("rtc", (2027, 1, 15, 8, 0, 0))]


def test_a_broken_battery_backed_clock_is_no_reason_to_leave_the_other_wrong():
    machine = Machine(0)
    machine.rtc_fails = True
    assert asked(machine, time_ms=NOW, how="step", rtc=True)["rtc"] is False
    assert machine.done == [("step", NOW)]


def test_requests_that_make_no_sense_are_refused():
    for request in (
        {},
        {"time_ms": NOW},
        {"how": "step"},
        {"time_ms": str(NOW), "how": "step"},
        {"time_ms": NOW + 0.5, "how": "step"},
        {"time_ms": True, "how": "step"},
        {"time_ms": NOW, "how": "jump"},
        {"time_ms": NOW, "how": ["step"]},
        {"time_ms": NOW, "how": "step", "rtc": "yes"},
    ):
        machine = Machine(NOW)
        raises(Refused, ClockSetter(BUILD_S, DOWN, machine).set_clock, request)
        assert machine.done == []
