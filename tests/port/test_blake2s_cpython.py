import hashlib

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.port.blake2s import blake2s


@given(st.binary(max_size=300))
def test_blake2s_in_python_is_hashlibs(data):
    assert blake2s(data) == hashlib.blake2s(data).digest()
