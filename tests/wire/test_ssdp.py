"""SSDP's question and the few lines of its answers that are read."""

from shared.expect import raises
from wayhomed.wire import ssdp
from wayhomed.wire.errors import BadWire

ANSWER = (
    b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: upnp:rootdevice\r\nUSN: uuid:1::upnp:rootdevice\r\n"
    b"Server:  Linux/4.4 UPnP/1.0 Synology/DSM \r\nLOCATION: http://192.168.1.20:5000/d.xml\r\n\r\n"
)


def test_the_question_is_the_one_of_the_standard():
    assert ssdp.encode_search(1) == (
        b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        b"ST: upnp:rootdevice\r\n\r\n"
    )


def test_an_answer_tells_server_target_and_name():
    expected = {"server": "Linux/4.4 UPnP/1.0 Synology/DSM", "st": "upnp:rootdevice", "usn": "uuid:1::upnp:rootdevice"}
    assert ssdp.decode_answer(ANSWER) == expected
    assert ssdp.decode_answer(ANSWER + b"a body: which is none\xff") == expected
    assert ssdp.decode_answer(ANSWER[:-4]) == expected


def test_what_an_answer_does_not_say_is_empty():
    assert ssdp.decode_answer(b"HTTP/1.1 200 OK") == {"server": "", "st": "", "usn": ""}


def test_of_a_line_that_stands_twice_the_first_counts():
    assert ssdp.decode_answer(b"HTTP/1.1 200 OK\r\nSERVER: a\r\nSERVER: b")["server"] == "a"


def test_what_is_no_answer_is_refused():
    for datagram in (b"", b"NOTIFY * HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 no\r\n\r\n", b"HTTP/1.1 200 OK\r\nSERVER\r\n"):
        raises(BadWire, ssdp.decode_answer, datagram)


def test_an_answer_that_is_no_text_is_refused():
    raises(BadWire, ssdp.decode_answer, b"HTTP/1.1 200 OK\r\nSERVER: \xff\r\n")
    raises(BadWire, ssdp.decode_answer, b"HTTP/1.1 200 OK\r\n\xff: a\r\n")


def test_an_answer_may_have_so_many_lines_and_bytes_and_no_more():
    line = b"\r\nSERVER: a"
    assert ssdp.decode_answer(b"HTTP/1.1 200 OK" + line * 39)["server"] == "a"
    raises(BadWire, ssdp.decode_answer, b"HTTP/1.1 200 OK" + line * 40)
    head = b"HTTP/1.1 200 OK\r\nSERVER: "
    assert len(ssdp.decode_answer(head + b"a" * (2048 - len(head)))["server"]) == 2048 - len(head)
    raises(BadWire, ssdp.decode_answer, head + b"a" * (2049 - len(head)))
