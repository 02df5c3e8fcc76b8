"""Walks along a client's HTTP/2 frames to refuse what is too long before anyone holds it. Pure.

h2 keeps a frame of any announced length (up to 16 MB) until it is whole, and header blocks of up to 65 frames, before
it looks at either; strangers could make us hold that much on every connection.
Source: RFC 9113 sections 3.4, 4.1 and 6.10.
"""

# Fixed by the protocol
_PREFACE_BYTES = 24
_HEADER_BYTES = 9  # length u24, type u8, flags u8, stream u32
_HEADERS, _CONTINUATION = 0x1, 0x9
FRAME_BYTES = 16_384  # the most that we announce to take
# Chosen by us; as much as a header list may have once it is decoded
HEADER_BLOCK_BYTES = 16_384


class TooLong(Exception):
    """A frame or a header block over the limit."""


class FrameWalk:
    """Feed it the same bytes, cut anyhow."""

    __slots__ = ("_block", "_header", "_skip")

    def __init__(self) -> None:
        self._skip = _PREFACE_BYTES  # bytes until the next frame's header
        self._header = b""
        self._block = 0  # bytes of the header block so far

    def feed(self, data: bytes) -> None:
        """Raises TooLong at the header of the frame that is."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            missing = _HEADER_BYTES - len(self._header)
            self._header += data[at : at + missing]
            at += missing
            if len(self._header) == _HEADER_BYTES:
                self._check(int.from_bytes(self._header[:3], "big"), self._header[3])
                self._header = b""

    def _check(self, length: int, kind: int) -> None:
        if length > FRAME_BYTES:
            raise TooLong(f"a frame of {length} bytes")
        if kind == _HEADERS:
            self._block = length
        elif kind == _CONTINUATION:
            # the nine count too: empty ones cost as much
            self._block += length + _HEADER_BYTES
        else:
            self._block = 0
        if self._block > HEADER_BLOCK_BYTES:
            raise TooLong("a header block without an end")
        self._skip = length
