"""How a peer is reached, and how fast: through the tunnel (ICMP) or by the relay from the peer's own daemon (disco)."""

import asyncio

from wayhomed.core.disco_relayed import PING_TIMEOUT_MS, RelayedDisco
from wayhomed.port import const, monotonic_ms, random_bytes
from wayhomed.port.tasks import wait_for_event
from wayhomed.wire import address, keys
from wayhomed.wire.errors import BadWire

from . import icmp

_PINGS_MS = const(2_000)  # chosen by us


class Pings:
    """Our pings under way, and the answers to those of others."""

    def __init__(self, board):
        """board: the daemon.Board, asked for netmap, links, state, data_plane and log."""
        self._board = board
        self._disco = RelayedDisco(keys.new_private(random_bytes(32)))
        self.disco_public = self._disco.public_key
        self._waiting: dict = {}  # node key -> [event, latency ms, region id]

    def find(self, target: str) -> tuple:
        """Return (ip, peer) of a name or address; peer is None if no peer has the address as its own.

        Raises BadWire for what names nothing in the mesh.
        """
        wanted = target.lower().rstrip(".")
        for peer in self._peers_in_order():
            if wanted in (peer.name.lower().rstrip("."), peer.name.lower().split(".")[0]) and peer.addresses:
                return peer.addresses[0][0], peer
        ip = self._board.netmap.published_ipv4(wanted)
        if ip is not None:
            return ip, None
        try:
            ip = address.ip_from_text(target)
        except BadWire:
            raise BadWire("nobody in the mesh is called %s; see wayhomectl status" % target[:80])
        prefix = (ip, 8 * len(ip))
        for peer in self._peers_in_order():
            if prefix in peer.addresses:
                return ip, peer
        return ip, None

    def _peers_in_order(self) -> list:
        return [self._board.netmap.peers[node_id] for node_id in sorted(self._board.netmap.peers)]

    async def ping(self, target: str, by_relay: bool, timeout_ms: int) -> dict:
        """Measure the way to a name or address. by_relay: ask the peer's own daemon by the relay, else by the tunnel.

        Returns {"address", "name", "path", "region", "latency_ms"}. Raises BadWire, OSError.
        """
        ip, peer = self.find(target)
        result: dict = {"address": address.ip_text(ip), "name": peer.display_name() if peer else target, "region": 0}
        if by_relay:
            if peer is None:
                raise BadWire("%s is no peer's own address; it can be asked through the tunnel only" % target)
            result["latency_ms"], result["region"] = await self._ping_by_relay(peer, timeout_ms)
            result["path"] = "relay " + self._board.links.relays.region_code(result["region"])
            return result
        if self._board.data_plane is None:
            raise OSError(107, "the tunnel does not stand; run: wayhomectl up")
        if len(ip) != 4:
            raise BadWire("through the tunnel only IPv4 is asked so far; give the IPv4 address, or use --relay")
        result["latency_ms"] = await icmp.ping(ip, timeout_ms)
        result["path"] = "tunnel"
        return result

    async def _ping_by_relay(self, peer, timeout_ms: int) -> tuple:
        waiting = self._waiting[peer.key] = [asyncio.Event(), 0, 0]
        own = keys.public_of(self._board.state.node_private)
        try:
            started_ms = monotonic_ms()
            while True:
                left_ms = started_ms + timeout_ms - monotonic_ms()
                if left_ms <= 0:
                    raise OSError(110, "%s did not answer by the relay" % peer.display_name())
                message = self._disco.ping(peer, own, random_bytes(12), random_bytes(24), monotonic_ms())
                if not self._board.links.send(peer.key, peer.home_derp, message):
                    raise OSError(113, "%s is at no relay that we know" % peer.display_name())
                if await wait_for_event(waiting[0], min(left_ms, _PINGS_MS)):
                    return waiting[1], waiting[2]
        finally:
            del self._waiting[peer.key]

    async def asked(self, request: dict) -> dict:
        """Answer the coordinator's wish to know how a peer is reached (control.md 9): a PingResponse."""
        response = {"Type": request["Types"], "IP": request["IP"]}
        try:
            result = await self.ping(request["IP"], "disco" in request["Types"].lower(), PING_TIMEOUT_MS)
        except (OSError, BadWire) as error:
            response["Err"] = str(error.args[-1])
            return response
        response["NodeIP"] = result["address"]
        response["NodeName"] = result["name"]
        response["LatencySeconds"] = result["latency_ms"] / 1000
        if result["region"]:
            response["DERPRegionID"] = result["region"]
            response["DERPRegionCode"] = self._board.links.relays.region_code(result["region"])
        return response

    def disco_received(self, peer, packet: bytes, region_id: int) -> None:
        """Take a disco packet that a relay brought from a peer: answer a ping, match a pong, leave the rest alone."""
        try:
            reply, pong = self._disco.message_received(packet, peer, region_id, random_bytes(24), monotonic_ms())
        except BadWire as error:
            self._board.log.debug("disco from %s: %s" % (peer.display_name(), error))
            return
        if reply is not None:
            self._board.links.send_by(region_id, peer.key, reply)
        if pong is not None and peer.key in self._waiting:
            waiting = self._waiting[peer.key]
            waiting[1], waiting[2] = pong[1], region_id
            waiting[0].set()
