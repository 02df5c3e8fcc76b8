"""wayhomed: the board's daemon, in the subset that MicroPython and CPython share.

`wire` turns bytes into messages, `core` turns messages and time into decisions, `linux` asks the kernel, `port` is the
one door to the runtime, and `agent` ties them to sockets, timers and files.
"""
