"""How the demo knows by which way packets went: from what stands between the two ends, never from their own word."""

from dataclasses import dataclass

from ..lab.conntrack import Flow
from ..lab.lab import Host
from .cast import Coordinator


@dataclass(frozen=True)
class Relayed:
    """What has come to the relay since its start. Its bytes count frames that keep a connection alive, too."""

    packets: int
    size_bytes: int

    @classmethod
    def by(cls, coordinator: Coordinator) -> "Relayed":
        counters = coordinator.look("status")["relay"]
        return cls(counters["packets_in"], counters["bytes_in"])

    def since(self, before: "Relayed") -> "Relayed":
        return Relayed(self.packets - before.packets, self.size_bytes - before.size_bytes)


def straight_flow(router: Host, other_side: str) -> Flow | None:
    """Return the UDP flow between a router's inside and an outside address that carried most, both ways; or None.

    other_side is where the other end is seen on the Internet: its outermost router's address.
    """
    flows = [
        flow
        for flow in router.read_conntrack()
        if flow.protocol == "udp" and flow.replied and other_side in (flow.source[0], flow.destination[0])
    ]
    return max(flows, key=lambda flow: flow.packets, default=None)
