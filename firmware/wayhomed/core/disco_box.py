"""Our disco key and the secrets it shares with the peers' keys.

Pure: random bytes come from a callable. A secret costs a curve operation, so it is made when first needed and kept;
only keys of the netmap have one, so strangers can neither fill the memory nor make us calculate.
Source: disco.md section 1.
"""

from wayhomed.wire import disco, keys
from wayhomed.wire.errors import BadWire


class DiscoBox:
    """The disco key pair of this process, which is never stored, and one secret for each peer's key in use."""

    def __init__(self, private_key: bytes, random_bytes):
        """private_key: 32 bytes; random_bytes(n): n fresh bytes, for nonces."""
        self._private_key = private_key
        self._random_bytes = random_bytes
        self.public_key = keys.public_of(private_key)
        self._shared: dict = {}  # peer's disco key -> the box key with it; None if it gives none

    def known_keys(self, disco_keys) -> None:
        """Forget the secrets with all keys but these (a set or dict of raw keys)."""
        for key in [key for key in self._shared if key not in disco_keys]:
            del self._shared[key]

    def seal(self, disco_key: bytes, plaintext: bytes) -> bytes | None:
        """Return the datagram for the owner of a key of the netmap; None if the key gives no secret."""
        shared = self._shared_with(disco_key)
        if shared is None:
            return None
        return disco.seal_message(shared, self.public_key, self._random_bytes(24), plaintext)

    def open(self, disco_key: bytes, datagram: bytes) -> bytes | None:
        """Return what the owner of a key of the netmap sealed for us; None if that is not what this is."""
        shared = self._shared_with(disco_key)
        if shared is None:
            return None
        try:
            return disco.open_message(shared, datagram)
        except BadWire:
            return None

    def _shared_with(self, disco_key: bytes) -> bytes | None:
        if disco_key not in self._shared:
            try:
                self._shared[disco_key] = disco.shared_key(disco_key, self._private_key)
            except BadWire:
                self._shared[disco_key] = None  # kept too: a weak key must not cost a curve operation each time
        return self._shared[disco_key]
