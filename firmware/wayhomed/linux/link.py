"""Interfaces and their addresses over rtnetlink.

    ifinfomsg   family 1 | pad 1 | type 2 | index 4 | flags 4 | change 4
    ifaddrmsg   family 1 | prefix length 1 | flags 1 | scope 1 | index 4

Source: rtnetlink(7), <linux/if_link.h>, <linux/if_addr.h>.
"""

import struct

from wayhomed.port import const

from . import netlink

_NEWLINK = const(16)
_DELLINK = const(17)
_GETLINK = const(18)
_NEWADDR = const(20)
_DELADDR = const(21)
_GETADDR = const(22)
_IFLA_IFNAME = const(3)
_IFLA_MTU = const(4)
_IFLA_LINKINFO = const(18)
_IFLA_INFO_KIND = const(1)
_IFA_ADDRESS = const(1)
_IFA_LOCAL = const(2)
_IFA_FLAGS = const(8)
_IFF_UP = const(1)
_IFA_F_NODAD = const(2)
_IFF_LOOPBACK = const(8)
_IFF_RUNNING = const(0x40)
# deprecated, detection of duplicates failed, and not yet done
_IFA_F_NOT_FOR_OTHERS = const(0x20 | 0x08 | 0x40)
_ENODEV = const(19)
_SCOPE_LINK = const(253)

FAMILY = {4: const(2), 16: const(10)}  # AF_INET and AF_INET6 by the length of an address


class Link:
    """One interface: index, name, MTU in bytes, whether it is up; kind: of a virtual one ("veth"), else ""; is_running:
    it has a link, that is, a cable or a partner.
    """

    def __init__(self, index: int, name: str, mtu_bytes: int, is_up: bool, kind: str = "", is_running: bool = True):
        self.index = index
        self.name = name
        self.mtu_bytes = mtu_bytes
        self.is_up = is_up
        self.kind = kind
        self.is_running = is_running


class Address:
    """An address of an interface: interface index, ip bytes, prefix length, link-local or not."""

    def __init__(self, index: int, ip: bytes, length: int, is_link_local: bool):
        self.index = index
        self.ip = ip
        self.length = length
        self.is_link_local = is_link_local


def _info(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("BxHiII", 0, 0, index, flags, change)


def links(kernel) -> list:
    """Return all Links of this network namespace."""
    found = []
    for payload in kernel.dump(_GETLINK, _info()):
        found.append(_link(payload))
    return found


def _link(payload: bytes) -> Link:
    index, flags = struct.unpack_from("iI", payload, 4)
    values = netlink.decode_attributes(payload, 16)
    name = str(values[_IFLA_IFNAME][:-1], "utf-8")
    mtu_bytes = struct.unpack("I", values[_IFLA_MTU])[0] if _IFLA_MTU in values else 0
    kind = netlink.decode_attributes(values.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
    kind_text = str(kind, "utf-8").rstrip("\0")
    return Link(index, name, mtu_bytes, bool(flags & _IFF_UP), kind_text, bool(flags & _IFF_RUNNING))


def find(kernel, name: str):
    """Return the Link of this name, or None."""
    for link in links(kernel):
        if link.name == name:
            return link
    return None


def is_there(kernel, index: int, name: str) -> bool:
    """Tell whether this interface is there, under this name."""
    try:
        return _link(kernel.ask(_GETLINK, _info(index))).name == name
    except OSError as error:
        if error.errno != _ENODEV:
            raise
        return False


def create(kernel, name: str, kind: str) -> None:
    """Make a virtual interface. Raises OSError: EEXIST (17) if the name is taken, EOPNOTSUPP (95) for an unknown kind.

    The kernel loads the module of the kind by itself where there is one.
    """
    kernel.change(
        _NEWLINK,
        netlink.CREATE | netlink.EXCLUSIVE,
        _info()
        + netlink.attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + netlink.nested(_IFLA_LINKINFO, netlink.attribute(_IFLA_INFO_KIND, kind.encode())),
    )


def bring_up(kernel, index: int, mtu_bytes: int) -> None:
    """Set the MTU and the interface up. Raises OSError."""
    kernel.change(_NEWLINK, 0, _info(index, _IFF_UP, _IFF_UP) + netlink.attribute_u32(_IFLA_MTU, mtu_bytes))


def take_down(kernel, index: int) -> None:
    """Set an interface down; the kernel forgets the routes that lead through it. Raises OSError."""
    kernel.change(_NEWLINK, 0, _info(index, 0, _IFF_UP))


def delete(kernel, index: int) -> None:
    """Delete an interface; one that is gone already is no error."""
    try:
        kernel.change(_DELLINK, 0, _info(index))
    except OSError as error:
        if error.errno != _ENODEV:
            raise


def addresses(kernel) -> list:
    """Return all Addresses of this network namespace."""
    found = []
    for payload in kernel.dump(_GETADDR, _info()):
        _family, length, _flags, scope, index = struct.unpack_from("BBBBi", payload)
        values = netlink.decode_attributes(payload, 8)
        ip = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if ip:
            found.append(Address(index, ip, length, scope == _SCOPE_LINK))
    return found


def _address(index: int, ip: bytes) -> bytes:
    # A lone address without duplicate detection: nobody else is on a tunnel to ask.
    head = struct.pack("BBBBi", FAMILY[len(ip)], 8 * len(ip), 0, 0, index)
    return (
        head
        + netlink.attribute(_IFA_LOCAL, ip)
        + netlink.attribute(_IFA_ADDRESS, ip)
        + netlink.attribute_u32(_IFA_FLAGS, _IFA_F_NODAD)
    )


def add_address(kernel, index: int, ip: bytes) -> None:
    """Give an interface one /32 or /128; one that it has already is left. Raises OSError."""
    kernel.change(_NEWADDR, netlink.CREATE | netlink.REPLACE, _address(index, ip))


def remove_address(kernel, index: int, ip: bytes) -> None:
    kernel.change(_DELADDR, 0, _address(index, ip))


def reachable_addresses(kernel, without: int) -> list:
    """Return the ips that others may reach this machine by: of running interfaces but for loopback and `without`."""
    running = set()
    for payload in kernel.dump(_GETLINK, _info()):
        index, flags = struct.unpack_from("iI", payload, 4)
        if flags & _IFF_UP and flags & _IFF_RUNNING and not flags & _IFF_LOOPBACK and index != without:
            running.add(index)
    found = []
    for payload in kernel.dump(_GETADDR, _info()):
        _family, _length, flags, scope, index = struct.unpack_from("BBBBi", payload)
        values = netlink.decode_attributes(payload, 8)
        if _IFA_FLAGS in values:
            flags = struct.unpack("I", values[_IFA_FLAGS])[0]
        ip = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if ip and index in running and scope != _SCOPE_LINK and not flags & _IFA_F_NOT_FOR_OTHERS:
            found.append(ip)
    return found
