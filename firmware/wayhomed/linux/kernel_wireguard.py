"""The kernel's WireGuard over generic netlink. The interface: linux.wireguard.

    device    ifindex 1 | private key 3 | public key 4 | port 6 | fwmark 7 | peers 8
    peer      public key 1 | flags 3 | endpoint 4 | last handshake 6 | received 7 | sent 8 | allowed IPs 9
    allowed   family 1 | address 2 | prefix length 3

A message is at most as long as one read or one batch here; a peer with more allowed IPs than fit goes on in the next
one, in what we send and in what the kernel lists (there without its counters). Source: <linux/wireguard.h>.
"""

import asyncio
import struct

from wayhomed.port import const, packets
from wayhomed.wire.errors import BadWire

from . import genetlink, link, netlink
from .errors import DataPlaneError
from .wireguard import BackEnd, Device, NoKernelWireGuard, PeerStatus

# Fixed by the kernel
_FAMILY = "wireguard"
_VERSION = const(1)
_GET_DEVICE = const(0)
_SET_DEVICE = const(1)
_DEVICE_IFINDEX = const(1)
_DEVICE_PRIVATE_KEY = const(3)
_DEVICE_PUBLIC_KEY = const(4)
_DEVICE_PORT = const(6)
_DEVICE_FWMARK = const(7)
_DEVICE_PEERS = const(8)
_PEER_PUBLIC_KEY = const(1)
_PEER_FLAGS = const(3)
_PEER_ENDPOINT = const(4)
_PEER_HANDSHAKE = const(6)
_PEER_RECEIVED = const(7)
_PEER_SENT = const(8)
_PEER_ALLOWED = const(9)
_ALLOWED_FAMILY = const(1)
_ALLOWED_IP = const(2)
_ALLOWED_LENGTH = const(3)
_REMOVE = const(1)
_REPLACE_ALLOWED = const(2)
_UPDATE_ONLY = const(4)
_KEY_BYTES = const(32)
_AF_INET = const(2)
_AF_INET6 = const(10)
_TYPE_MASK = const(0x3FFF)
_ENOENT = const(2)
_EEXIST = const(17)
_ENODEV = const(19)
_EOPNOTSUPP = const(95)
_EADDRINUSE = const(98)
_ENOBUFS = const(105)
_LINK_NEWS = (1,)  # RTNLGRP_LINK

# Chosen by us
_MESSAGE_BYTES = const(8_192)
# In one message, after which the daemon's other tasks run: for each new peer the kernel computes a shared secret (0.1
# ms on a PC, 1 ms and more on an old board), and encoding it takes a small board as long.
_PEERS = const(16)
_READ_BYTES = const(16_384)  # the kernel lists as much at once as the buffer of the last read held
_DUMP_TRIES = const(5)


def encode_allowed(prefix: tuple) -> bytes:
    """Return one allowed IP."""
    ip, length = prefix
    return netlink.nested(
        0,
        netlink.attribute(_ALLOWED_FAMILY, struct.pack("H", link.FAMILY[len(ip)]))
        + netlink.attribute(_ALLOWED_IP, ip)
        + netlink.attribute(_ALLOWED_LENGTH, bytes([length])),
    )


def encode_endpoint(endpoint: tuple) -> bytes:
    """Return an (ip, port) as struct sockaddr_in or sockaddr_in6."""
    ip, port = endpoint
    if len(ip) == 4:
        return struct.pack("H", _AF_INET) + struct.pack(">H", port) + ip + bytes(8)
    return struct.pack("H", _AF_INET6) + struct.pack(">HI", port, 0) + ip + bytes(4)


def encode_peers(changes: list):
    """Give the values of as many WGDEVICE_A_PEERS as these PeerChanges take, to be sent one after the other.

    One at a time, for this takes a small board as long as the kernel's part. What is done to one peer in several steps
    in a row (removed and added anew) stays together.
    """
    batch = b""
    peers = 0
    before = b""
    for change in changes:
        parts = _peer_parts(change)
        joined = before == change.public_key
        before = change.public_key
        for part in parts:
            if batch and not joined and (len(batch) + len(part) > _MESSAGE_BYTES or peers >= _PEERS):
                yield batch
                batch = b""
                peers = 0
            joined = False
            batch += part
        peers += 1
    if batch:
        yield batch


def _peer_parts(change) -> list:
    """Return the peer, and once more for what its first message has no room for."""
    flags = 0
    if change.remove:
        flags = _REMOVE
    else:
        if change.update_only:
            flags |= _UPDATE_ONLY
        if change.replace_allowed:
            flags |= _REPLACE_ALLOWED
    head = _peer_head(change.public_key, flags)
    if change.endpoint is not None and not change.remove:
        head += netlink.attribute(_PEER_ENDPOINT, encode_endpoint(change.endpoint))
    parts = []
    allowed = b""
    for prefix in () if change.remove else change.allowed:
        one = encode_allowed(prefix)
        if len(head) + len(allowed) + len(one) > _MESSAGE_BYTES // 2:
            parts.append(netlink.nested(0, head + netlink.nested(_PEER_ALLOWED, allowed)))
            head = _peer_head(change.public_key, _UPDATE_ONLY)
            allowed = b""
        allowed += one
    if allowed:
        head += netlink.nested(_PEER_ALLOWED, allowed)
    parts.append(netlink.nested(0, head))
    return parts


def _peer_head(public_key: bytes, flags: int) -> bytes:
    return netlink.attribute(_PEER_PUBLIC_KEY, public_key) + netlink.attribute_u32(_PEER_FLAGS, flags)


def read_device(device: Device, use, data, start: int, end: int, with_allowed: bool = True) -> None:
    """Read one message of a listing: fields of the device into `device`, each PeerStatus to use(status).

    The attributes lie in data[start:end]. A peer that is continued comes again with more of its `allowed`, and without
    the rest. Raises BadWire.
    """
    at = start
    while at + 4 <= end:
        length, kind = _attribute(data, at, end)
        if kind == _DEVICE_PEERS:
            inner = at + 4
            while inner + 4 <= at + length:
                inner_length, _kind = _attribute(data, inner, at + length)
                use(_read_peer(data, inner + 4, inner + inner_length, with_allowed))
                inner += inner_length + 3 & ~3
        elif kind == _DEVICE_PUBLIC_KEY:
            device.public_key = _fixed(data, at, length, _KEY_BYTES)
        elif kind == _DEVICE_PORT and length >= 6:
            device.port = struct.unpack_from("H", data, at + 4)[0]
        elif kind == _DEVICE_FWMARK and length >= 8:
            device.fwmark = struct.unpack_from("I", data, at + 4)[0]
        at += length + 3 & ~3


def _read_peer(data, start: int, end: int, with_allowed: bool) -> PeerStatus:
    peer = PeerStatus(b"")
    at = start
    while at + 4 <= end:
        length, kind = _attribute(data, at, end)
        if kind == _PEER_PUBLIC_KEY:
            peer.public_key = _fixed(data, at, length, _KEY_BYTES)
        elif kind == _PEER_ENDPOINT:
            peer.endpoint = _endpoint(data, at + 4, length - 4)
        elif kind == _PEER_HANDSHAKE and length >= 12:
            peer.handshake_s = struct.unpack_from("q", data, at + 4)[0]
        elif kind == _PEER_RECEIVED and length >= 12:
            peer.received_bytes = struct.unpack_from("Q", data, at + 4)[0]
        elif kind == _PEER_SENT and length >= 12:
            peer.sent_bytes = struct.unpack_from("Q", data, at + 4)[0]
        elif kind == _PEER_ALLOWED and with_allowed:
            inner = at + 4
            while inner + 4 <= at + length:
                inner_length, _kind = _attribute(data, inner, at + length)
                peer.allowed.append(_allowed(data, inner + 4, inner + inner_length))
                inner += inner_length + 3 & ~3
        at += length + 3 & ~3
    if not peer.public_key:
        raise BadWire("a WireGuard peer without a key")
    return peer


def _allowed(data, start: int, end: int) -> tuple:
    ip = b""
    prefix_length = -1
    at = start
    while at + 4 <= end:
        length, kind = _attribute(data, at, end)
        if kind == _ALLOWED_IP:
            ip = bytes(data[at + 4 : at + length])
        elif kind == _ALLOWED_LENGTH and length >= 5:
            prefix_length = data[at + 4]
        at += length + 3 & ~3
    if len(ip) not in link.FAMILY or not 0 <= prefix_length <= 8 * len(ip):
        raise BadWire("an allowed IP that is none")
    return ip, prefix_length


def _attribute(data, at: int, end: int) -> tuple:
    length, kind = struct.unpack_from("HH", data, at)
    if length < 4 or at + length > end:
        raise BadWire("a netlink attribute of %d bytes" % length)
    return length, kind & _TYPE_MASK


def _fixed(data, at: int, length: int, size: int) -> bytes:
    if length != 4 + size:
        raise BadWire("a WireGuard field of %d bytes" % (length - 4))
    return bytes(data[at + 4 : at + length])


def _endpoint(data, at: int, length: int):
    """Return (ip, port) of a struct sockaddr, None for one of another family."""
    family = struct.unpack_from("H", data, at)[0] if length >= 2 else 0
    if family == _AF_INET and length >= 8:
        return bytes(data[at + 4 : at + 8]), struct.unpack_from(">H", data, at + 2)[0]
    if family == _AF_INET6 and length >= 24:
        return bytes(data[at + 8 : at + 24]), struct.unpack_from(">H", data, at + 2)[0]
    return None


def merge_peer(peers: dict, part: PeerStatus) -> None:
    """Put what one message says of a peer to what others said."""
    known = peers.get(part.public_key)
    if known is None:
        peers[part.public_key] = part
        return
    known.allowed.extend(part.allowed)
    known.endpoint = known.endpoint or part.endpoint
    known.received_bytes = max(known.received_bytes, part.received_bytes)
    known.sent_bytes = max(known.sent_bytes, part.sent_bytes)
    known.handshake_s = max(known.handshake_s, part.handshake_s)


def is_wireguard(kernel, interface: str) -> bool:
    """Tell whether there is an interface of this name, and it is a WireGuard of the kernel's."""
    found = link.find(kernel, interface)
    return found is not None and found.kind == _FAMILY


class KernelWireGuard(BackEnd):
    """One interface of type wireguard."""

    name = "kernel"
    outlives = True
    takes_fake_source = True

    def __init__(self):
        self._interface = ""
        self._index = 0
        self._family = 0
        self._sockets: list = []
        self._one_listing = asyncio.Lock()

    async def start(self, interface: str) -> None:
        """Make the interface. Raises NoKernelWireGuard; DataPlaneError; OSError, EPERM (1) without CAP_NET_ADMIN."""
        self._interface = interface
        self._open()
        try:
            link.create(self._kernel, interface, _FAMILY)
            self._take_hold()
        except OSError as error:
            await self.stop()
            if error.errno == _EOPNOTSUPP:
                raise NoKernelWireGuard("this kernel has no WireGuard (module wireguard)")
            if error.errno == _ENOENT:
                raise NoKernelWireGuard("this kernel's WireGuard has no generic netlink")
            if error.errno == _EEXIST:
                raise DataPlaneError("there is another interface %s; give another --interface" % interface)
            raise

    def adopt(self, interface: str) -> None:
        """Take hold of an interface that stands already. Raises OSError."""
        self._interface = interface
        self._open()
        try:
            self._take_hold()
        except OSError:
            self.close()
            raise

    def _open(self) -> None:
        """Open all sockets now: they belong to the network namespace that we are in at this moment."""
        self._kernel = netlink.Netlink()
        self._news = packets.netlink_news_socket(_LINK_NEWS)
        self._generic = netlink.Netlink(genetlink.PROTOCOL)
        self._lister = netlink.Netlink(genetlink.PROTOCOL)
        self._sockets = [self._kernel, self._news, self._generic, self._lister]

    def _take_hold(self) -> None:
        found = link.find(self._kernel, self._interface)
        if found is None:
            raise OSError(_ENODEV, "there is no interface " + self._interface)
        self._index = found.index
        self._family = genetlink.family(self._generic, _FAMILY)

    def close(self) -> None:
        """Close what is open; the tunnel stands on."""
        for opened in self._sockets:
            opened.close()
        self._sockets = []

    async def stop(self) -> None:
        """Delete the interface, unless it has gone."""
        try:
            if self._index:
                link.delete(self._kernel, self._index)
                self._index = 0
        finally:
            self.close()

    async def set_device(self, private_key: bytes, port: int, fwmark: int) -> None:
        """Set key, port and mark of the device. Raises DataPlaneError, for example if the port is taken."""
        attributes = (
            netlink.attribute(_DEVICE_PRIVATE_KEY, private_key)
            + netlink.attribute(_DEVICE_PORT, struct.pack("H", port))
            + netlink.attribute_u32(_DEVICE_FWMARK, fwmark)
        )
        try:
            self._set(attributes)
        except OSError as error:
            if error.errno == _EADDRINUSE:
                raise DataPlaneError("UDP port %d is taken by another program" % port)
            raise

    async def set_peers(self, changes: list) -> None:
        for value in encode_peers(changes):
            self._set(netlink.nested(_DEVICE_PEERS, value))
            await asyncio.sleep(0)

    def _set(self, attributes: bytes) -> None:
        asked = netlink.attribute_u32(_DEVICE_IFINDEX, self._index) + attributes
        self._generic.change(self._family, 0, genetlink.message(_SET_DEVICE, _VERSION, asked))

    async def device(self) -> Device:
        """Return a Device. Raises OSError."""
        for _ in range(_DUMP_TRIES):
            device = await self._device_once()
            if device is not None:
                return device
        raise DataPlaneError("the interface %s changes again and again" % self._interface)

    async def _device_once(self) -> Device | None:
        """Return the Device, None if it changed while it was listed."""
        device = Device()
        quiet = await self._list(device, lambda part: merge_peer(device.peers, part), True)
        return device if quiet else None

    async def each_peer(self, use) -> None:
        """Call use(PeerStatus) for each peer, without its allowed IPs. Raises OSError.

        If peers come or go meanwhile, one may be missing or come twice.
        """
        ask = _ListedOnce(use)
        await self._list(Device(), ask.take, False)

    async def _list(self, device: Device, use, with_allowed: bool) -> bool:
        """Have the kernel list the device; tell whether nothing changed meanwhile."""
        buffer = bytearray(_READ_BYTES)

        def take(start: int, end: int) -> None:
            read_device(device, use, buffer, start + genetlink.HEADER_BYTES, end, with_allowed)

        async with self._one_listing:
            asked = netlink.attribute_u32(_DEVICE_IFINDEX, self._index)
            self._lister.begin_dump(self._family, genetlink.message(_GET_DEVICE, _VERSION, asked))
            more = True
            try:
                while more:
                    more = self._lister.continue_dump(buffer, take)
                    await asyncio.sleep(0)  # 1,000 peers are 15 reads of 16 KB
            except BadWire as error:
                raise DataPlaneError("the kernel's WireGuard answers in a way we don't know: %s" % error)
            except OSError:
                more = False  # the refusal was the end
                raise
            finally:
                while more:  # nobody waits for the rest any more, but the next question must not meet it
                    more = self._lister.continue_dump(buffer, _skip)
            return not self._lister.dump_was_interrupted

    async def ended(self) -> str:
        """Wait until somebody else deletes the interface; return a sentence about it."""
        while link.is_there(self._kernel, self._index, self._interface):
            await packets.wait_readable(self._news)
            _throw_away(self._news)
        return "somebody deleted or renamed the interface " + self._interface


def _skip(_start: int, _end: int) -> None:
    pass


class _ListedOnce:
    """Hands on the first part of each peer: the ones that continue it say nothing but more allowed IPs."""

    def __init__(self, use):
        self._use = use
        self._last = b""

    def take(self, part: PeerStatus) -> None:
        if part.public_key != self._last:
            self._last = part.public_key
            self._use(part)


def _throw_away(news) -> None:
    """Read all that is there; that it was more than fitted is news, too."""
    while True:
        try:
            news.recv(_READ_BYTES)
        except OSError as error:
            if error.errno == packets.EAGAIN:
                return
            if error.errno != _ENOBUFS:
                raise
