"""What a server may take of the machine."""

import subprocess
import sys

from wayhome.http_front import FrontLimits
from wayhome.process_limits import within_file_limit

_RAISE = """
import resource
from wayhome.process_limits import raise_file_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
assert raise_file_limit() == hard
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
"""
# 300 buffers of 256 KiB, between each two a smaller one that stays, as TLS connections and what else lives bring them
_FRAGMENT = """
import ctypes
from wayhome.process_limits import give_back_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free(libc.malloc(400 * 1024))  # from here on glibc takes what is smaller from its heap
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before, small = resident(), []
for _ in range(2):
    large = []
    for _ in range(300):
        large.append(libc.malloc(256 * 1024))
        ctypes.memset(large[-1], 1, 256 * 1024)
        small.append(libc.malloc(64 * 1024))
    for one in large:
        libc.free(one)
print((resident() - before) // 1024)
give_back_memory()
print((resident() - before) // 1024)
"""


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_file_limit_is_raised_as_far_as_it_may_be():
    run(_RAISE)


def test_never_more_connections_than_open_files():
    limits = within_file_limit(FrontLimits(), 1024)
    assert (limits.connections, limits.strangers, limits.strangers_per_address) == (960, 480, 240)
    assert within_file_limit(FrontLimits(), 1_000_000) == FrontLimits()
    assert within_file_limit(FrontLimits(), 10).connections == 64


def test_large_buffers_go_back_to_the_kernel_although_small_ones_stay_between_them():
    kept, given_back = (int(line) for line in run(_FRAGMENT).split())
    assert kept > 60 * 1024 and given_back < kept / 3
