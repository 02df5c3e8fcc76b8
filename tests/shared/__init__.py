"""The tests that CPython and MicroPython both run, and what runs them under MicroPython."""
