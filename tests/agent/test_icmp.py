"""Echo requests."""

from wayhomed.agent.icmp import echo_request, is_reply

IP = b"\xc0\xa8\x01\x0a"


def reply(request, source=IP, options=b""):
    head = bytes([0x45 + len(options) // 4]) + bytes(11) + source + b"\x64\x40\x00\x01" + options
    return head + b"\0\0" + request[2:]


def test_a_request_has_a_right_checksum():
    request = echo_request(0x1234, 1)
    total = 0
    for at in range(0, len(request), 2):
        total += request[at] << 8 | request[at + 1]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_only_the_answer_of_the_one_asked_counts():
    request = echo_request(0x1234, 1)
    assert is_reply(reply(request), IP, 0x1234)
    assert is_reply(reply(request, options=bytes(4)), IP, 0x1234)
    assert not is_reply(reply(request), IP, 0x1235)
    assert not is_reply(reply(request, source=b"\x01\x02\x03\x04"), IP, 0x1234)
    assert not is_reply(reply(request)[:27], IP, 0x1234)
    assert not is_reply(b"", IP, 0x1234)
    assert not is_reply(bytes([0x4F]) + reply(request)[1:28], IP, 0x1234)
