from binascii import unhexlify

from shared.expect import raises
from wayhomed.wire import hpack
from wayhomed.wire.errors import BadWire

# RFC 7541 appendix C.5 and C.6: three answers over one connection, a table of 256 bytes.
DATE_1 = ("date", "Mon, 21 Oct 2013 20:13:21 GMT")
DATE_2 = ("date", "Mon, 21 Oct 2013 20:13:22 GMT")
LOCATION = ("location", "https://www.example.com")
PRIVATE = ("cache-control", "private")
COOKIE = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
ANSWERS = (
    [(":status", "302"), PRIVATE, DATE_1, LOCATION],
    [(":status", "307"), PRIVATE, DATE_1, LOCATION],
    [(":status", "200"), PRIVATE, DATE_2, LOCATION, ("content-encoding", "gzip"), COOKIE],
)
PLAIN_BLOCKS = (
    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e17"
    "68747470733a2f2f7777772e6578616d706c652e636f6d",
    "4803333037c1c0bf",
    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d41"
    "53444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b207665727369"
    "6f6e3d31",
)
HUFFMAN_BLOCKS = (
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27"
    "087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
)


def decoder(table=4096, limit=65536):
    return hpack.Decoder(limit, table)


def decode(hex_text, **settings):
    return decoder(**settings).decode(unhexlify(hex_text))


def refuses(hex_text, **settings):
    raises(BadWire, decoder(**settings).decode, unhexlify(hex_text))


def test_answers_of_the_rfc_are_read_with_and_without_huffman_code():
    for blocks in (PLAIN_BLOCKS, HUFFMAN_BLOCKS):
        reader = decoder(table=256)
        for i in range(3):
            assert reader.decode(unhexlify(blocks[i])) == ANSWERS[i]


def test_literals_of_the_rfc_are_read():
    assert decode("400a637573746f6d2d6b65790d637573746f6d2d686561646572") == [("custom-key", "custom-header")]
    assert decode("040c2f73616d706c652f70617468") == [(":path", "/sample/path")]
    assert decode("100870617373776f726406736563726574") == [("password", "secret")]
    assert decode("82") == [(":method", "GET")]


def test_only_headers_to_be_indexed_enter_the_table():
    reader = decoder()
    reader.decode(unhexlify("040c2f73616d706c652f70617468" + "100870617373776f726406736563726574"))
    raises(BadWire, reader.decode, b"\xbe")


def test_the_static_table_has_61_entries():
    assert decode("81") == [(":authority", "")]
    assert decode("8e") == [(":status", "500")]
    assert decode("90") == [("accept-encoding", "gzip, deflate")]
    assert decode("bd") == [("www-authenticate", "")]
    refuses("be")


def test_index_0_is_refused():
    refuses("80")


def test_an_index_behind_the_table_is_refused():
    reader = decoder()
    reader.decode(unhexlify("400161016240016301" + "64"))
    assert reader.decode(b"\xbe\xbf") == [("c", "d"), ("a", "b")]
    raises(BadWire, reader.decode, b"\xc0")
    refuses("7f00" + "0161")
    refuses("7f000161")


def test_an_entry_larger_than_the_table_empties_it():
    reader = decoder(table=100)
    reader.decode(unhexlify("4001610162"))
    assert reader.decode(b"\xbe") == [("a", "b")]
    reader.decode(b"\x40\x01a\x50" + b"x" * 80)
    raises(BadWire, reader.decode, b"\xbe")


def test_the_table_holds_as_much_as_its_size_and_not_a_byte_more():
    for value, holds in ((b"x" * 33, True), (b"x" * 34, False)):
        reader = decoder(table=100)
        reader.decode(b"\x40\x01a\x01b")  # 34 bytes
        reader.decode(b"\x40\x01a" + bytes([len(value)]) + value)
        # 34 + 1 + 33 + 32 = 100
        if holds:
            assert reader.decode(b"\xbf") == [("a", "b")]
        else:
            raises(BadWire, reader.decode, b"\xbf")


def test_the_peer_may_shrink_the_table_and_grow_it_to_what_we_allow():
    reader = decoder(table=256)
    reader.decode(unhexlify("4001610162"))
    assert reader.decode(unhexlify("20" + "3fe101" + "82")) == [(":method", "GET")]
    raises(BadWire, reader.decode, b"\xbe")
    refuses("3fe201" + "82", table=256)


def test_a_table_size_change_behind_a_header_is_refused():
    refuses("8220")
    assert decode("2082") == [(":method", "GET")]


def test_a_block_cut_anywhere_is_refused_or_ends_between_headers():
    block = unhexlify(HUFFMAN_BLOCKS[0])
    ends = {0, 4, 11, 35, 54}
    for cut in range(len(block) + 1):
        if cut in ends:
            decoder().decode(block[:cut])
        else:
            raises(BadWire, decoder().decode, block[:cut])


def test_integers_of_the_rfc_are_read_and_written():
    # 31 + 154 + 10 * 128 = 1337 with a 5-bit prefix: as a table size, of which 1337 is allowed and 1336 is not.
    assert decode("3f9a0a", table=1337) == []
    refuses("3f9a0a", table=1336)
    assert decode("2a", table=10) == []
    refuses("2a", table=9)


def test_an_integer_without_end_is_refused():
    refuses("ff80808080")
    refuses("ff8080808000")
    refuses("3f8080808000")
    refuses("ff808080")
    refuses("ff")
    assert decode("3f80808000") == []


def test_a_string_longer_than_its_block_is_refused():
    refuses("400561")
    refuses("4001")
    refuses("40")
    refuses("40016102" + "61")
    refuses("407fffffff7f")
    refuses("40ffffffff7f61")


def test_a_header_list_over_the_limit_is_refused():
    assert decode("4001610162" * 3, limit=102) == [("a", "b")] * 3
    refuses("4001610162" * 3, limit=101)
    refuses("4001610162" + "be" * 1000, limit=1000)


def test_text_that_is_no_utf8_is_refused():
    refuses("400161" + "01ff")
    assert decode("400161" + "02c3a9") == [("a", "é")]


def test_entries_are_counted_in_bytes_not_characters():
    reader = decoder(table=36)
    reader.decode(unhexlify("400161" + "02c3a9"))  # 1 + 2 + 32
    assert reader.decode(b"\xbe") == [("a", "é")]
    reader = decoder(table=34)
    reader.decode(unhexlify("400161" + "02c3a9"))
    raises(BadWire, reader.decode, b"\xbe")


def test_huffman_code_of_the_rfc_is_read():
    assert hpack.huffman_decode(unhexlify("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
    assert hpack.huffman_decode(unhexlify("a8eb10649cbf")) == b"no-cache"
    assert hpack.huffman_decode(unhexlify("25a849e95bb8e8b4bf")) == b"custom-value"
    assert hpack.huffman_decode(b"") == b""


def test_the_longest_codes_are_read():
    # "\n" and "\r" have 30 bits, 3ffffffc and 3ffffffd; "\\" has 19, 7fff0.
    assert hpack.huffman_decode(unhexlify("fffffff3")) == b"\n"
    assert hpack.huffman_decode(unhexlify("fffffff7")) == b"\r"
    assert hpack.huffman_decode(unhexlify("fffe1f")) == b"\\"


def test_padding_of_eight_bits_or_of_zeros_is_refused():
    raises(BadWire, hpack.huffman_decode, b"\xff")
    raises(BadWire, hpack.huffman_decode, unhexlify("a8eb10649cbfff"))
    raises(BadWire, hpack.huffman_decode, unhexlify("a8eb10649cbe"))
    # "0" is 00000; then three bits of padding
    assert hpack.huffman_decode(b"\x07") == b"0"
    for wrong in (0x00, 0x03, 0x05, 0x06):
        raises(BadWire, hpack.huffman_decode, bytes([wrong]))


def test_a_coded_end_of_string_is_refused():
    raises(BadWire, hpack.huffman_decode, b"\xff\xff\xff\xff")
    raises(BadWire, hpack.huffman_decode, b"\x07\xff\xff\xff\xfc")


def test_requests_are_written_with_the_static_table_and_plain_text():
    headers = [(":method", "POST"), (":path", "/machine/map"), ("content-type", "text/x"), ("ts-lb", "k")]
    block = hpack.encode(headers)
    assert block == b"\x83" + b"\x04\x0c/machine/map" + b"\x0f\x10\x06text/x" + b"\x00\x05ts-lb\x01k"
    assert decoder().decode(block) == headers


def test_long_texts_are_written_with_long_lengths():
    for length in (126, 127, 128, 254, 255, 16510, 16511):
        headers = [("a", "x" * length)]
        assert decoder().decode(hpack.encode(headers)) == headers
    assert hpack.encode([("a", "x" * 1337)])[3:6] == b"\x7f\xba\x09"
