"""The relay's own certificate: made at the first start, kept, and pinned by its hash in the relay map.

    relay.pem   the TLS private key, readable by its owner alone
    relay.crt   the certificate

A pin (`sha256-raw:` and the SHA-256 of the whole DER) stands for one certificate, so it is made for ten years and not
renewed on the quiet: clients must have the new pin before the relay shows the new certificate.

Source: protocol reference, DERP sections 1 (meta certificate) and 7 (verification).
"""

import asyncio
import hashlib
import ipaddress
import logging
import os
import ssl
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wayhomed.wire import derp

from ..errors import HostError
from ..key_file import write_private

log = logging.getLogger(__name__)

KEY_NAME = "relay.pem"
CERTIFICATE_NAME = "relay.crt"
_DAYS = 3650
# Boards and phones that were switched off for long wake up with clocks that are behind.
_DAYS_BACK = 30
_NOTE_DAYS_BEFORE = 90
_META_DAYS = 30
_SHOW_AGAIN_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class RelayCertificate:
    """Where the files are, and what clients are told. `made`: just now."""

    certificate: Path
    key: Path
    pin: str
    names: tuple[str, ...]
    ends: datetime
    made: bool

    @property
    def context(self) -> ssl.SSLContext:
        """Return a new TLS context that shows this certificate, without the meta certificate."""
        return server_context(self.certificate, self.key)

    def renewal_note(self, now: datetime | None = None) -> str | None:
        """Return what to tell the operator once the end is near, else None."""
        if self.ends - (now or datetime.now(UTC)) > timedelta(days=_NOTE_DAYS_BEFORE):
            return None
        return (
            f"the relay's certificate ends on {self.ends:%d %B %Y}; remove {self.certificate} and {self.key} and start "
            "again at a quiet hour: clients learn the new pin with their next relay map"
        )


def load_or_make(directory: Path, *names: str, now: datetime | None = None) -> RelayCertificate:
    """Return the certificate kept in `directory` for these names (DNS names or addresses), making it if need be.

    One that has ended, or lacks a name, is replaced; its pin was of no more use to clients. Raises HostError.
    """
    now = now or datetime.now(UTC)
    key_path, certificate_path = directory / KEY_NAME, directory / CERTIFICATE_NAME
    if key_path.exists() and certificate_path.exists():
        kept = _read(certificate_path)
        if kept.not_valid_after_utc > now and set(names) <= set(names_of(kept)):
            return _described(kept, certificate_path, key_path, made=False)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make {directory}: {error.strerror}; name another --state") from error
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, names, now)
    # The key first: a certificate whose key is lost would be taken for good at the next start.
    certificate_path.unlink(missing_ok=True)
    write_private(key_path, _key_pem(key))
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM).decode())
    certificate_path.chmod(0o644)
    return _described(certificate, certificate_path, key_path, made=True)


def pin_of(certificate_path: Path) -> str:
    """Return the `CertName` that pins the (first) certificate in a file. Raises HostError."""
    return _pin(_read(certificate_path))


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def meta_certificate(server_public: bytes, now: datetime) -> bytes:
    """Return the PEM of the extra certificate that tells clients the relay's key within the TLS handshake.

    A client that sees it starts at once (Derp-Fast-Start), two round trips earlier. It proves nothing; the key it names
    is proven by the first box.
    """
    key = ed25519.Ed25519PrivateKey.generate()
    with warnings.catch_warnings(action="ignore"):
        # 71 characters, though X.520 ends a common name at 64: the protocol wants it so.
        common_name = x509.NameAttribute(NameOID.COMMON_NAME, "derpkey" + server_public.hex(), _validate=False)
    name = x509.Name([common_name])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(derp.PROTOCOL_VERSION)
        .not_valid_before(now - timedelta(days=_META_DAYS))
        .not_valid_after(now + timedelta(days=_META_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
        .public_bytes(serialization.Encoding.PEM)
    )


def server_context(certificate: Path, key: Path, server_public: bytes | None = None) -> ssl.SSLContext:
    """Return a TLS context that shows the certificate; with the relay's key given, the meta certificate too.

    Raises HostError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An upgrade is not possible inside HTTP/2.
    context.set_alpn_protocols(["http/1.1"])
    show_certificates(context, certificate, key, server_public)
    return context


def show_certificates(
    context: ssl.SSLContext, certificate: Path, key: Path, server_public: bytes | None = None
) -> None:
    """(Re)load what a context shows: call it daily, since the meta certificate lives for a month only.

    Connections that exist are not touched; a renewed certificate file is picked up. Raises HostError.
    """
    try:
        chain = certificate.read_bytes()
    except OSError as error:
        raise HostError(f"cannot read the certificate {certificate}: {error.strerror}") from error
    if server_public is not None:
        chain += meta_certificate(server_public, datetime.now(UTC))
    # ssl takes chains from files only.
    descriptor, name = tempfile.mkstemp(prefix="wayhome-chain-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(chain)
        context.load_cert_chain(name, key)
    except (OSError, ssl.SSLError) as error:
        raise HostError(f"{certificate} and {key} do not serve as certificate and key: {error}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def keep_showing(
    context: ssl.SSLContext, certificate: Path, key: Path, server_public: bytes | None = None
) -> Callable[[], None]:
    """Call show_certificates() daily from the running event loop; return what ends it."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def show() -> None:
        nonlocal timer
        try:
            show_certificates(context, certificate, key, server_public)
        except HostError as error:
            log.error("going on with the certificate that was last read: %s", error)
        timer = loop.call_later(_SHOW_AGAIN_SECONDS, show)

    timer = loop.call_later(_SHOW_AGAIN_SECONDS, show)
    return lambda: timer.cancel()


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise HostError(f"{path} is no certificate that can be read ({error}); put the right file back") from error


def _described(certificate: x509.Certificate, path: Path, key: Path, *, made: bool) -> RelayCertificate:
    return RelayCertificate(path, key, _pin(certificate), names_of(certificate), certificate.not_valid_after_utc, made)


def _pin(certificate: x509.Certificate) -> str:
    return "sha256-raw:" + hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def _self_signed(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64] if names else "wayhome relay")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=_DAYS_BACK))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    if names:
        alternative = x509.SubjectAlternativeName([_general_name(one) for one in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
