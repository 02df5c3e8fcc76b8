"""What the kernel tells of changes to nftables: whose they were, and whether our table was touched.

A change ends with the news of a new generation, which names the process that made it. Numbers are big-endian.
Source: Linux, <linux/netfilter/nf_tables.h>: NFNLGRP_NFTABLES, NFTA_GEN_*.
"""

from wayhomed.port import const, packets
from wayhomed.wire.errors import BadWire

from . import netlink
from .nft_rules import FAMILIES, NETFILTER, SUBSYSTEM

_GROUP = (7,)
_DELTABLE = const(2)
_NEWGEN = const(15)
_DELFLOWTABLE = const(24)
_GENERATION_PID = const(2)
_GENERATION_NAME = const(3)
_READ_BYTES = const(65_536)
_ENOBUFS = const(105)
# Chosen by us
_BUFFER_BYTES = const(1_048_576)
_MOST_READS = const(64)  # at once, of what somebody changes without end


class Change:
    """One change: the process's number, its name or ""; ours: it touched our table; deleted: all of our table.

    lost: the kernel had more to tell than we could hear, so anything may have changed, by anybody.
    """

    def __init__(self):
        self.pid = 0
        self.name = ""
        self.ours = False
        self.deleted = False
        self.lost = False


class NewsReader:
    """Messages -> Changes, however reads cut between messages. family, table: of ours, as "inet", "wayhome"."""

    def __init__(self, family: str, table: str):
        self._family = family
        self._table = table.encode() + b"\0"
        self._change = Change()

    def feed(self, data: bytes) -> list:
        """Return the Changes that this read completed. Raises BadWire."""
        done = []
        for kind, _flags, _sequence, payload in netlink.decode_messages(data):
            if kind & 0xFF00 != SUBSYSTEM or len(payload) < 4:
                continue
            kind &= 0xFF
            values = netlink.decode_attributes(payload, 4)
            if kind == _NEWGEN:
                self._change.pid = int.from_bytes(values.get(_GENERATION_PID, b""), "big")
                self._change.name = _name(values.get(_GENERATION_NAME, b""))
                done.append(self._change)
                self._change = Change()
            elif kind <= _DELFLOWTABLE and FAMILIES.get(payload[0]) == self._family and values.get(1) == self._table:
                self._change.ours = True
                if kind == _DELTABLE:
                    self._change.deleted = True
        return done


def _name(value: bytes) -> str:
    """Return a process's name, which may hold any bytes, as plain text."""
    return "".join([chr(byte) if 32 <= byte < 127 else "?" for byte in value.rstrip(b"\0")])


class News:
    """The news of this network namespace from now on. Raises OSError."""

    def __init__(self, family: str, table: str):
        self._reader = NewsReader(family, table)
        self._socket = packets.netlink_news_socket(_GROUP, NETFILTER)
        try:
            packets.set_receive_buffer(self._socket, _BUFFER_BYTES)
        except OSError:
            pass  # what does not fit is told as lost

    def close(self) -> None:
        self._socket.close()

    async def changes(self) -> list:
        """Wait for news; return the Changes that are complete by now, perhaps none."""
        await packets.wait_readable(self._socket)
        return self.now()

    def now(self) -> list:
        """Return the Changes that were told already."""
        found: list = []
        for _ in range(_MOST_READS):
            try:
                data = self._socket.recv(_READ_BYTES)
                found.extend(self._reader.feed(data))
            except OSError as error:
                if error.errno == packets.EAGAIN:
                    break
                if error.errno != _ENOBUFS:
                    raise
                lost = Change()
                lost.ours = lost.lost = True
                found.append(lost)
            except BadWire:
                continue
        return found
