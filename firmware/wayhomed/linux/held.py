"""Where WireGuard's packets from held endpoints arrive instead: a UDP port of ours, which nftables turns them to.

A peer that is relayed may send us copies of its packets directly while our direct way to it is dead. WireGuard would
take each copy's source for the peer's new endpoint, and nothing of ours would reach the peer any more. So these copies
are diverted (firewall's chain `hold`) and handed to WireGuard as if the relay had brought them.
Source: wireguard.md section 3.1.
"""

import asyncio

from wayhomed.port import const, packets

from .proxy import FIRST_PROXY_PORT, MAX_DATAGRAM_BYTES

# Chosen by us
_PORTS_TRIED = const(64)
_RECEIVE_BUFFER_BYTES = const(4_194_304)
_PACKETS_A_TURN = const(32)  # then the daemon's other tasks run
_EADDRINUSE = const(98)
_EAFNOSUPPORT = const(97)


class HeldPort:
    """The open sockets, one a family: sockets, and the port that both are bound to."""

    def __init__(self, taken: tuple):
        """Open them. taken: ports to leave alone. Raises OSError when no port is free."""
        for port in range(FIRST_PROXY_PORT, FIRST_PROXY_PORT + _PORTS_TRIED):
            if port not in taken and self._open(port):
                self.port = port
                break
        else:
            raise OSError(_EADDRINUSE, "no UDP port from %d on is free" % FIRST_PROXY_PORT)
        for opened in self.sockets:
            packets.set_receive_buffer(opened, _RECEIVE_BUFFER_BYTES)

    def _open(self, port: int) -> bool:
        self.sockets: list = []
        try:
            for make, size in ((packets.udp_socket, 4), (packets.udp_socket6, 16)):
                try:
                    opened = make()
                except OSError as error:
                    if error.errno != _EAFNOSUPPORT:
                        raise
                    continue
                self.sockets.append(opened)
                if size == 16:
                    packets.take_without_checksum(opened)
                opened.bind(packets.inet_address(bytes(size), port))
        except OSError as error:
            self.close()
            if error.errno != _EADDRINUSE:
                raise
            return False
        return True

    async def carry(self, opened, use) -> None:
        """Call use(endpoint, datagram) for all that comes to one of the sockets, for ever."""
        turn = 0
        while True:
            turn += 1
            if turn >= _PACKETS_A_TURN:
                turn = 0
                await asyncio.sleep(0)
            try:
                datagram, endpoint = packets.receive_from(opened, MAX_DATAGRAM_BYTES + 1)
            except OSError as error:
                if error.errno != packets.EAGAIN:
                    raise
                turn = 0
                await packets.wait_readable(opened)
            else:
                use(endpoint, datagram)

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()
