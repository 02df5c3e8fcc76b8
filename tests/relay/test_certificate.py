import asyncio
import hashlib
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest
from cryptography import x509

from relay.people import SERVER_PUBLIC
from wayhome.errors import HostError
from wayhome.relay import certificate

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def shown_chain(context: ssl.SSLContext) -> list[x509.Certificate]:
    """Return the certificates that a server with this context presents."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(theirs, server_side=True) as tls:
            tls.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with client.wrap_socket(ours) as tls:
        chain = [x509.load_der_x509_certificate(one.public_bytes(2)) for one in tls._sslobj.get_unverified_chain()]
        tls.send(b"x")
    thread.join()
    return chain


def test_the_pin_is_the_hash_of_the_whole_certificate(tmp_path):
    own = certificate.load_or_make(tmp_path, "relay.test", "192.0.2.1", now=NOW)
    der = ssl.PEM_cert_to_DER_cert(own.certificate.read_text())
    assert own.pin == "sha256-raw:" + hashlib.sha256(der).hexdigest()
    assert own.pin == certificate.pin_of(own.certificate)
    assert own.names == ("relay.test", "192.0.2.1")
    assert own.made


def test_it_is_kept_from_start_to_start_and_its_key_is_its_owners_alone(tmp_path):
    first = certificate.load_or_make(tmp_path, "relay.test", now=NOW)
    again = certificate.load_or_make(tmp_path, "relay.test", now=NOW + timedelta(days=3000))
    assert (again.pin, again.made) == (first.pin, False)
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600


def test_another_name_or_the_end_of_its_time_make_a_new_one(tmp_path):
    first = certificate.load_or_make(tmp_path, "relay.test", now=NOW)
    other = certificate.load_or_make(tmp_path, "other.test", now=NOW)
    assert other.made
    assert other.pin != first.pin
    later = certificate.load_or_make(tmp_path, "other.test", now=NOW + timedelta(days=4000))
    assert later.made
    assert later.ends > NOW + timedelta(days=4000)


def test_a_half_written_pair_is_replaced(tmp_path):
    first = certificate.load_or_make(tmp_path, now=NOW)
    first.certificate.unlink()
    assert certificate.load_or_make(tmp_path, now=NOW).made


def test_the_operator_is_told_before_the_end(tmp_path):
    own = certificate.load_or_make(tmp_path, now=NOW)
    assert own.renewal_note(NOW) is None
    assert "start again" in own.renewal_note(own.ends - timedelta(days=30))


def test_a_broken_certificate_file_is_told_in_words(tmp_path):
    own = certificate.load_or_make(tmp_path, now=NOW)
    own.certificate.write_text("nonsense")
    with pytest.raises(HostError, match=r"relay\.crt"):
        certificate.load_or_make(tmp_path, now=NOW)
    with pytest.raises(HostError):
        certificate.server_context(own.certificate, own.key)
    with pytest.raises(HostError):
        certificate.server_context(tmp_path / "none", own.key)


def test_a_directory_that_cannot_be_made_is_told_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="--state"):
        certificate.load_or_make(tmp_path / "file" / "state", now=NOW)


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_the_meta_certificate_names_the_relays_key_beside_the_own_one(tmp_path):
    own = certificate.load_or_make(tmp_path, "relay.test")
    chain = [x509.load_pem_x509_certificate(own.certificate.read_bytes())]
    chain += [x509.load_pem_x509_certificate(certificate.meta_certificate(SERVER_PUBLIC, datetime.now(UTC)))]
    meta = chain[1]
    assert names(meta) == "CN=derpkey" + SERVER_PUBLIC.hex()
    assert names(meta) == meta.issuer.rfc4514_string()
    assert meta.serial_number == 2
    assert meta.not_valid_before_utc < datetime.now(UTC) - timedelta(days=29)
    assert meta.not_valid_after_utc > datetime.now(UTC) + timedelta(days=29)
    meta.public_key().verify(meta.signature, meta.tbs_certificate_bytes)
    assert len(meta.extensions) == 1


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_the_server_shows_the_pinned_certificate_first_and_the_meta_certificate_after_it(tmp_path):
    own = certificate.load_or_make(tmp_path, "relay.test")
    context = certificate.server_context(own.certificate, own.key, SERVER_PUBLIC)
    # shown again after a day, the chain must not have grown
    certificate.show_certificates(context, own.certificate, own.key, SERVER_PUBLIC)
    leaf, meta = shown_chain(context)
    assert names(leaf) == "CN=relay.test"
    assert names(meta) == "CN=derpkey" + SERVER_PUBLIC.hex()
    assert [names(one) for one in shown_chain(own.context)] == ["CN=relay.test"]


@pytest.mark.filterwarnings("ignore:Attribute's length")
async def test_what_is_shown_is_read_again_every_day_and_a_broken_file_does_no_harm(tmp_path, monkeypatch):
    own = certificate.load_or_make(tmp_path, "relay.test")
    context = certificate.server_context(own.certificate, own.key, SERVER_PUBLIC)
    timers = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "call_later", lambda seconds, call: timers.append((seconds, call)) or Mock()
    )
    certificate.keep_showing(context, own.certificate, own.key, SERVER_PUBLIC)
    own.certificate.unlink()
    other = certificate.load_or_make(tmp_path, "other.test")
    timers[-1][1]()
    assert names(shown_chain(context)[0]) == "CN=other.test"
    other.certificate.write_text("nonsense")
    timers[-1][1]()
    assert names(shown_chain(context)[0]) == "CN=other.test"
    assert [seconds for seconds, _ in timers] == [24 * 3600] * 3


def names(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string()
