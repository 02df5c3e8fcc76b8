"""Direct paths, held endpoints, shared port and adoption on the kernel's WireGuard; see test_kernel_wireguard.py."""

RUN_IN_GUEST = [
    "linux/test_[!dm]*_lab_cpython.py",
    "boards/inside/test_*.py",
]
