"""The one door to the runtime: clock, randomness, crypto, sockets, processes, signals, files.

Nothing outside this folder asks which Python runs it. Modules that differ come in pairs, one for each runtime, and the
module without a suffix chooses.
"""

import sys

MICROPYTHON = sys.implementation.name == "micropython"

if MICROPYTHON:
    from .micropython import const, monotonic_ms, monotonic_us, random_bytes
else:
    from .cpython import const, monotonic_ms, monotonic_us, random_bytes

__all__ = ["MICROPYTHON", "const", "monotonic_ms", "monotonic_us", "random_bytes"]
