"""A change on trial: made over the mesh, it goes back by itself unless it is confirmed over the mesh in time. Pure.

Whoever changes a distant board may cut the very way by which he came. Only his coming again proves that he did not.
Several changes in a row are one trial: what they go back to is what held before the first.
"""

from wayhomed.port import const

TRIAL_MS = const(90_000)  # issue's number: time to log in anew, short enough to wait for
# A name of the machine cuts nobody's way.
_HARMLESS = ("Hostname",)
_WORDS = {
    "LoginServer": "the coordinator",
    "AdvertiseRoutes": "the offered routes",
    "AcceptRoutes": "taking others' routes",
    "SNAT": "the translation of sources",
    "WantRunning": "up or down",
}


def changes(before: dict, after: dict) -> list:
    """Return in words what differs between two Prefs.as_json() and may cut somebody's way."""
    names = sorted(set(list(before) + list(after)))
    return [_WORDS.get(name, name) for name in names if name not in _HARMLESS and before.get(name) != after.get(name)]


class Trial:
    """before: Prefs.as_json() to go back to, None if these are not on trial; with_file: the configuration file is."""

    def __init__(self):
        self.before: dict | None = None
        self.with_file = False
        self.what: list = []
        self._ends_ms = 0

    def is_on(self) -> bool:
        return self.before is not None or self.with_file

    def add(self, what: list, before, with_file: bool, now_ms: int) -> None:
        """Put a change on trial, beside those that are already; all of them have the whole time again."""
        if self.before is None:
            self.before = before
        self.with_file = self.with_file or with_file
        self.what += [word for word in what if word not in self.what]
        self._ends_ms = now_ms + TRIAL_MS

    def left_ms(self, now_ms: int) -> int:
        """Return how long there still is to confirm it, 0 if the time is over."""
        return max(0, self._ends_ms - now_ms)

    def end(self) -> None:
        """It was confirmed, or has gone back."""
        self.before = None
        self.with_file = False
        self.what = []
