"""The hpack library as second opinion, and bytes of any kind."""

import hpack as library
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from wayhomed.wire import hpack
from wayhomed.wire.errors import BadWire

NAMES = st.text(alphabet="abcdefgh-", min_size=1, max_size=10) | st.sampled_from(["content-type", "date", "location"])
VALUES = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=10)


@given(st.lists(LISTS, max_size=5), st.booleans(), st.sampled_from([0, 64, 256, 4096]))
def test_blocks_of_the_library_are_read(lists, huffman, table):
    encoder = library.Encoder()
    encoder.header_table_size = table
    decoder = hpack.Decoder(1 << 20, 4096)
    for headers in lists:
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == headers


@given(LISTS)
def test_the_library_reads_our_blocks(headers):
    assert library.Decoder().decode(hpack.encode(headers)) == headers


def test_every_symbol_of_huffmans_code_is_read():
    for symbol in range(256):
        length = REQUEST_CODES_LENGTH[symbol]
        pad = -length % 8
        coded = (REQUEST_CODES[symbol] << pad | (1 << pad) - 1).to_bytes((length + pad) // 8, "big")
        assert hpack.huffman_decode(coded) == bytes([symbol])


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_break_the_decoder(blocks):
    decoder = hpack.Decoder(1000, 128)
    for block in blocks:
        try:
            headers = decoder.decode(block)
        except BadWire:
            break
        assert sum(len(name) + len(value) + 32 for name, value in headers) <= 1000


@given(st.binary(max_size=40))
def test_no_bytes_break_the_huffman_decoder(data):
    try:
        assert len(hpack.huffman_decode(data)) <= len(data) * 8 // 5
    except BadWire:
        pass
