"""DNS over HTTP against input nobody planned."""

from base64 import urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.wire import doh
from wayhomed.wire.errors import BadWire


@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([b"GET ", b"POST ", b"/dns-query", b"\r\n\r\n"]))))
def test_any_bytes_are_a_request_or_bad_wire(pieces):
    reader = doh.RequestReader()
    try:
        for piece in pieces:
            if reader.feed(piece):
                break
    except BadWire:
        pass


@given(st.binary(max_size=1232))
def test_every_message_can_be_asked(message):
    text = urlsafe_b64encode(message).rstrip(b"=")
    reader = doh.RequestReader()
    assert reader.feed(b"GET /dns-query?dns=" + text + b" HTTP/1.1\r\n\r\n") and reader.message == message
