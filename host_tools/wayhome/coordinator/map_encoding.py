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
    text = _ENCODER.encode(message)
    return encode_map_frame(_COMPRESSOR.compress(text) if zstd else text)


# Exactly this text: clients remember its compressed form and skip decoding when the bytes repeat.
KEEP_ALIVE = {zstd: _frame({"KeepAlive": True}, zstd) for zstd in (False, True)}
