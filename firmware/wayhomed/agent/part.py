"""What the daemon does for the LAN beside the tunnel itself: each such thing is a Part; `parts.all_of` lists them."""


class Trouble:
    """What is wrong, in one sentence, and what its reader does about it ("" if it mends itself)."""

    def __init__(self, what: str, mend: str = ""):
        self.what = what
        self.mend = mend

    def as_json(self) -> dict:
        return {"what": self.what, "mend": self.mend}


class Part:
    """One thing beside the tunnel, from the daemon's start to its end.

    name: its field in the status's JSON, "" for none. The daemon calls these; what is not overridden does nothing.
    """

    name = ""

    def __init__(self, board):
        self._board = board

    async def run(self) -> None:
        """Run as long as the daemon does; a part that has nothing to run returns."""

    async def stand(self, data_plane) -> None:
        """Run as long as the data plane stands, from the moment it can be used; cancelled at its end. May return."""

    def applied(self, plan, facts) -> None:
        """A core.dataplane.Plan, made with these Facts, is in the kernel now."""

    def wish(self, wishes) -> None:
        """Add to the core.dataplane.Preferences that a plan is about to be made with."""

    def hostinfo(self) -> dict:
        """Return fields of Hostinfo (control.md section 8.6) that this adds to what the coordinator is told."""
        return {}

    def settings_changed(self) -> None:
        """The owner's settings are others, or were read again."""

    def troubles(self) -> list:
        """Return [Trouble], the worst first."""
        return []

    def status(self) -> dict:
        """Return what the status shows of it, ready for JSON."""
        return {}

    def commands(self) -> dict:
        """Return {command: async answer(request, uid) -> a dict ready for JSON} of the local API.

        An answer may raise local_api.Refused, or BadWire for a request that makes no sense.
        """
        return {}
