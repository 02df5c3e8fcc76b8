"""Where we can be reached: the endpoints that peers are told of, and how fresh they are (disco.md section 3).

Pure: time (monotonic milliseconds) and randomness come as arguments; an endpoint is (address of 4 or 16 bytes, port).
"""

from wayhomed.core import prefixes
from wayhomed.core.netcheck import Netcheck
from wayhomed.port import const

# --- Fixed by the protocol ---
LOCAL = const(1)
STUN = const(2)
STUN4_LOCAL_PORT = const(4)
REMEMBERED_MS = const(310_000)  # 5 min 10 s after it was last seen, an outside endpoint is still told
FRESH_MS = const(27_000)
_REFRESH_MIN_MS = const(20_000)
_REFRESH_SPAN_MS = const(6_000)

# --- Chosen by us ---
# The next round after one that nobody answered: when UDP passes again, our NAT may know us by another port.
_UNANSWERED_MS = const(5_000)
MAX_ENDPOINTS = const(16)
# Of them as seen from outside; the rest is for our own addresses, which neighbours in one LAN need.
_MAX_OUTSIDE = const(8)
_MAX_REMEMBERED = const(16)


class OwnEndpoints:
    """The endpoints of our one UDP port. random_bytes(n) spreads the refreshes of many boards."""

    def __init__(self, port: int, random_bytes):
        self._port = port
        self._random_bytes = random_bytes
        self._now_ms = 0
        self._local: list = []
        self._mesh: set = set()
        self._outside: list = []  # (endpoint, type) of the latest report, most reliable first
        self._seen_ms: dict = {}  # (endpoint, type) -> when a report last had it
        self._report_ms: int | None = None
        self._refresh_ms: int | None = None

    def report_received(self, netcheck: Netcheck, now_ms: int) -> None:
        """Take a finished round."""
        now_ms = self._clock(now_ms)
        self._outside = self._outside_of(netcheck)
        for entry in self._outside:
            self._seen_ms[entry] = now_ms
        self._forget_old()
        self._report_ms = now_ms
        wait_ms = _REFRESH_MIN_MS + int.from_bytes(self._random_bytes(2), "big") * _REFRESH_SPAN_MS // 65535
        if (netcheck.asked4 or netcheck.asked6) and not (netcheck.udp4 or netcheck.udp6):
            wait_ms = _UNANSWERED_MS
        self._refresh_ms = now_ms + wait_ms

    def interfaces_changed(self, ips: list, mesh_ips=()) -> bool:
        """Take this machine's addresses, and those of the mesh, which are nobody's outside; tell whether ours changed.

        If they do, what was seen from outside is no more than a memory: a new round is due.
        """
        local: list = []
        for ip in ips:
            if ip not in local and ip not in mesh_ips and not prefixes.is_no_host(ip) and not prefixes.is_mesh6(ip):
                local.append(ip)
        changed = sorted(local) != sorted(self._local)
        self._local = local
        self._mesh = set(mesh_ips)
        if changed:
            self._outside = []
            self._report_ms = self._refresh_ms = None
        return changed

    def local_ips(self) -> list:
        """Return this machine's own addresses, as netcheck.describe() compares with them."""
        return list(self._local)

    def current(self, now_ms: int) -> list:
        """Return [(endpoint, type)], the most reliable first, each endpoint once, at most MAX_ENDPOINTS."""
        self._clock(now_ms)
        self._forget_old()
        entries: list = []
        told = set()
        remembered = sorted(self._seen_ms, key=lambda entry: -self._seen_ms[entry])
        for entry in self._outside + remembered:
            if entry[0] not in told and entry[0][0] not in self._mesh and len(entries) < _MAX_OUTSIDE:
                told.add(entry[0])
                entries.append(entry)
        for ip in self._local:
            if (ip, self._port) not in told and len(entries) < MAX_ENDPOINTS:
                told.add((ip, self._port))
                entries.append(((ip, self._port), LOCAL))
        return entries

    def to_call_with(self, now_ms: int) -> list:
        """Return the endpoints for a CallMeMaybe: those of current() that the newest report of their family has, and
        our own addresses.

        A stock client stays with an address that has gone silent until another answers faster than that one once did.
        It leaves it at once when a call does not name it any more. So what is no more than a memory is left out.
        """
        current = self.current(now_ms)
        newest_ms: dict = {}  # bytes of an address -> when a report last had one of that family
        for entry, seen_ms in self._seen_ms.items():
            family = len(entry[0][0])
            newest_ms[family] = max(seen_ms, newest_ms.get(family, seen_ms))
        return [
            entry[0]
            for entry in current
            if self._is_local(entry[0]) or self._seen_ms[entry] == newest_ms[len(entry[0][0])]
        ]

    def _is_local(self, endpoint: tuple) -> bool:
        return endpoint[1] == self._port and endpoint[0] in self._local

    def is_fresh(self, now_ms: int) -> bool:
        """Tell whether a CallMeMaybe may carry these endpoints without asking again."""
        now_ms = self._clock(now_ms)
        return self._report_ms is not None and now_ms - self._report_ms <= FRESH_MS

    def next_refresh_ms(self) -> int:
        """Return when the next round is due as long as endpoints are wanted; 0 = now, none has been made here yet."""
        return 0 if self._refresh_ms is None else self._refresh_ms

    def _outside_of(self, netcheck: Netcheck) -> list:
        """Return the endpoints that a report supports: the best of each family, and others seen more than once."""
        entries: list = []
        for mapped in (netcheck.mapped4, netcheck.mapped6):
            entries.extend([(mapped[i][0], STUN) for i in range(len(mapped)) if i == 0 or mapped[i][1] > 1])
        if netcheck.mapping_varies and netcheck.mapped4:
            # Behind a hard NAT only an opened port helps, and who opens one at the router mostly keeps the number.
            entries.append(((netcheck.mapped4[0][0][0], self._port), STUN4_LOCAL_PORT))
        return entries

    def _forget_old(self) -> None:
        for entry in list(self._seen_ms):
            if self._now_ms - self._seen_ms[entry] > REMEMBERED_MS:
                del self._seen_ms[entry]
                if entry in self._outside:
                    self._outside.remove(entry)
        # A NAT that makes a new mapping each time must not fill the memory.
        while len(self._seen_ms) > _MAX_REMEMBERED:
            del self._seen_ms[min(self._seen_ms, key=lambda entry: self._seen_ms[entry])]

    def _clock(self, now_ms: int) -> int:
        self._now_ms = max(now_ms, self._now_ms)
        return self._now_ms


def netinfo(netcheck: Netcheck | None, home: int) -> dict:
    """Return Hostinfo.NetInfo (control.md 8.6): the home region, and what a netcheck found if there was one."""
    info: dict = {"PreferredDERP": home}
    if netcheck is None:
        return info
    if netcheck.mapping_varies is not None:
        info["MappingVariesByDestIP"] = netcheck.mapping_varies
    if netcheck.asked6:
        info["WorkingIPv6"] = netcheck.udp6
    if netcheck.asked4 or netcheck.asked6:
        info["WorkingUDP"] = netcheck.udp4 or netcheck.udp6
    info["DERPLatency"] = {"%d-v%d" % key: netcheck.latencies_ms[key] / 1000 for key in sorted(netcheck.latencies_ms)}
    return info
