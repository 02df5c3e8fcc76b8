"""What leaves the machine names no secret."""

from binascii import b2a_base64, hexlify

from wayhomed.agent.redaction import LEFT_OUT, without_secrets
from wayhomed.port import random_bytes
from wayhomed.wire import keys


def test_what_is_no_secret_stays():
    for text in (
        "",
        "2026-11-23T02:14:31Z info the uplink has changed",
        "relay home: connecting to 203.0.113.10 port 8443: Connection refused",
        "fd7a:115c:a1e0::1/128 dev wayhome0, nodekey [abcde]",
        "chain forward { type filter hook forward priority 0; policy accept; }",
        "/usr/lib/wayhome/wayhomed/agent/control_session.py",
        "a-host-with-a-long-name-as-people-give-them.tail.example.net",
        "net/ipv6/conf/all/forwarding = 1",
        keys.key_text(keys.NODE, bytes(range(32))),
    ):
        assert without_secrets(text) == text, text


def test_known_secrets_are_left_out_wherever_they_stand():
    assert without_secrets("the key s3cret-x was revoked", ["s3cret-x"]) == "the key (left out) was revoked"
    assert without_secrets("x", [""]) == "x"


def test_keys_are_left_out_by_their_prefix():
    private = keys.key_text(keys.PRIVATE, random_bytes(32))
    secret = hexlify(random_bytes(12)).decode()
    for text in (private, "wayhome-auth-12-" + secret, "tskey-auth-" + secret, '{"key":"hskey-' + secret + '"}'):
        shown = without_secrets("error: " + text + " is not known")
        assert secret not in shown
        assert private[8:] not in shown
        assert LEFT_OUT in shown
        assert shown.endswith("is not known")


def test_links_keep_their_host_alone():
    text = "open https://anna:pw@mesh.example.net:8443/register/f00dfeed?x=1, then wait"
    assert without_secrets(text) == "open https://mesh.example.net:8443/(left out), then wait"
    assert without_secrets("http://mesh.example.net?token=f00dfeed") == "http://mesh.example.net"
    assert without_secrets("https://mesh.example.net/") == "https://mesh.example.net/"


def test_what_looks_like_a_key_is_left_out():
    for size in (24, 32, 48, 64):
        for _ in range(20):
            data = random_bytes(size)
            for form in (hexlify(data).decode(), b2a_base64(data).decode().strip()):
                for text in (form, "token=" + form, "(" + form + ")", "a " + form + " b"):
                    shown = without_secrets(text)
                    assert form not in shown, form
                    assert form[4:28] not in shown, form
