from wayhomed.wire import disco

SEEN = (b"\xc6\x33\x64\x07", 41641)


def test_of_a_call_me_maybe_64_endpoints_are_looked_at():
    for sent, read in ((0, 0), (1, 1), (63, 63), (64, 64), (65, 64), (1000, 64)):
        message = disco.decode_message(disco.encode_call_me_maybe([SEEN] * sent))
        assert message.endpoints == [SEEN] * read


def test_a_ping_with_a_part_of_a_node_key_counts_as_one_without():
    whole = disco.encode_ping(bytes(range(12)), bytes(range(32)))
    assert disco.decode_message(whole).node_key == bytes(range(32))
    for cut in range(14, len(whole)):
        ping = disco.decode_message(whole[:cut])
        assert (ping.txid, ping.node_key, ping.padding) == (bytes(range(12)), bytes(32), 0)
