"""Requests of strangers: names without regard to case, wrong types named by their path, nothing unbounded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhome.coordinator.json_reading import BadRequest
from wayhome.coordinator.requests import ENDPOINTS, read_map, read_register

KEY = "nodekey:" + "ab" * 32


def body(**fields: object) -> bytes:
    return json.dumps({"NodeKey": KEY, "Version": 130, **fields}).encode()


def test_names_are_read_without_regard_to_case_however_deep():
    text = f'{{"nodekey":"{KEY}","VERSION":130,"HostInfo":{{"IpnVersion":"1","netinfo":{{"PreferredDerp":900}}}}}}'
    request = read_map(text.encode())
    assert request.version == 130
    assert request.hostinfo == {"IPNVersion": "1", "NetInfo": {"PreferredDERP": 900}}


def test_an_exact_name_wins_over_one_spelt_otherwise():
    text = f'{{"NodeKey":"{KEY}","hostinfo":{{"OS":"b"}},"Hostinfo":{{"OS":"a","os":"c"}}}}'
    assert read_map(text.encode()).hostinfo == {"OS": "a"}


def test_unknown_names_are_ignored_and_those_of_hostinfo_kept():
    assert read_register(body(Fancy=[1], Hostinfo={"Fancy": {"x": 1}})).hostinfo == {"Fancy": {"x": 1}}


def test_an_absent_list_differs_from_an_empty_one():
    assert read_map(body()).endpoints is None
    assert read_map(body(Endpoints=[])).endpoints == []


def test_the_zero_time_and_the_zero_disco_key_mean_absent():
    assert read_register(body(Expiry="0001-01-01T00:00:00Z")).expiry is None
    assert read_map(body(DiscoKey="discokey:" + "0" * 64)).disco_key is None


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"NodeKey": 1}, "$.NodeKey"),
        ({"NodeKey": "nodekey:12"}, "$.NodeKey"),
        ({"NodeKey": "nodekey:" + "0" * 64}, "$.NodeKey"),
        ({"Version": -1}, "$.Version"),
        ({"Version": 10**30}, "$.Version"),
        ({"Endpoints": ["1.2.3.4:5"] * (ENDPOINTS + 1)}, "$.Endpoints"),
        ({"Endpoints": [["1.2.3.4:5"]]}, "$.Endpoints[0]"),
        ({"Endpoints": "1.2.3.4:5"}, "$.Endpoints"),
        ({"Hostinfo": []}, "$.Hostinfo"),
        ({"Hostinfo": {"Hostname": 7}}, "$.Hostinfo.Hostname"),
        ({"Hostinfo": {"RoutableIPs": ["10.0.0.0/8", None]}}, "$.Hostinfo.RoutableIPs[1]"),
        ({"Hostinfo": {"NetInfo": {"PreferredDERP": "900"}}}, "$.Hostinfo.NetInfo.PreferredDERP"),
        ({"Hostinfo": {"x": "y" * 70_000}}, "$.Hostinfo"),
        ({"Stream": "yes"}, "$.Stream"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(fields: dict[str, object], where: str):
    with pytest.raises(BadRequest, match="at `") as refused:
        read_map(body(**fields))
    assert f"`{where}`" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"a":1e999}',
        b'{"NodeKey":"\\ud800"}',
        b'{"\xff":1}',
        b"[" * 200_000,
        b'{"Hostinfo":' * 50_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        json.dumps({"NodeKey": KEY, "Hostinfo": {"a": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}}).encode(),
    ],
)
def test_what_is_no_honest_json_is_refused(text: bytes):
    with pytest.raises(BadRequest):
        read_register(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text: bytes):
    try:
        read_map(text)
    except BadRequest:
        pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(["NodeKey", "nodekey", "Version", "Hostinfo", "HOSTINFO", "Auth", "Expiry", "Endpoints"])


@given(st.dictionaries(_NAMES, _JSON, max_size=5))
def test_any_json_is_read_or_refused(value: dict[str, object]):
    for reader in (read_map, read_register):
        try:
            reader(json.dumps({"NodeKey": KEY, **value}).encode())
        except BadRequest:
            pass
