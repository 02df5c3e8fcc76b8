"""wireguard-go as our child, spoken to over its UNIX socket: WireGuard where the kernel has none."""

import asyncio

from wayhomed.port import const, packets, process
from wayhomed.port.tasks import limited
from wayhomed.wire.errors import BadWire

from . import uapi
from .errors import DataPlaneError
from .wireguard import SOCKET, BackEnd, remove_dead_socket

_START_MS = const(5_000)
_POLL_MS = const(10)
_ANSWER_S = const(10)  # a set of 500 peers takes it 60 ms on a small machine
_END_S = const(3)
_READ_BYTES = const(65_536)
_MAX_ANSWER_BYTES = const(8_388_608)  # some 20,000 peers
_ENOENT = const(2)
_ECONNREFUSED = const(111)


class NotInstalled(DataPlaneError):
    """There is no such program."""


class UserspaceWireGuard(BackEnd):
    """wireguard-go, started in the foreground form. The interface: linux.wireguard."""

    name = "userspace"
    outlives = False
    # It answers through the interface that a peer's packet came in by: after an injected one through lo, to nobody.
    takes_fake_source = False

    def __init__(self, program: str = "wireguard-go"):
        self._program = program
        self._interface = ""
        self._child: process.Child = None  # type: ignore[assignment]  # between start() and stop()

    async def start(self, interface: str) -> None:
        """Start the child and wait until it answers. Raises DataPlaneError."""
        self._interface = interface
        if not remove_dead_socket(interface):
            raise DataPlaneError(
                "a wireguard-go that is not ours answers at %s, perhaps for another network namespace; stop it, or "
                "name another interface with --interface" % (SOCKET % interface)
            )
        try:
            # -f keeps it in the foreground; the variable says that it was told so already, which spares a banner.
            self._child = process.Child(
                [self._program, "-f", interface], {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
            )
        except OSError as error:
            if error.errno == _ENOENT:
                raise NotInstalled("%s is not installed; install the package wireguard-go" % self._program)
            raise DataPlaneError("%s does not start: %s" % (self._program, error))
        try:
            await self._until_it_answers()
        except BaseException:  # also when we are told to end meanwhile: nobody else knows of the child yet
            await self.stop()
            raise

    async def _until_it_answers(self) -> None:
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
                    % (self._program, self._child.exit_code(), self._interface)
                )
            if waited_ms >= _START_MS:
                raise DataPlaneError("%s does not answer on %s" % (self._program, SOCKET % self._interface))
            await asyncio.sleep(_POLL_MS / 1000)
            waited_ms += _POLL_MS

    async def stop(self) -> None:
        """End the child; its interface goes with it."""
        if self._child is not None:
            await process.end(self._child, _END_S)
            self._child = None  # type: ignore[assignment]
            remove_dead_socket(self._interface)

    def close(self) -> None:
        """Nothing is open between two questions."""

    async def set_device(self, private_key: bytes, port: int, fwmark: int) -> None:
        """Set key, port and mark of the device. Raises DataPlaneError, for example if the port is taken."""
        await self._set(uapi.encode_device(private_key, port, fwmark), "key and port %d" % port)

    async def set_peers(self, changes: list) -> None:
        if changes:
            await self._set(uapi.encode_peers(changes), "%d peers" % len(changes))

    async def each_peer(self, use) -> None:
        """Call use(PeerStatus) for each peer."""
        device = await self.device()
        for key in device.peers:
            use(device.peers[key])

    async def device(self):
        """Return a wireguard.Device. Raises OSError if it does not answer."""
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
            link.connect(packets.unix_address(SOCKET % self._interface))
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
