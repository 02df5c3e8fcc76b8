"""Generic netlink: the kernel's families of commands, each found by its name.

    message   netlink header | command 1 | version 1 | 0 2 | attributes

Source: <linux/genetlink.h>.
"""

import struct

from wayhomed.port import const

from . import netlink

PROTOCOL = const(16)
HEADER_BYTES = const(4)

_CONTROLLER = const(16)  # GENL_ID_CTRL
_GET_FAMILY = const(3)
_FAMILY_ID = const(1)
_FAMILY_NAME = const(2)
_CONTROLLER_VERSION = const(2)


def message(command: int, version: int, attributes: bytes = b"") -> bytes:
    """Return the payload of a netlink message of some family."""
    return struct.pack("BBH", command, version, 0) + attributes


def family(kernel, name: str) -> int:
    """Return the message type of a family. Raises OSError, ENOENT (2) where the kernel has none of this name.

    kernel: netlink.Netlink(PROTOCOL). The kernel loads the module of the family by itself where it may.
    """
    asked = message(_GET_FAMILY, _CONTROLLER_VERSION, netlink.attribute(_FAMILY_NAME, name.encode() + b"\0"))
    found = netlink.decode_attributes(kernel.ask(_CONTROLLER, asked), HEADER_BYTES)
    return struct.unpack("H", found[_FAMILY_ID])[0]
