"""C libraries, the same calls on both Pythons: MicroPython's ffi, and its manners built on ctypes.

    library = open_library(("libnftables.so.1",))         # the first that can be opened; OSError if none can
    run = library.func("i", "nft_run_cmd_from_buffer", "ps")
    close_library(library)                                # nothing of it may be called any more

Type codes: v nothing, i int, I unsigned, Q 64-bit unsigned, L size_t, p and P pointer, s text that ends in a zero byte.
A pointer argument may be None, an address (int), bytes or a bytearray; a pointer result is an int or None.
"""

from . import MICROPYTHON

if MICROPYTHON:
    from .ffi_micropython import LIBRARIES_CLOSE, address_of, close_library, errno_after_call, open_library
else:
    from .ffi_cpython import LIBRARIES_CLOSE, address_of, close_library, errno_after_call, open_library

__all__ = ["LIBRARIES_CLOSE", "address_of", "close_library", "errno_after_call", "libc", "open_library"]

_libc = None


def libc():
    """Return the C library that this process runs on."""
    global _libc
    if _libc is None:
        _libc = open_library((None,))
    return _libc
