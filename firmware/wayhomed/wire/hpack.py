"""HPACK: the header compression of HTTP/2. Decodes all of it; encodes with the static table and plain text only.

Source: RFC 7541.
"""

from binascii import unhexlify

from ..port import const
from .errors import BadWire

# Fixed by the protocol
DEFAULT_TABLE_BYTES = const(4096)
ENTRY_OVERHEAD_BYTES = const(32)  # counted for each header besides its name and value, section 4.1
_EOS = const(256)
# Chosen by us: no length or index here needs more; 4 bytes behind the prefix keep integers below 2^28 + 255.
_MAX_INTEGER_BYTES = const(4)

# Appendix A; an entry is name or name and value.
_STATIC = tuple(
    [
        tuple(line.split(" ", 1)) if " " in line else (line, "")
        for line in (
            ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|"
            ":status 204|:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|"
            "accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|"
            "authorization|cache-control|content-disposition|content-encoding|content-language|content-length|"
            "content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|"
            "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|"
            "proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
            "strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
        ).split("|")
    ]
)

# Appendix B as the length in bits of each symbol's code, end of string last. The code is canonical: codes of one length
# are consecutive in the order of their symbols, so the lengths say all.
_CODE_LENGTHS = unhexlify(
    b"0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b080606060505"
    b"050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f050605"
    b"06050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817"
    b"1717171516171617171816151416161717151716161815161717151516151716171714161616171616171a1a141316171619"
    b"1a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c"
    b"1b1b1b1b1b1a1e"
)


def _codes() -> tuple:
    """Return (length, end, offset) for each length that codes have, shortest first, and the symbols in code order.

    A code below `end` is a whole one of that length; added to `offset` it is its symbol's index.
    """
    by_length = []
    symbols: list = []
    code = 0
    for length in range(1, 31):
        code <<= 1
        of_length = [symbol for symbol in range(257) if _CODE_LENGTHS[symbol] == length]
        if of_length:
            by_length.append((length, code + len(of_length), len(symbols) - code))
            symbols += of_length
            code += len(of_length)
    return by_length, symbols


_BY_LENGTH, _SYMBOLS = _codes()


class Decoder:
    """One direction's header blocks, in their order: the dynamic table lives from block to block."""

    def __init__(self, max_list_bytes: int, max_table_bytes: int = DEFAULT_TABLE_BYTES):
        """max_list_bytes bounds one block's headers, counted as in RFC 9113 section 6.5.2; max_table_bytes is what our
        settings allow the peer's table."""
        self._max_list_bytes = max_list_bytes
        self._max_table_bytes = max_table_bytes
        self._table_limit = max_table_bytes
        self._table: list = []  # of (name, value), newest first
        self._table_bytes = 0
        self._block = b""
        self._position = 0

    def decode(self, block: bytes) -> list:
        """Return the (name, value) pairs of one header block. Raises BadWire; then the decoder is of no more use."""
        self._block = block
        self._position = 0
        headers: list = []
        list_bytes = 0
        while self._position < len(block):
            first = block[self._position]
            if first & 0x80:  # indexed, section 6.1
                header = self._entry(self._integer(7))
            elif first & 0xE0 == 0x20:  # table size update, section 6.3
                if headers:
                    raise BadWire("an HPACK table size update behind a header")
                self._resize(self._integer(5))
                continue
            else:  # literal, section 6.2: with indexing if 01......, without or never if 000.....
                added = first & 0x40
                index = self._integer(6 if added else 4)
                name = self._entry(index)[0] if index else self._string()
                header = (name, self._string())
                if added:
                    self._add(header)
            list_bytes += _entry_bytes(header)
            if list_bytes > self._max_list_bytes:
                raise BadWire("an HTTP/2 header list over " + str(self._max_list_bytes) + " bytes")
            headers.append(header)
        self._block = b""
        return headers

    def _entry(self, index: int) -> tuple:
        if index == 0:
            raise BadWire("HPACK index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        index -= len(_STATIC) + 1
        if index >= len(self._table):
            raise BadWire("an HPACK index behind the table's end")
        return self._table[index]

    def _add(self, header: tuple) -> None:
        self._table.insert(0, header)
        self._table_bytes += _entry_bytes(header)
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > self._max_table_bytes:
            raise BadWire("an HPACK table larger than we allowed")
        self._table_limit = limit
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._table_limit:
            self._table_bytes -= _entry_bytes(self._table.pop())

    def _integer(self, prefix_bits: int) -> int:
        """Take an integer, section 5.1."""
        block = self._block
        mask = (1 << prefix_bits) - 1
        number = block[self._position] & mask
        self._position += 1
        if number < mask:
            return number
        for i in range(_MAX_INTEGER_BYTES):
            if self._position >= len(block):
                raise BadWire("an HPACK integer cut short")
            byte = block[self._position]
            self._position += 1
            number += (byte & 127) << 7 * i
            if byte < 128:
                return number
        raise BadWire("an HPACK integer without end")

    def _string(self) -> str:
        """Take a string, section 5.2."""
        if self._position >= len(self._block):
            raise BadWire("an HPACK string cut short")
        is_huffman = self._block[self._position] & 0x80
        length = self._integer(7)
        end = self._position + length
        if end > len(self._block):
            raise BadWire("an HPACK string cut short")
        data = bytes(self._block[self._position : end])
        self._position = end
        try:
            return (huffman_decode(data) if is_huffman else data).decode()
        except UnicodeError:
            raise BadWire("an HTTP/2 header that is no text")


def encode(headers: list) -> bytes:
    """Return the block of (name, value) pairs; names in lower case. It asks nothing of the peer's dynamic table."""
    block = bytearray()
    for header in headers:
        name_index = 0
        for i in range(len(_STATIC)):
            if _STATIC[i] == header:
                block += _encode_integer(i + 1, 7, 0x80)
                break
            if _STATIC[i][0] == header[0] and not name_index:
                name_index = i + 1
        else:
            block += _encode_integer(name_index, 4, 0)
            if not name_index:
                block += _encode_string(header[0])
            block += _encode_string(header[1])
    return bytes(block)


def huffman_decode(data: bytes) -> bytes:
    """Return what a Huffman-coded string says. Raises BadWire for a wrong padding or a coded end. Section 5.2."""
    out = bytearray()
    bits = 0  # the last `count` bits read, not yet part of a symbol
    count = 0
    for byte in data:
        bits = bits << 8 | byte
        count += 8
        found = True
        while found:
            found = False
            for length, end, offset in _BY_LENGTH:
                if length > count:
                    break
                code = bits >> count - length
                if code < end:
                    symbol = _SYMBOLS[code + offset]
                    if symbol == _EOS:
                        raise BadWire("a Huffman-coded end of string")
                    out.append(symbol)
                    count -= length
                    bits &= (1 << count) - 1
                    found = True
                    break
    if count > 7 or bits != (1 << count) - 1:
        raise BadWire("a wrong padding of Huffman code")
    return bytes(out)


def _encode_integer(number: int, prefix_bits: int, flags: int) -> bytes:
    mask = (1 << prefix_bits) - 1
    if number < mask:
        return bytes((flags | number,))
    out = bytearray((flags | mask,))
    number -= mask
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _encode_string(text: str) -> bytes:
    data = text.encode()
    return _encode_integer(len(data), 7, 0) + data


def _entry_bytes(header: tuple) -> int:
    """Return what a header counts for, by RFC 7541 section 4.1 and RFC 9113 section 6.5.2 alike."""
    return len(header[0].encode()) + len(header[1].encode()) + ENTRY_OVERHEAD_BYTES
