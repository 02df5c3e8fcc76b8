"""Who is online: pure. A node is online while it polls, and for a short grace after its last poll ended."""

GRACE_S = 10.0  # a client that reconnects at once was never away for its peers


class Presence:
    """Polls come and go; what is returned says what the peers should learn. Times are seconds of one clock."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._polls: dict[int, int] = {}  # node id -> polls that are open
        self._leaving: dict[int, float] = {}  # node id -> when it will be offline

    def poll_began(self, node_id: int) -> bool:
        """Return whether the node came online by this."""
        polls = self._polls.get(node_id, 0)
        self._polls[node_id] = polls + 1
        was_leaving = self._leaving.pop(node_id, None) is not None
        return polls == 0 and not was_leaving

    def poll_ended(self, node_id: int, now: float) -> None:
        polls = self._polls.get(node_id, 0) - 1
        if polls > 0:
            self._polls[node_id] = polls
        else:
            self._polls.pop(node_id, None)
            self._leaving[node_id] = now + self._grace_s

    def gone(self, now: float) -> list[int]:
        """Return the nodes whose grace is over: they are offline from now on."""
        gone = [node_id for node_id, at in self._leaving.items() if at <= now]
        for node_id in gone:
            del self._leaving[node_id]
        return gone

    def removed(self, node_id: int) -> None:
        """The node was deleted: nobody needs to learn that it is offline."""
        self._leaving.pop(node_id, None)
