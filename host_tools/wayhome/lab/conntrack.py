"""Reading what connection tracking knows, from the text of `conntrack -L -o extended` (conntrack(8))."""

from dataclasses import dataclass

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Flow:
    """One tracked flow. Endpoints without ports (ICMP) have port 0."""

    protocol: str  # udp, tcp, icmp, ...
    source: Endpoint  # who began, as before any translation
    destination: Endpoint
    reply_source: Endpoint  # who answers, and
    reply_destination: Endpoint  # whom: behind source NAT this is the outside endpoint
    assured: bool  # has seen traffic both ways
    replied: bool
    packets: int  # of the direction that began; 0 where counting is off
    bytes: int
    reply_packets: int = 0  # of the direction that answers
    reply_bytes: int = 0


def parse(text: str) -> list[Flow]:
    """Return the flows of conntrack's listing.

    A line: `ipv4 2 udp 17 25 src=A dst=B sport=1 dport=2 packets=1 bytes=9 [UNREPLIED] src=B dst=C sport=2 dport=1`.
    """
    flows = []
    for line in text.splitlines():
        words = line.split()
        pairs = [word.split("=", 1) for word in words if "=" in word]
        if len(words) < 4 or not any(key == "src" for key, _ in pairs):
            continue
        values: dict[str, list[str]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        flows.append(
            Flow(
                protocol=words[2],
                source=_endpoint(values, "src", "sport", 0),
                destination=_endpoint(values, "dst", "dport", 0),
                reply_source=_endpoint(values, "src", "sport", 1),
                reply_destination=_endpoint(values, "dst", "dport", 1),
                assured="[ASSURED]" in words,
                replied="[UNREPLIED]" not in words,
                packets=_count(values, "packets", 0),
                bytes=_count(values, "bytes", 0),
                reply_packets=_count(values, "packets", 1),
                reply_bytes=_count(values, "bytes", 1),
            )
        )
    return flows


def _endpoint(values: dict[str, list[str]], address: str, port: str, number: int) -> Endpoint:
    ports = values.get(port, [])
    return values[address][number], int(ports[number]) if number < len(ports) else 0


def _count(values: dict[str, list[str]], name: str, number: int) -> int:
    counts = values.get(name, [])
    return int(counts[number]) if number < len(counts) else 0
