"""Keeps the last netmap on disk: piece by piece, for it may be large and the daemon has more to do meanwhile."""

from wayhomed.port import const
from wayhomed.port.crypto import sha256
from wayhomed.port.tasks import sleep_ms

from .state import StateError

# Chosen by us: so many peers are written before others have their turn, on a slow board for some 20 ms.
_AT_ONCE = const(16)


class NetmapSaver:
    """Writes the netmap if it says anything new, for flash wears out. error: why it could not be written, or ""."""

    def __init__(self, state, log):
        self._state = state
        self._log = log
        self._saved_digest = b""
        self.error = ""

    async def save(self, netmap) -> None:
        """Save it; others run in between. That it can't be written is told in the log and in `error`, and no more."""
        steps = self._steps(netmap)
        try:
            for _step in steps:
                await sleep_ms(0)
        finally:
            steps.close()  # when it was cancelled: the half-written file goes before another is begun

    def save_now(self, netmap) -> None:
        """The same, at once."""
        for _step in self._steps(netmap):
            pass

    def _steps(self, netmap):
        """Do the work; yield where others may run."""
        if netmap.node is None:
            return
        digest = b""
        for index, piece in enumerate(netmap.json_pieces()):
            digest = sha256(digest + piece)
            if index % _AT_ONCE == 0:
                yield
        if digest == self._saved_digest:
            return
        try:
            yield from self._writing(netmap)
        except StateError as error:
            self.error = str(error)
            self._log.error(self.error)

    def _writing(self, netmap):
        file = self._state.begin_netmap()
        done = False
        digest = b""  # again: the netmap may have changed meanwhile
        try:
            for index, piece in enumerate(netmap.json_pieces()):
                digest = sha256(digest + piece)
                file.write(piece)
                if index % _AT_ONCE == 0:
                    yield
            file.keep()
            done = True
        finally:
            if not done:
                file.drop()
        self.error = ""
        self._saved_digest = digest
