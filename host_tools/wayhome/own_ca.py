"""A certificate authority of one's own, for tests and closed networks: made in the state directory, never elsewhere.

Clients trust it once they were given `ca.crt` (the official ones: SSL_CERT_FILE). Its key never leaves the directory.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .errors import HostError
from .key_file import write_private

_CA_DAYS = 3650
# Apple's systems take server certificates of at most 825 days from a private authority.
_SERVER_DAYS = 800
_RENEW_DAYS_BEFORE = 60


@dataclass(frozen=True)
class OwnCa:
    """Where things are: `authority` is what clients are given; `made` whether it is new."""

    authority: Path
    certificate: Path
    key: Path
    made: bool


def prepare(directory: Path, host: str, now: datetime | None = None) -> OwnCa:
    """Make or renew the authority and the server certificate for `host`, a DNS name or an address.

    Raises HostError if the directory cannot be written or holds something else under these names.
    """
    now = now or datetime.now(UTC)
    paths = OwnCa(directory / "ca.crt", directory / "server.crt", directory / "server.key", made=False)
    ca_key_path = directory / "ca.key"
    made = not ca_key_path.exists()
    try:
        if made:
            ca_key, ca = _new_authority(now)
            write_private(ca_key_path, _key_text(ca_key))
            paths.authority.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        else:
            ca_key = _load_key(ca_key_path)
            ca = x509.load_pem_x509_certificate(paths.authority.read_bytes())
        if made or not _still_good(paths.certificate, paths.key, host, now):
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(paths.key, _key_text(key))
            paths.certificate.write_bytes(
                _server_certificate(ca_key, ca, key, host, now).public_bytes(serialization.Encoding.PEM)
            )
    except (OSError, ValueError) as error:
        raise HostError(f"cannot use the own certificate authority in {directory}: {error}") from error
    return OwnCa(paths.authority, paths.certificate, paths.key, made)


def _new_authority(now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wayhome own CA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _server_certificate(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    host: str,
    now: datetime,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_key_usage(ca=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _still_good(certificate_path: Path, key_path: Path, host: str, now: datetime) -> bool:
    if not certificate_path.exists() or not key_path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(names) == [_alternative_name(host)] and certificate.not_valid_after_utc - now > timedelta(
        days=_RENEW_DAYS_BEFORE
    )


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HostError(f"{path} is not a key that we made")
    return key
