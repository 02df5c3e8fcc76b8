"""One daemon an interface: a name that the kernel lends to one process, and takes back when that dies.

The name is an abstract UNIX socket's, which belongs to a network namespace as interfaces do, and to no folder: daemons
in two namespaces never meet here, though they may share /run; two in one do, though they may not.
Source: unix(7), "Abstract sockets" and SO_PEERCRED.
"""

from wayhomed.port import const, packets, runtime

from .errors import DataPlaneError

_NAME = "\0wayhomed/%s"
_QUEUE = const(8)
_EADDRINUSE = const(98)
_CAP_NET_ADMIN = const(1 << 12)
_STATUS_BYTES = const(16_384)


class InterfaceTaken(DataPlaneError):
    """Another wayhomed has the interface of this name; nothing was changed."""


class InterfaceLock:
    """Held from its making until close() or the end of the process."""

    def __init__(self, interface: str):
        """Raises InterfaceTaken with the other one's process id.

        impostor: who has the name without the rights of a wayhomed, as every user of the machine may; 0 if nobody. The
        daemon then goes on without a lock, rather than be kept away by whoever comes first.
        """
        self.impostor = 0
        self._socket = packets.unix_stream()
        try:
            self._socket.bind(packets.unix_address(_NAME % interface))
            self._socket.listen(_QUEUE)
        except OSError as error:
            self.close()
            if error.errno != _EADDRINUSE:
                raise DataPlaneError("the name of the interface %s can't be reserved: %s" % (interface, error))
            pid = _holder(interface)
            if not _may_be_wayhomed(pid):
                self.impostor = pid
                return
            raise InterfaceTaken(
                "another wayhomed%s has the interface %s; stop it, or give this one names of its own with --interface, "
                "--port, --state and --socket" % (" (process %d)" % pid if pid else "", interface)
            )

    async def answer(self) -> None:
        """Let go whoever asked who holds the name, for ever: what nobody accepts would fill the queue."""
        while True:
            await packets.wait_readable(self._socket)
            try:
                asking, _address = self._socket.accept()
            except OSError:
                continue  # it has gone again
            asking.close()

    def close(self) -> None:
        self._socket.close()


def _holder(interface: str) -> int:
    """Return the process that listens at the name, 0 if that can't be told."""
    asking = packets.unix_stream()
    try:
        asking.connect(packets.unix_address(_NAME % interface))
        return packets.peer_process(asking)
    except OSError:
        return 0  # it ends just now, or others ask as well
    finally:
        asking.close()


def _may_be_wayhomed(pid: int) -> bool:
    """Tell whether a process has the right to make an interface, or can't be looked at."""
    try:
        status = runtime.read_file("/proc/%d/status" % pid, _STATUS_BYTES) if pid else None
    except OSError:
        return True
    for line in (status or b"").split(b"\n"):
        if line.startswith(b"CapEff:"):
            return bool(int(line[7:].strip(), 16) & _CAP_NET_ADMIN)
    return True
