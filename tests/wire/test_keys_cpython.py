from hypothesis import given
from hypothesis import strategies as st

from wayhomed.wire import keys
from wayhomed.wire.errors import BadWire

PREFIXES = st.sampled_from([keys.MACHINE, keys.NODE, keys.DISCO, keys.PRIVATE, keys.CHALLENGE, keys.NETWORK_LOCK, ""])


@given(PREFIXES, st.binary(min_size=32, max_size=32))
def test_any_key_comes_back(prefix, key):
    assert keys.key_from_text(prefix, keys.key_text(prefix, key)) == key


@given(PREFIXES, PREFIXES, st.text(max_size=70) | st.text(alphabet="0123456789abcdefABCDEFx", min_size=64, max_size=64))
def test_no_text_breaks_the_reader(prefix, written, text):
    try:
        assert len(keys.key_from_text(prefix, written + text)) == 32
    except BadWire:
        pass
    else:
        assert written == prefix
        assert set(text.lower()) <= set("0123456789abcdef")
