"""How a peer is reached, and how fast: through the tunnel (ICMP), or asked of the peer's own daemon (disco)."""

from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from . import icmp

_ASKED_MS = const(5_000)  # a ping that the coordinator asks for
_ENOTCONN = const(107)


class Pings:
    """Finds who is meant, and pings."""

    def __init__(self, board):
        """board: the daemon.Board, asked for netmap, links, paths and data_plane."""
        self._board = board

    def find(self, target: str) -> tuple:
        """Return (ip, peer) of a name or address; peer is None if no peer has the address as its own.

        Raises BadWire for what names nothing in the mesh.
        """
        wanted = target.lower().rstrip(".")
        for peer in self._peers_in_order():
            if wanted in _names(peer) and peer.addresses:
                return peer.addresses[0][0], peer
        ip = self._board.netmap.published_ipv4(wanted)
        if ip is not None:
            return ip, None
        own = self._board.netmap.node
        if own is not None and wanted in _names(own) and own.addresses:
            return own.addresses[0][0], None
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
        if by_relay:
            return await self._ask_peer(target, True, timeout_ms)
        ip, peer = self.find(target)
        if self._board.data_plane is None:
            raise OSError(_ENOTCONN, "the tunnel does not stand; run: wayhomectl up")
        if len(ip) != 4:
            raise BadWire("through the tunnel only IPv4 is asked so far; give the IPv4 address, or use --relay")
        result = self._result(target, ip, peer)
        try:
            _check_passes(target, ip, await self._board.data_plane.status())
        except DataPlaneError as error:
            raise OSError(_ENOTCONN, str(error))
        result["latency_ms"] = await icmp.ping(ip, timeout_ms, "%s through the tunnel" % result["name"]) / 1000
        result["path"] = "tunnel"
        return result

    async def ping_path(self, target: str, timeout_ms: int) -> dict:
        """Ask a peer's own daemon by the way that its packets take now. Returns what ping() does, with "endpoint"."""
        return await self._ask_peer(target, False, timeout_ms)

    async def _ask_peer(self, target: str, by_relay: bool, timeout_ms: int) -> dict:
        ip, peer = self.find(target)
        if peer is None:
            raise BadWire("%s is no peer's own address; it can be asked through the tunnel only" % target)
        result = self._result(target, ip, peer)
        result.update(await self._board.paths.ping(peer, timeout_ms, by_relay))
        if result["path"] == "relay":
            result["path"] = "relay " + self._board.links.relays.region_code(result["region"])
        return result

    def _result(self, target: str, ip: bytes, peer) -> dict:
        return {"address": address.ip_text(ip), "name": peer.display_name() if peer else target, "region": 0}

    async def asked(self, request: dict) -> dict:
        """Answer the coordinator's wish to know how a peer is reached (control.md 9): a PingResponse."""
        response = {"Type": request["Types"], "IP": request["IP"]}
        try:
            if "disco" in request["Types"].lower():
                result = await self.ping_path(request["IP"], _ASKED_MS)
            else:
                result = await self.ping(request["IP"], False, _ASKED_MS)
        except (OSError, BadWire) as error:
            response["Err"] = str(error.args[-1])
            return response
        response["NodeIP"] = result["address"]
        response["NodeName"] = result["name"]
        response["LatencySeconds"] = result["latency_ms"] / 1000
        if result.get("endpoint"):
            response["Endpoint"] = result["endpoint"]
        if result["region"]:
            response["DERPRegionID"] = result["region"]
            response["DERPRegionCode"] = self._board.links.relays.region_code(result["region"])
        return response


def _names(node) -> tuple:
    name = node.name.lower()
    return name.rstrip("."), name.split(".")[0]


def _check_passes(target: str, ip: bytes, tunnel: dict) -> None:
    """Raise BadWire if packets from here take no tunnel to the address: an answer would prove nothing of the mesh."""
    shown = address.ip_text(ip)
    for device in tunnel["published"]:
        if shown == device["address"]:
            raise BadWire(
                "%s is published by this machine, for others in the mesh; here it is %s, without the tunnel"
                % (target, device["target"])
            )
    if shown in tunnel["addresses"]:
        raise BadWire("%s is this machine itself" % target)
    for text in tunnel["routes"]:
        if address.contains(address.prefix_from_text(text), ip):
            return
    raise BadWire("packets for %s do not go through the tunnel; wayhomectl status and routes show what does" % target)
