"""WireGuard behind one interface, whoever does the work: so far the userspace one, wireguard-go as our child.

Every back end has these; all but the first two may be called only between start() and stop():

    await start(interface)                        make the interface, down, without key or peers
    await stop()                                  the interface and all that belongs to it is gone
    await set_device(private_key, port, fwmark)   peers stay
    await set_peers(changes)                      PeerChanges, in their order; all or an error
    await device()                                a uapi.Device: what WireGuard itself says
    await ended()                                 returns, with a sentence that says why, if WireGuard stops by itself
    takes_fake_source                             whether Proxy.inject_from() leaves a peer's way as it was
"""

import asyncio
import os

from wayhomed.port import const, packets, process
from wayhomed.port.tasks import limited
from wayhomed.wire.errors import BadWire

from . import uapi
from .errors import DataPlaneError

_SOCKET = "/run/wireguard/%s.sock"  # wireguard-go's own choice, built in
_START_MS = const(5_000)
_POLL_MS = const(10)
_ANSWER_S = const(10)  # a set of 500 peers takes it 60 ms on a small machine
_END_S = const(3)
_READ_BYTES = const(65_536)
_MAX_ANSWER_BYTES = const(8_388_608)  # some 20,000 peers
_ENOENT = const(2)
_ECONNREFUSED = const(111)


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


class UserspaceWireGuard:
    """wireguard-go, started in the foreground form and spoken to over its UNIX socket."""

    # It answers through the interface that a peer's packet came in by: after an injected one through lo, to nobody.
    takes_fake_source = False

    def __init__(self, program: str = "wireguard-go"):
        self._program = program
        self._interface = ""
        self._child: process.Child = None  # type: ignore[assignment]  # between start() and stop()

    async def start(self, interface: str) -> None:
        """Start the child and wait until it answers. Raises DataPlaneError."""
        self._interface = interface
        remove_leftover(interface)
        try:
            # -f keeps it in the foreground; the variable says that it was told so already, which spares a banner.
            self._child = process.Child(
                [self._program, "-f", interface], {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
            )
        except OSError as error:
            if error.errno == _ENOENT:
                raise DataPlaneError("%s is not installed; install the package wireguard-go" % self._program)
            raise DataPlaneError("%s does not start: %s" % (self._program, error))
        waited_ms = 0
        while True:
            try:
                await self.device()
                return
            except OSError as error:
                if error.errno not in (_ENOENT, _ECONNREFUSED):
                    raise
            if self._child.exit_code() is not None:
                raise DataPlaneError(
                    "%s ended at once with code %s; it needs /dev/net/tun, CAP_NET_ADMIN and the name %s free"
                    % (self._program, self._child.exit_code(), interface)
                )
            if waited_ms >= _START_MS:
                await self.stop()
                raise DataPlaneError("%s does not answer on %s" % (self._program, _SOCKET % interface))
            await asyncio.sleep(_POLL_MS / 1000)
            waited_ms += _POLL_MS

    async def stop(self) -> None:
        """End the child; its interface goes with it."""
        if self._child is not None:
            await process.end(self._child, _END_S)
            self._child = None  # type: ignore[assignment]
            remove_leftover(self._interface)

    async def set_device(self, private_key: bytes, port: int, fwmark: int) -> None:
        """Set key, port and mark of the device. Raises DataPlaneError, for example if the port is taken."""
        await self._set(uapi.encode_device(private_key, port, fwmark), "key and port %d" % port)

    async def set_peers(self, changes: list) -> None:
        if changes:
            await self._set(uapi.encode_peers(changes), "%d peers" % len(changes))

    async def device(self):
        """Return a uapi.Device. Raises OSError if it does not answer."""
        try:
            return uapi.decode_device(await self._exchange(uapi.GET))
        except BadWire as error:
            raise DataPlaneError("%s answers in a way we don't know: %s" % (self._program, error))

    async def ended(self) -> str:
        """Wait until the child ends by itself; return a sentence about it."""
        child = self._child
        code = await child.wait()
        return "%s ended with code %d" % (self._program, code)

    async def _set(self, request: bytes, what: str) -> None:
        try:
            failure = uapi.decode_errno(await self._exchange(request))
        except (OSError, BadWire) as error:
            raise DataPlaneError("%s did not take %s: %s" % (self._program, what, error))
        if failure:
            raise DataPlaneError("%s refused %s (errno %d)" % (self._program, what, failure))

    async def _exchange(self, request: bytes) -> bytes:
        try:
            return await limited(self._ask(request), _ANSWER_S)
        except asyncio.TimeoutError:
            raise DataPlaneError("%s does not answer any more" % self._program)

    async def _ask(self, request: bytes) -> bytes:
        link = packets.unix_stream()
        try:
            link.connect(packets.unix_address(_SOCKET % self._interface))
            sent = 0
            while sent < len(request):
                try:
                    sent += link.send(request[sent:])
                except OSError as error:
                    if error.errno != packets.EAGAIN:
                        raise
                    await packets.wait_writable(link)
            answer = b""
            while not uapi.is_whole(answer):
                try:
                    part = link.recv(_READ_BYTES)
                except OSError as error:
                    if error.errno != packets.EAGAIN:
                        raise
                    await packets.wait_readable(link)
                    continue
                answer += part
                if not part or len(answer) > _MAX_ANSWER_BYTES:
                    raise BadWire("an answer that does not end")
            return answer
        finally:
            link.close()


def remove_leftover(interface: str) -> None:
    """Take away the socket of a child that outlived us; a wireguard-go that still runs ends when its socket goes."""
    try:
        os.unlink(_SOCKET % interface)
    except OSError as error:
        if error.errno != _ENOENT:
            raise
