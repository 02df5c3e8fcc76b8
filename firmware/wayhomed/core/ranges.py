"""Sets of IP addresses as sorted inclusive ranges (low, high), each family for itself; low and high are network bytes.

Bytes of one length compare as the numbers they are, so almost nothing here turns an address into a number.
"""

from wayhomed.port import const

_IPV4_BYTES = const(4)


class Ranges:
    """A set of addresses: v4 and v6 are lists of (low, high), sorted and disjoint."""

    def __init__(self, items=()):
        self.v4 = merged([item for item in items if len(item[0]) == _IPV4_BYTES])
        self.v6 = merged([item for item in items if len(item[0]) != _IPV4_BYTES])

    def items(self) -> list:
        return self.v4 + self.v6

    def contains(self, ip: bytes) -> bool:
        for low, high in self.v4 if len(ip) == _IPV4_BYTES else self.v6:
            if low <= ip <= high:
                return True
        return False

    def intersection(self, other: "Ranges") -> "Ranges":
        return Ranges(_common(self.v4, other.v4) + _common(self.v6, other.v6))

    def without(self, ip: bytes) -> "Ranges":
        """Return these ranges with a hole at one address."""
        left = []
        for low, high in self.items():
            if len(low) != len(ip) or not low <= ip <= high:
                left.append((low, high))
                continue
            if low < ip:
                left.append((low, _moved(ip, -1)))
            if ip < high:
                left.append((_moved(ip, 1), high))
        return Ranges(left)

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)


EVERYTHING = (
    (bytes(4), b"\xff" * 4),
    (bytes(16), b"\xff" * 16),
)


def single(ip: bytes) -> tuple:
    return ip, ip


def of_prefix(prefix: tuple) -> tuple:
    """Return (first, last) address of a prefix (network bytes, length)."""
    network, length = prefix
    free = (1 << 8 * len(network) - length) - 1
    return network, (int.from_bytes(network, "big") | free).to_bytes(len(network), "big")


def merged(items: list) -> list:
    """Return ranges of one family sorted, with those that overlap made one."""
    result: list = []
    for low, high in sorted(items):
        if result and low <= result[-1][1]:
            if high > result[-1][1]:
                result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return result


def _common(a: list, b: list) -> list:
    """Return what two sorted lists of ranges share."""
    found = []
    i = j = 0
    while i < len(a) and j < len(b):
        low = max(a[i][0], b[j][0])
        high = min(a[i][1], b[j][1])
        if low <= high:
            found.append((low, high))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return found


def _moved(ip: bytes, by: int) -> bytes:
    return (int.from_bytes(ip, "big") + by).to_bytes(len(ip), "big")
