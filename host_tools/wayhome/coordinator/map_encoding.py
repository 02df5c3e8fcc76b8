"""Map messages as bytes: JSON, zstd or plain, in the frames of the map stream; made once for all who get the same."""

from collections.abc import Mapping
from typing import Any

import msgspec
import zstandard

from wayhomed.wire.control import encode_map_frame

from .netmap import SharedMessage

# Fastest of the levels that the format knows without tricks: messages are small, and each is a frame of its own.
_LEVEL = 1
_COMPRESSOR = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False, write_content_size=True)
_ENCODER = msgspec.json.Encoder()


def encode(message: Mapping[str, Any], zstd: bool) -> bytes:
    """Return a message as one frame of the stream; a SharedMessage is encoded once for each kind.

    UTF-8, no \\u escapes: some clients borrow texts from the JSON as they stand there.
    Source: protocol reference, "The map response stream", "Framing".
    """
    if isinstance(message, SharedMessage):
        kind = "zstd" if zstd else "plain"
        frame = message.encoded.get(kind)
        if frame is None:
            frame = message.encoded[kind] = _frame(message, zstd)
        return frame
    return _frame(message, zstd)


def _frame(message: Mapping[str, Any], zstd: bool) -> bytes:
    return b"".join(_one_frame(part, zstd) for part in _apart(message))


def _one_frame(message: Mapping[str, Any], zstd: bool) -> bytes:
    text = _ENCODER.encode(message)
    return encode_map_frame(_COMPRESSOR.compress(text) if zstd else text)


def _apart(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the message, or two that say the same: a peer's relay and its endpoints never change in one.

    Of several changes of one peer in one message, stock clients around release 1.90 hand only the first on to what
    finds paths. Told both at once (as when a peer has just started) they know its relay and never try it directly;
    measured with 1.90.9.
    """
    patches = message.get("PeersChangedPatch")
    if not patches or not any("DERPRegion" in patch and "Endpoints" in patch for patch in patches):
        return [message]
    first, second = [], []
    for patch in patches:
        if "DERPRegion" in patch and "Endpoints" in patch:
            first.append({name: value for name, value in patch.items() if name != "Endpoints"})
            second.append({"NodeID": patch["NodeID"], "Endpoints": patch["Endpoints"]})
        else:
            first.append(patch)
    return [{**message, "PeersChangedPatch": first}, {"PeersChangedPatch": second}]


# Exactly this text: clients remember its compressed form and skip decoding when the bytes repeat.
KEEP_ALIVE = {zstd: _frame({"KeepAlive": True}, zstd) for zstd in (False, True)}
