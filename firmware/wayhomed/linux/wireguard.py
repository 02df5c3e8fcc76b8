"""WireGuard behind one interface, whoever does the work: the kernel's module, or wireguard-go as our child."""

import os

from wayhomed.port import const, packets

from .errors import DataPlaneError

SOCKET = "/run/wireguard/%s.sock"  # wireguard-go's own choice, built in
_ENOENT = const(2)
_ECONNREFUSED = const(111)

AUTO = "auto"
KERNEL = "kernel"
USERSPACE = "userspace"
CHOICES = (AUTO, KERNEL, USERSPACE)


class BackEnd:
    """What every back end has; all but start() may be called only between start() and stop().

    Changes come one after another; device() and each_peer() may be called at any time, also in the midst of a change.
    name: what `wayhomectl status` calls it; takes_fake_source: whether Proxy.inject_from() leaves a peer's way as it
    was; outlives: whether the tunnel stands on when this process ends.
    """

    name = ""
    takes_fake_source = False
    outlives = False

    async def start(self, interface: str) -> None:
        """Make the interface, down, without key or peers."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Take away the interface and all that belongs to it."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open, instead of stop(): what outlives us stands on. Harmless after stop()."""
        raise NotImplementedError

    async def set_device(self, private_key: bytes, port: int, fwmark: int) -> None:
        """Set key, port and mark; peers stay."""
        raise NotImplementedError

    async def set_peers(self, changes: list) -> None:
        """Take PeerChanges, in their order; all or an error."""
        raise NotImplementedError

    async def device(self) -> "Device":
        """Return what WireGuard itself says."""
        raise NotImplementedError

    async def each_peer(self, use) -> None:
        """Call use(PeerStatus) for each peer, `allowed` left out perhaps; none is kept."""
        raise NotImplementedError

    async def ended(self) -> str:
        """Return, with a sentence that says why, if WireGuard stops by itself."""
        raise NotImplementedError


class NoKernelWireGuard(DataPlaneError):
    """This kernel has no WireGuard."""


class Device:
    """What a WireGuard says of itself: public key (b"" if it does not say), port, fwmark, and its peers by key."""

    def __init__(self):
        self.public_key = b""
        self.port = 0
        self.fwmark = 0
        self.peers = {}


class PeerStatus:
    """One peer as WireGuard sees it. endpoint: (ip, port) or None; handshake_s: seconds since 1970, 0 = never."""

    def __init__(self, public_key: bytes):
        self.public_key = public_key
        self.endpoint: tuple | None = None
        self.allowed: list = []
        self.received_bytes = 0
        self.sent_bytes = 0
        self.handshake_s = 0


class PeerChange:
    """One step on one peer. allowed: prefixes to add, after dropping the present ones if replace_allowed."""

    def __init__(self, public_key: bytes):
        self.public_key = public_key
        self.remove = False
        self.update_only = False  # do nothing if there is no such peer
        self.endpoint: tuple | None = None  # (ip bytes, port)
        self.replace_allowed = False
        self.allowed: list = []


def changes_between(old: dict, new: dict, endpoints: dict) -> list:
    """Return the PeerChanges that lead from old to new, both {public key: set of prefixes}.

    endpoints: {public key: (ip, port)}, set for new peers alone. A prefix leaves its old peer before it comes to its
    new one: WireGuard would let the last one win silently.
    """
    changes = []
    for key in old:
        if key not in new:
            change = PeerChange(key)
            change.remove = True
            changes.append(change)
    for key in new:
        if key in old and old[key] - new[key]:
            change = PeerChange(key)
            change.update_only = change.replace_allowed = True
            change.allowed = sorted(old[key] & new[key])
            changes.append(change)
    for key in new:
        if key not in old:
            change = PeerChange(key)
            change.endpoint = endpoints[key]
            change.allowed = sorted(new[key])
            changes.append(change)
        elif new[key] - old[key]:
            change = PeerChange(key)
            change.update_only = True
            change.allowed = sorted(new[key] - old[key])
            changes.append(change)
    return changes


async def choose(wanted: str, interface: str, wireguard_go: str):
    """Return a back end that has made its interface: the one that is wanted, AUTO the kernel's where it has one.

    The modules are loaded when they are used: a board that has the one never pays for the other.
    Raises DataPlaneError, OSError.
    """
    missing = None
    if wanted != USERSPACE:
        from .kernel_wireguard import KernelWireGuard

        kernel = KernelWireGuard()
        try:
            await kernel.start(interface)
            return kernel
        except NoKernelWireGuard as error:
            if wanted == KERNEL:
                raise
            missing = error
    from .userspace_wireguard import NotInstalled, UserspaceWireGuard

    userspace = UserspaceWireGuard(wireguard_go)
    try:
        await userspace.start(interface)
    except NotInstalled as error:
        raise DataPlaneError("%s; %s" % (missing, error) if missing else str(error))
    return userspace


def standing(kernel, interface: str):
    """Return a back end that has taken hold of a tunnel that stands already, None if there is none.

    kernel: linux.netlink.Netlink. Only the kernel's outlives its daemon. Raises OSError.
    """
    from .kernel_wireguard import KernelWireGuard, is_wireguard

    if not is_wireguard(kernel, interface):
        return None
    found = KernelWireGuard()
    found.adopt(interface)
    return found


def remove_socket(interface: str) -> None:
    """Take away the socket of a child that outlived us; a wireguard-go that still runs ends when its socket goes."""
    try:
        os.remove(SOCKET % interface)
    except OSError as error:
        if error.errno != _ENOENT:
            raise


def remove_dead_socket(interface: str) -> bool:
    """Take away a socket that nobody answers at; False if somebody does.

    All network namespaces of a machine may share the folder: who answers may be another namespace's wireguard-go.
    """
    asking = packets.unix_stream()
    try:
        asking.connect(packets.unix_address(SOCKET % interface))
        return False
    except OSError as error:
        if error.errno not in (_ENOENT, _ECONNREFUSED):
            return False  # it has no time for us, or belongs to others
    finally:
        asking.close()
    remove_socket(interface)
    return True
