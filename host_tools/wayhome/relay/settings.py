"""What a relay may be told; the defaults suit a household or a small office."""

from dataclasses import dataclass

from wayhomed.wire import derp


@dataclass(frozen=True)
class RelaySettings:
    """Limits of one relay. Sizes in bytes, times in seconds.

    From the protocol reference (DERP sections 3 and 4) are queue_packets, handshake_seconds, keep_alive_* and
    write_seconds; the others are our choice.
    """

    # Announced to clients, which then drop what exceeds it; from those that don't, reading is delayed. 0: no limit.
    client_bytes_per_second: int = 25_000_000
    client_burst_bytes: int = 2_500_000

    connections: int = 20_000
    # Of one IPv4 address or one IPv6 /64. Many homes share an address behind a carrier's NAT.
    connections_per_source: int = 1_000
    # All connections of one node key stay open, the newest receives; more than a few are a fault of that node.
    connections_per_key: int = 8
    # That have not proven their key yet; a new one ends the oldest.
    handshakes: int = 1_000
    handshake_seconds: float = 10.0
    # Real ones have some 150 bytes. The reference takes 256 KiB, which strangers could make us hold.
    client_info_bytes: int = 16 * 1024

    queue_packets: int = 32
    queue_bytes: int = 256 * 1024
    # What a client that reads too slowly may leave in our transport's buffer before its packets wait in its queues.
    write_buffer_bytes: int = 64 * 1024
    write_seconds: float = 2.0

    keep_alive_seconds: float = 60.0
    keep_alive_jitter_seconds: float = 5.0

    # Senders are remembered by whom they reached, to tell those when the sender leaves.
    remembered_receivers: int = 1_000

    def __post_init__(self) -> None:
        if self.client_bytes_per_second and self.client_burst_bytes < derp.RATE_BURST_LEAST_BYTES:
            # A client could never send its largest packet.
            raise ValueError(f"client_burst_bytes must be at least {derp.RATE_BURST_LEAST_BYTES}")
