"""The MicroPython clock's arithmetic, tried with a counter that wraps: its own 12 days are too long to wait for."""

import importlib.util
import sys
import types
from pathlib import Path

PERIOD = 1 << 30


def test_the_clocks_go_on_growing_when_ticks_wrap(monkeypatch):
    ticks = {"now": PERIOD - 10}
    time = types.ModuleType("time")
    time.ticks_ms = time.ticks_us = lambda: ticks["now"]
    time.ticks_diff = lambda a, b: (a - b + PERIOD // 2) % PERIOD - PERIOD // 2
    micropython = types.ModuleType("micropython")
    micropython.const = lambda value: value
    monkeypatch.setitem(sys.modules, "time", time)
    monkeypatch.setitem(sys.modules, "micropython", micropython)
    path = Path(__file__).parents[2] / "firmware/wayhomed/port/micropython.py"
    spec = importlib.util.spec_from_file_location("clock_under_test", path)
    clock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(clock)
    assert clock.monotonic_ms() == 0
    ticks["now"] = 5
    assert clock.monotonic_ms() == 15
    ticks["now"] = PERIOD // 3
    assert clock.monotonic_ms() == PERIOD // 3 + 10
    before_us = clock.monotonic_us()
    for ticks["now"] in (2 * PERIOD // 3, 0):
        clock.monotonic_us()
    ticks["now"] = PERIOD // 3 - 5
    assert clock.monotonic_us() - before_us == PERIOD - 5
