"""The kernel's table of neighbours, who has which address on a link, over rtnetlink.

    ndmsg    family 1 | pad 3 | interface 4 | state 2 | flags 1 | type 1

Source: rtnetlink(7), <linux/neighbour.h>.
"""

import struct

from wayhomed.port import const
from wayhomed.wire.errors import BadWire

from . import netlink

_GETNEIGH = const(30)
_NDA_DST = const(1)
_NDA_LLADDR = const(2)
_HEADER_BYTES = const(12)
_MAC_BYTES = const(6)
# ndm_state
INCOMPLETE = const(0x01)
REACHABLE = const(0x02)
STALE = const(0x04)
DELAY = const(0x08)
PROBE = const(0x10)
FAILED = const(0x20)
PERMANENT = const(0x80)
_KNOWN = const(0x9E)  # has a MAC that is not known to be wrong
_READ_BYTES = const(65_536)
_NO_FAMILY = const(0)


class Neighbour:
    """index: of the interface; ip; mac: b"" where nobody answered; state: the kernel's."""

    def __init__(self, index: int, ip: bytes, mac: bytes, state: int):
        self.index = index
        self.ip = ip
        self.mac = mac
        self.state = state

    def is_known(self) -> bool:
        """Tell whether somebody has answered at this address, and not failed to since."""
        return bool(self.state & _KNOWN) and len(self.mac) == _MAC_BYTES

    def has_failed(self) -> bool:
        """Tell whether a packet for this address found nobody."""
        return bool(self.state & FAILED)


def decode_neighbour(payload: bytes):
    """Return the Neighbour of one ndmsg, None for one without an IP address. Raises BadWire."""
    if len(payload) < _HEADER_BYTES:
        raise BadWire("a neighbour that is cut short")
    index, state = struct.unpack_from("iH", payload, 4)
    values = netlink.decode_attributes(payload, _HEADER_BYTES)
    ip = values.get(_NDA_DST, b"")
    if len(ip) not in (4, 16):
        return None
    return Neighbour(index, ip, values.get(_NDA_LLADDR, b""), state)


def each_neighbour(kernel, use) -> None:
    """Call use(Neighbour) for each of the table's entries; never is the whole table held. Raises OSError, BadWire."""
    kernel.begin_dump(_GETNEIGH, struct.pack("BxxxiHBB", _NO_FAMILY, 0, 0, 0, 0))
    buffer = bytearray(_READ_BYTES)

    def take(start: int, end: int) -> None:
        found = decode_neighbour(bytes(buffer[start:end]))
        if found is not None:
            use(found)

    while kernel.continue_dump(buffer, take):
        pass
