"""Relay links as decisions: which region is home, which region a packet goes by, when links open and close.

Pure: time (monotonic milliseconds) and randomness come as arguments; the links themselves are the agent's.
Source: derp.md section 9 (home), disco.md 4.1 (way back by the region last heard on), control.md 13 (back-off).

    CLOSED --wanted--> OPENING --link_up--> UP
       ^                  | link_lost        | link_lost
       |               WAITING <-------------+
       +--idle for 60 s--(from OPENING, UP, WAITING, unless it is home)
"""

from wayhomed.core.backoff import Backoff
from wayhomed.port import const

# Fixed by the protocol (derp.md 9)
IDLE_MS = const(60_000)
RECONNECT_LIMIT_MS = const(5_000)
HYSTERESIS_MS = const(10)


class LinkState:
    """What is known about the link to one region."""

    OPENING = 1
    UP = 2
    WAITING = 3


class _Link:
    def __init__(self, now_ms: int):
        self.state = LinkState.OPENING
        self.used_ms = now_ms
        self.retry_ms = 0
        self.backoff = Backoff(RECONNECT_LIMIT_MS)


class Relays:
    """The regions of one DERP map, the links to them, and where each peer was last heard."""

    def __init__(self):
        self.home = 0  # region id; 0 = none yet
        self._regions = {}
        self._scores_per_mille = {}
        self._links = {}  # region id -> _Link
        self._heard = {}  # peer's node key -> region id on which it last spoke

    def map_received(self, derp_map, now_ms: int) -> list:
        """Take a new DERP map; return the regions whose links must be opened anew (gone, or other servers)."""
        stale = []
        for region_id in list(self._links):
            before, after = self._regions.get(region_id), derp_map.regions.get(region_id)
            if after is None or before is None or before.as_json() != after.as_json():
                stale.append(region_id)
                del self._links[region_id]
        self._regions = derp_map.regions
        self._scores_per_mille = derp_map.scores_per_mille
        if self.home not in self._regions:
            self.home = 0
        if not self.home:
            candidates = self.candidates()
            if len(candidates) == 1:
                self.home = candidates[0]
        if self.home:
            self._want(self.home, now_ms)
        return stale

    def candidates(self) -> list:
        """Return the regions that may become home, in order of their ids."""
        return [
            region_id
            for region_id in sorted(self._regions)
            if not self._regions[region_id].no_measure_no_home and self.servers(region_id)
        ]

    def servers(self, region_id: int) -> list:
        """Return the relay servers of a region, in order of preference; those for STUN alone are left out."""
        region = self._regions.get(region_id)
        return [] if region is None else [node for node in region.nodes if not node.stun_only]

    def region_code(self, region_id: int) -> str:
        region = self._regions.get(region_id)
        return "" if region is None else region.code

    def probed(self, latencies_ms: dict, now_ms: int) -> bool:
        """Choose a home by measured latencies (region id -> ms; silent regions absent); tell whether it changed.

        The old home stays while it answers, unless the best is 10 ms and a third better: each move costs all peers.
        """
        best = 0
        for region_id in self.candidates():
            if region_id in latencies_ms and (
                not best or self._scored(region_id, latencies_ms) < self._scored(best, latencies_ms)
            ):
                best = region_id
        if not best or best == self.home:
            return False
        if self.home in latencies_ms:
            old, new = self._scored(self.home, latencies_ms), self._scored(best, latencies_ms)
            if old - new < HYSTERESIS_MS or 3 * new >= 2 * old:
                return False
        self.home = best
        self._want(best, now_ms)
        return True

    def region_of(self, node_key: bytes, home_derp: int, now_ms: int) -> int:
        """Return the region by which a packet reaches the peer, 0 if there is none; its link is wanted from now on.

        home_derp is what the netmap says; where the peer was last heard wins, as it may have just moved.
        """
        region_id = self._heard.get(node_key, 0)
        if region_id not in self._regions:
            region_id = home_derp
        if region_id not in self._regions:
            return 0
        self._want(region_id, now_ms)
        return region_id

    def packet_received(self, node_key: bytes, region_id: int, now_ms: int) -> None:
        """Remember that a known peer spoke on this region."""
        self._heard[node_key] = region_id
        link = self._links.get(region_id)
        if link is not None:
            link.used_ms = now_ms

    def peer_gone(self, node_key: bytes, region_id: int) -> None:
        """Forget the way back: the relay says that the peer left."""
        if self._heard.get(node_key) == region_id:
            del self._heard[node_key]

    def peer_moved(self, node_key: bytes) -> None:
        """Forget where the peer was heard: the coordinator has newer word of its home, or it is no peer any more."""
        if node_key in self._heard:
            del self._heard[node_key]

    def link_up(self, region_id: int, now_ms: int) -> None:
        """Note that the region's relay has taken us in."""
        link = self._links.get(region_id)
        if link is not None:
            link.state = LinkState.UP
            link.backoff.succeeded()

    def link_lost(self, region_id: int, now_ms: int, random_byte: int) -> None:
        """Note that an attempt failed or a link broke; it is tried again after a back-off."""
        link = self._links.get(region_id)
        if link is not None:
            link.state = LinkState.WAITING
            link.retry_ms = now_ms + link.backoff.failed(random_byte)

    def link_closed(self, region_id: int) -> None:
        """Note that we closed the link ourselves: no failure, and nothing to wait for."""
        link = self._links.get(region_id)
        if link is not None:
            link.state = LinkState.OPENING
            link.retry_ms = 0
            link.backoff.succeeded()

    def wait_before_retry(self, region_id: int, now_ms: int) -> int:
        """Return the milliseconds until the region may be tried again; 0 = now."""
        link = self._links.get(region_id)
        return 0 if link is None else max(0, link.retry_ms - now_ms)

    def retrying(self, region_id: int) -> None:
        """Note that the wait is over and an attempt begins."""
        link = self._links.get(region_id)
        if link is not None:
            link.state = LinkState.OPENING

    def is_up(self, region_id: int) -> bool:
        link = self._links.get(region_id)
        return link is not None and link.state == LinkState.UP

    def wanted(self) -> list:
        """Return the regions that need a link now."""
        return sorted(self._links)

    def expire(self, now_ms: int) -> list:
        """Return the regions whose links nobody used for a minute, home excepted; they are wanted no more."""
        idle = []
        for region_id in list(self._links):
            if region_id != self.home and now_ms - self._links[region_id].used_ms >= IDLE_MS:
                del self._links[region_id]
                idle.append(region_id)
        return idle

    def _want(self, region_id: int, now_ms: int) -> None:
        link = self._links.get(region_id)
        if link is None:
            self._links[region_id] = _Link(now_ms)
        else:
            link.used_ms = now_ms

    def _scored(self, region_id: int, latencies_ms: dict) -> int:
        return latencies_ms[region_id] * self._scores_per_mille.get(region_id, 1000) // 1000
