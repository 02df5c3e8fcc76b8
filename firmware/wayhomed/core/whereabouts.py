"""As which endpoint one peer sees us, by its pongs: pure, times in monotonic milliseconds.

A stock client stays with an address of ours that has gone silent until another one answers faster than that once did;
the silent one is forgotten 45 s after our last ping from it, or at once when a call that follows one with it leaves it
out. Behind a NAT that gives each destination another port only the peer can say what that address was. So it is kept
for a while after it has become void, for two calls: one with it, and one without.

An endpoint is (address of 4 or 16 bytes, port). Who lies in a pong is told his own lie, and nobody else is.
"""

from wayhomed.port import const

# Chosen by us
FORMER_MS = const(60_000)  # a call may be lost; after this long a stock client has forgotten the address by itself
_MOST = const(8)  # of the peer's addresses, and of our former ones


class Whereabouts:
    """Of one peer."""

    def __init__(self):
        self._seen: dict = {}  # the peer's endpoint that we pinged -> ours as its pong named it
        self._former: dict = {}  # ours -> until when it is worth a word

    def pong_received(self, pinged: tuple, ours: tuple, now_ms: int) -> bool:
        """Take what the pong to a ping to `pinged` names; tell whether it is another endpoint than before."""
        before = self._seen.get(pinged)
        if before is None and len(self._seen) >= _MOST:
            return False
        self._seen[pinged] = ours
        if before in (None, ours):
            return False
        self._is_former(before, now_ms)
        return True

    def uplink_changed(self, now_ms: int) -> None:
        """Note that no packet of ours goes out as before."""
        for ours in self._seen.values():
            self._is_former(ours, now_ms)
        self._seen = {}

    def former(self, now_ms: int) -> list:
        """Return where we were seen of late and are no more."""
        seen = self._seen.values()
        return sorted([ours for ours in self._former if now_ms < self._former[ours] and ours not in seen])

    def seen_from(self, pinged: tuple):
        """Return as which endpoint the peer sees us that answers at `pinged`, None before its first pong."""
        return self._seen.get(pinged)

    def _is_former(self, ours: tuple, now_ms: int) -> None:
        self._former[ours] = now_ms + FORMER_MS
        if len(self._former) > _MOST:
            del self._former[min(self._former, key=lambda endpoint: self._former[endpoint])]
