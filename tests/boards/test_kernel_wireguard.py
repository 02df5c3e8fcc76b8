"""The data plane's tests on a kernel that has WireGuard: the very ones that run on this machine beside wireguard-go.

The rest of them is in test_kernel_wireguard_paths.py, so that two guests share the work.
"""

RUN_IN_GUEST = ["linux/test_dataplane_lab_cpython.py", "linux/test_many_peers_lab_cpython.py"]
