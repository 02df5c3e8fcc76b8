"""Network interfaces whose other end is a program: what a guest's cables are plugged into.

Source: Linux, Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h.
"""

import contextlib
import fcntl
import os
import struct
import threading

from . import namespaces

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000  # large packets pass whole, as between virtual machines


def open_tap(name: str, namespace: str | None) -> int:
    """Return a descriptor of a new tap interface, which lies in a network namespace (a path; None is our own).

    The interface goes when the descriptor and its copies are closed. Raises OSError.
    """
    opened: list[int | OSError] = []

    def open_there() -> None:
        try:
            if namespace is not None:
                with contextlib.closing(_Descriptor(namespace)) as there:
                    namespaces.setns(there.number, namespaces.CLONE_NEWNET)
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            try:
                flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
                fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            except OSError:
                os.close(tap)
                raise
            opened.append(tap)
        except OSError as error:
            opened.append(error)

    # A thread of its own enters the namespace and ends: nobody has to find the way back.
    thread = threading.Thread(target=open_there)
    thread.start()
    thread.join()
    if isinstance(opened[0], OSError):
        raise opened[0]
    return opened[0]


class _Descriptor:
    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.number)
