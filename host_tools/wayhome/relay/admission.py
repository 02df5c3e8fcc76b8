"""Who may use a relay that stands alone: a list of keys, or a coordinator that is asked.

Each door, called with (node_key, source_ip), gives the id of the mesh that the key belongs to, or None; its
`has_refused` tells of a key that is in already whether it is out now. Inside `wayhome serve` the coordinator's own
function stands here.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import NODE, key_from_text, key_text, short

from ..errors import HostError
from .service import Relay

log = logging.getLogger(__name__)

_VERIFY_SECONDS = 5.0
_ANSWER_MOST_BYTES = 4096
# Long enough to spare the coordinator a client that reconnects in a loop, short enough that no new node waits.
_REMEMBER_YES_SECONDS = 30.0
_REMEMBER_NO_SECONDS = 3.0
_REMEMBERED_MOST = 10_000


class Door(Protocol):
    """Who decides about a key: on its way in, and again while it is in."""

    async def __call__(self, node_key: bytes, source: str) -> str | None: ...

    async def has_refused(self, node_key: bytes, source: str) -> bool:
        """Tell whether the key is refused for certain: where nobody answers, who is in may stay."""


class AllowedKeys:
    """Admits the node keys of a file, one `nodekey:...` a line; what follows a # is a remark.

    The file is read again when it changes. Raises HostError if it can't be read at the start; later its last good
    contents count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self._keys = self._read()

    async def __call__(self, node_key: bytes, source: str) -> str | None:
        del source
        try:
            if self._stamp_now() != self._stamp:
                self._keys = self._read()
        except (OSError, HostError) as error:
            log.warning("going on with the keys that were last read: %s", error)
        return str(self._path) if node_key in self._keys else None

    async def has_refused(self, node_key: bytes, source: str) -> bool:
        return await self(node_key, source) is None

    def _stamp_now(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size

    def _read(self) -> frozenset[bytes]:
        keys = set()
        try:
            self._stamp = self._stamp_now()
            lines = self._path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"cannot read the allowed keys in {self._path}: {error}") from error
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if text:
                try:
                    keys.add(key_from_text(NODE, text))
                except BadWire as error:
                    raise HostError(f"{self._path}, line {number}: {error}") from None
        return frozenset(keys)


class _Verdict(msgspec.Struct, rename="pascal"):
    allow: bool


class AskedCoordinator:
    """Asks a coordinator's /verify address for each client: `{"NodePublic", "Source"}` in, `{"Allow": true}` out.

    Whatever else comes back, or nothing within 5 seconds, means no. `clock` gives seconds that only grow.
    Source: protocol reference, DERP section 6.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not url.startswith(("http://", "https://")):
            raise HostError(f"--verify-url must begin with https:// or http://, not {url!r}")
        self._url = url
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._remembered: dict[bytes, tuple[float, bool]] = {}

    async def __call__(self, node_key: bytes, source: str) -> str | None:
        until, allowed = self._remembered.get(node_key, (0.0, False))
        if self._clock() >= until:
            answer = await self._ask(node_key, source)
            allowed = bool(answer)
            if answer is not None:
                self._remember(node_key, allowed)
        return self._url if allowed else None

    async def has_refused(self, node_key: bytes, source: str) -> bool:
        return await self._ask(node_key, source) is False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, node_key: bytes, source: str) -> bool | None:
        """Return the coordinator's answer, None if there was none."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_VERIFY_SECONDS))
        question = {"NodePublic": key_text(NODE, node_key), "Source": source}
        try:
            async with self._session.post(self._url, json=question, allow_redirects=False) as response:
                body = await response.content.read(_ANSWER_MOST_BYTES)
                if response.status != 200:
                    log.warning("%s answered %d to whether %s may come in", self._url, response.status, short(node_key))
                    return None
                return msgspec.json.decode(body, type=_Verdict).allow
        except (TimeoutError, aiohttp.ClientError, msgspec.DecodeError) as error:
            log.warning("no answer from %s to whether %s may come in: %s", self._url, short(node_key), error)
            return None

    def _remember(self, node_key: bytes, allowed: bool) -> None:
        self._remembered.pop(node_key, None)
        while len(self._remembered) >= _REMEMBERED_MOST:
            del self._remembered[next(iter(self._remembered))]
        seconds = _REMEMBER_YES_SECONDS if allowed else _REMEMBER_NO_SECONDS
        self._remembered[node_key] = (self._clock() + seconds, allowed)


class AnyOf:
    """Admits whom any of several admits, all in one mesh: whoever runs the relay said that they belong together."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self._doors = doors

    async def __call__(self, node_key: bytes, source: str) -> str | None:
        for door in self._doors:
            if await door(node_key, source) is not None:
                return "relay"
        return None

    async def has_refused(self, node_key: bytes, source: str) -> bool:
        for door in self._doors:
            if not await door.has_refused(node_key, source):
                return False
        return True


class Everybody:
    """Admits whoever proves a key, all in one mesh: for labs."""

    async def __call__(self, node_key: bytes, source: str) -> str | None:
        return "everybody"

    async def has_refused(self, node_key: bytes, source: str) -> bool:
        return False


async def turn_out_the_refused(relay: Relay, door: Door) -> None:
    """Ask about everybody who is in, once, and end the connections of those who no longer may be."""
    for client in relay.clients():
        key = key_from_text(NODE, client["node_key"])
        if await door.has_refused(key, client["source"]):
            log.info("%s may no longer be here", short(key))
            relay.disconnect(key)
