"""Changes on trial: what was changed over the mesh goes back by itself unless somebody confirms it over the mesh.

    wayhomectl up|down|reload, SIGHUP --over the mesh?--> trial.json, then the change
                                                               | 90 s, or the next start of the daemon
    wayhomectl confirm --over the mesh?--> kept for good       +--> as before

What to go back to is on disk before the change is made, so that no power cut can make an untried change last.
"""

import asyncio

from wayhomed.core import prefs as preferences
from wayhomed.core import trial
from wayhomed.linux import shells
from wayhomed.port import monotonic_ms
from wayhomed.port.tasks import wait_for_event
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from .part import Part, Trouble
from .refused import Refused
from .ssh_session import HERE
from .state import StateError

_CONFIRM = "if you still reach this machine: wayhomectl confirm"


class Trials(Part):
    """The board's trial, if one is on. gone_back: words for a change that nobody confirmed, "" for none."""

    name = "trial"

    def __init__(self, board):
        super().__init__(board)
        self._trial = trial.Trial()
        self._begun = asyncio.Event()
        self.gone_back = ""

    # --- Is somebody here over the mesh? ---

    def is_over_mesh(self, request: dict) -> bool:
        """Tell whether a request of wayhomectl comes from somebody who is logged in over the mesh.

        request["from"]: what ssh_session.came_from() found there.
        """
        if request.get("for_good") is True:
            return False
        ssh = request.get("from")
        if ssh == HERE:
            return False
        if isinstance(ssh, str) and ssh:
            try:
                return self._is_of_mesh(address.ip_from_text(ssh))
            except BadWire:
                return False
        return self.is_somebody_in_over_mesh()

    def is_somebody_in_over_mesh(self) -> bool:
        """Tell whether an SSH session from the mesh is open; who it is that changes something can't be told."""
        for ip in shells.logged_in_from():
            if self._is_of_mesh(ip):
                return True
        return False

    def _is_of_mesh(self, ip: bytes) -> bool:
        for peer in self._board.netmap.peers.values():
            for prefix in peer.allowed_ips:
                if prefix[1] and address.contains(prefix, ip):
                    return True
        return False

    # --- A trial's life ---

    def begin(self, before, after: dict) -> None:
        """Put a change of the settings on trial before it is made; before: Prefs, after: Prefs.as_json().

        Raises BadWire for a change that can't go back, StateError if what to go back to can't be written.
        """
        was = before.as_json()
        what = trial.changes(was, after)
        if not what:
            return
        if was["LoginServer"] and was["LoginServer"] != after["LoginServer"]:
            raise BadWire(
                "another coordinator can't be tried over the mesh: there is no way back to this one without a login; "
                "do it at the machine itself, or add --for-good"
            )
        self._keep(was)
        self._add(what, was, False)

    def begin_file(self) -> None:
        """The configuration file is on trial; Configuration itself has written down what it goes back to."""
        self._add(["the configuration file"], None, True)

    def _add(self, what: list, before, with_file: bool) -> None:
        self.gone_back = ""
        self._trial.add(what, before, with_file, monotonic_ms())
        self._begun.set()
        self._board.log.warning(
            "changed over the mesh: %s; it goes back in %d s unless wayhomectl confirm comes over the mesh"
            % (", ".join(self._trial.what), trial.TRIAL_MS // 1000)
        )
        self._board.tell()

    def _keep(self, was: dict) -> None:
        if self._trial.before is None:
            self._board.state.save_trial(was)

    async def run(self) -> None:
        while True:
            await self._begun.wait()
            left_ms = self._trial.left_ms(monotonic_ms()) if self._trial.is_on() else 0
            if left_ms:
                self._begun.clear()
                await wait_for_event(self._begun, left_ms)
                if not self._begun.is_set():
                    self._begun.set()
                continue
            self._begun.clear()
            if self._trial.is_on():
                self.go_back()

    def go_back(self) -> None:
        """Undo what is on trial."""
        what = ", ".join(self._trial.what)
        before, with_file = self._trial.before, self._trial.with_file
        self._trial.end()
        self.gone_back = "%s: changed over the mesh, not confirmed, so as before again" % what
        self._board.log.warning(self.gone_back)
        if with_file:
            self._board.configuration.go_back()
        try:
            said = self._board.state.said
            if before is not None:
                said = preferences.changed(preferences.Prefs(), before)
            self._board.settle_again(said)
            self._board.state.forget_trial()
        except (BadWire, StateError) as error:
            self._board.log.error("going back to the settings of before: " + str(error))
        self._board.tell()

    def recover(self) -> None:
        """At the daemon's start: a trial that its end has cut short goes back."""
        before = self._board.state.load_trial()
        if before is None:
            return
        try:
            self._board.state.said = preferences.changed(preferences.Prefs(), before)
            self._board.state.save()
            self._board.state.forget_trial()
        except (BadWire, StateError) as error:
            self._board.log.error("going back to the settings of before: " + str(error))
            return
        self.gone_back = "what was changed over the mesh was not confirmed before a restart, so as before again"
        self._board.log.warning(self.gone_back)

    async def confirm(self, request: dict, uid: int) -> dict:
        """Answer `wayhomectl confirm`: what is on trial stays."""
        if not self._trial.is_on():
            raise Refused("nothing waits to be confirmed", "see wayhomectl status")
        if request.get("here") is not True and not self.is_over_mesh(request):
            raise Refused(
                "this does not come over the mesh, and only that proves that the way in still works",
                "log in over the mesh and run it there; or, if you stand before the machine: wayhomectl confirm --here",
            )
        what = ", ".join(self._trial.what)
        try:
            if self._trial.with_file:
                self._board.configuration.confirm()
            self._board.state.forget_trial()
        except StateError as error:
            raise Refused(str(error), "make room or mend the disk, then confirm again; it goes back otherwise")
        self._trial.end()
        self._begun.set()
        self._board.log.info("confirmed over the mesh: " + what)
        self._board.tell()
        return {"confirmed": what}

    # --- What is shown ---

    def troubles(self) -> list:
        if self._trial.is_on():
            left_s = self._trial.left_ms(monotonic_ms()) // 1000
            text = "on trial, for it was changed over the mesh: %s; it goes back within 90 s" % ", ".join(
                self._trial.what
            )
            return [Trouble(text, _CONFIRM)] if left_s >= 0 else []
        if self.gone_back:
            return [Trouble(self.gone_back, "make the change again and confirm it in time")]
        return []

    def status(self) -> dict:
        on = self._trial.is_on()
        return {
            "on": on,
            "what": list(self._trial.what),
            "left_s": self._trial.left_ms(monotonic_ms()) // 1000 if on else 0,
            "gone_back": self.gone_back,
        }

    def commands(self) -> dict:
        return {"confirm": self.confirm}
