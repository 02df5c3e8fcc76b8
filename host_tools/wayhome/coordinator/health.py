"""What the coordinator noticed since it started: numbers for its operator."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Each counts events since the start; none ever falls."""

    sessions: int = 0
    old_clients: int = 0  # refused: capability version below 113
    bad_handshakes: int = 0  # not made for this server's key, or no handshake at all
    unfinished_handshakes: int = 0  # no word after our answer, or a request that never became whole
    broken_sessions: int = 0  # records or HTTP/2 that no honest client sends
    large_bodies: int = 0
    bad_requests: int = 0  # JSON of the wrong shape
    foreign_node_keys: int = 0  # a node key that belongs to another machine than the session's
    unknown_node_keys: int = 0
    cloned_states: int = 0  # one machine key used from two places at once
    throttled_registrations: int = 0
    refused_registrations: int = 0
    replaced_polls: int = 0
    slow_viewers: int = 0  # whose backlog was given up for a fresh whole map
    stalled_links: int = 0  # ended because nothing could be written for too long
    maps: int = 0
    deltas: int = 0
    map_bytes: int = 0  # of maps and deltas, as framed
