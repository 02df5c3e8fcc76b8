"""Is a node alive? A PingRequest down its poll, answered by a HEAD over its own Noise connection.

Source: protocol reference, "PingRequest and c2n": the empty-Types HEAD ping. Its URL must be new each time (clients
ignore one equal to the last), and unguessable, so that nobody answers for another.
"""

import asyncio
from binascii import b2a_hex
from collections.abc import Callable

from .registry import Registry
from .sessions import Sessions

PATH = "/machine/ping/"
SECONDS = 5.0


class Pings:
    """`await ping_node(id)`: True once the node has answered, False if it didn't in time or has no poll open."""

    def __init__(self, registry: Registry, sessions: Sessions, random_bytes: Callable[[int], bytes]) -> None:
        self._registry = registry
        self._sessions = sessions
        self._random_bytes = random_bytes
        self._waiting: dict[str, tuple[bytes, asyncio.Future[None]]] = {}

    async def ping_node(self, node_id: int, seconds: float = SECONDS) -> bool:
        node = self._registry.nodes.get(node_id)
        if node is None:
            return False
        ping_id = b2a_hex(self._random_bytes(16)).decode()
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ping_id] = (node.machine_key, answered)
        try:
            # the host of a Noise URL is not looked at
            request = {"URL": f"https://coordinator{PATH}{ping_id}", "URLIsNoise": True}
            if not self._sessions.send_to(node_id, {"PingRequest": request}):
                return False
            async with asyncio.timeout(seconds):
                await answered
            return True
        except TimeoutError:
            return False
        finally:
            del self._waiting[ping_id]

    def answered(self, ping_id: str, machine_key: bytes) -> bool:
        """A HEAD came over this machine's link; False if we didn't ask it that."""
        asked = self._waiting.get(ping_id)
        if asked is None or asked[0] != machine_key:
            return False
        if not asked[1].done():
            asked[1].set_result(None)
        return True
