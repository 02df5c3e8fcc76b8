"""The data plane's tests on a kernel that has WireGuard: the very ones that run on this machine beside wireguard-go."""

RUN_IN_GUEST = ["linux/test_*_lab_cpython.py", "boards/inside/test_*.py"]
