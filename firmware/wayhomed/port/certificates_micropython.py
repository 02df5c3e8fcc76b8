"""Judges a TLS server's certificates with libmbedx509, which this MicroPython runs on.

MicroPython's own check knows only yes and no, wants every authority of the system in memory (580 KB), and asks for the
name that the server was asked by. Asked directly, the library tells each fault apart, and only the authorities that may
have signed this chain are read: their file is walked through, a certificate at a time.
Source: <mbedtls/x509.h>, <mbedtls/x509_crt.h>; X.509 (RFC 5280 section 4.1) for where the names are.
"""

import binascii
import os
import struct

from . import mbedtls_micropython as mbedtls
from .tls_error import TlsRefused

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt")
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END"
_BLOCK_BYTES = 8192
_MAX_PEM_BYTES = 65_536

# MBEDTLS_X509_BADCERT_*
_EXPIRED = 0x01
_WRONG_NAME = 0x04
_NOT_TRUSTED = 0x08
_FUTURE = 0x0200
_SERVER_AUTH = b"\x2b\x06\x01\x05\x05\x07\x03\x01"  # id-kp-serverAuth, RFC 5280 section 4.2.1.12


def judge(chain: list, server_name: str, certificate_name: str, dates_matter: bool, authorities: str) -> None:
    """Return if a chain (DER, the server's own first) is to be trusted; else raise TlsRefused, as tls_by_authorities.

    Raises OSError if the authorities can't be read.
    """
    name = certificate_name or server_name
    shown, trusted = mbedtls.structure(), mbedtls.structure()
    mbedtls.crt_init(shown)
    mbedtls.crt_init(trusted)
    try:
        for certificate in chain:
            if mbedtls.crt_parse_der(shown, certificate, len(certificate)) != 0:
                raise TlsRefused("the certificate of " + server_name + " is not trusted: it can't be read")
        if not chain:
            raise TlsRefused("the certificate of " + server_name + " is not trusted: there is none")
        issuers = [names_of(certificate)[0] for certificate in chain]
        for certificate in _authorities(authorities or _bundle(), issuers):
            mbedtls.crt_parse_der(trusted, certificate, len(certificate))
        faults = bytearray(4)
        status = mbedtls.crt_verify(shown, trusted, None, name, faults, None, None)
        flags = struct.unpack("I", faults)[0]
        if status != 0 and flags == 0:
            flags = _NOT_TRUSTED
        if not dates_matter:
            flags &= ~(_EXPIRED | _FUTURE)
        if flags == _WRONG_NAME and name != server_name:
            raise TlsRefused("the certificate is not for " + name)
        if flags & ~_WRONG_NAME and name != server_name:
            flags &= ~_WRONG_NAME  # the other faults are worse
        if flags:
            raise TlsRefused("the certificate of " + server_name + " is not trusted: " + _words(flags, name, chain))
        if mbedtls.crt_check_extended_key_usage(shown, _SERVER_AUTH, len(_SERVER_AUTH)) != 0:
            raise TlsRefused("the certificate of " + server_name + " is not trusted: it is not for servers")
    finally:
        mbedtls.crt_free(shown)
        mbedtls.crt_free(trusted)


def _words(flags: int, name: str, chain: list) -> str:
    """Return the first fault in OpenSSL's words, which people find when they search, in OpenSSL's order."""
    if flags & _NOT_TRUSTED:
        issuer, subject = names_of(chain[-1])
        if issuer != subject:
            return "unable to get local issuer certificate"
        return "self-signed certificate" + (" in certificate chain" if len(chain) > 1 else "")
    if flags & _WRONG_NAME:
        return "Hostname mismatch, certificate is not valid for '" + name + "'."
    if flags & _EXPIRED:
        return "certificate has expired"
    if flags & _FUTURE:
        return "certificate is not yet valid"
    return "faults %#x of mbed TLS" % flags


def _bundle() -> str:
    chosen = os.getenv("SSL_CERT_FILE")  # OpenSSL's own variable, so CPython's half obeys it as well
    for path in (chosen,) if chosen else _BUNDLES:
        try:
            os.stat(path)
        except OSError:
            continue
        return path
    raise OSError(2, "there are no certificates of authorities; install the package ca-certificates")


def _authorities(path: str, names: list):
    """Yield the certificates (DER) in a PEM file whose subject is one of these names."""
    rest = b""
    with open(path, "rb") as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            rest += block
            while True:
                end = rest.find(_END)
                if end < 0:
                    break
                begin = rest.find(_BEGIN, 0, end)
                if begin >= 0:
                    try:
                        certificate = binascii.a2b_base64(rest[begin + len(_BEGIN) : end])
                        if names_of(certificate)[1] in names:
                            yield certificate
                    except ValueError:
                        pass  # what can't be read vouches for nobody
                rest = rest[end + len(_END) :]
            if not block:
                return
            if len(rest) > _MAX_PEM_BYTES:
                rest = b""


def names_of(certificate: bytes) -> tuple:
    """Return (issuer, subject), each DER, of a certificate. Raises ValueError."""
    at, _end = _element(certificate, 0)
    at, _end = _element(certificate, at)
    if certificate[at] == 0xA0:  # the version
        at = _element(certificate, at)[1]
    at = _element(certificate, at)[1]  # serial number
    issuer = _element(certificate, at)[1]  # past the signature's algorithm
    validity = _element(certificate, issuer)[1]
    subject = _element(certificate, validity)[1]
    return certificate[issuer:validity], certificate[subject : _element(certificate, subject)[1]]


def _element(der: bytes, at: int) -> tuple:
    """Return where the content of the DER element at this place begins and ends. Raises ValueError."""
    if at + 2 > len(der):
        raise ValueError("cut short")
    length = der[at + 1]
    begin = at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size < 4 or begin + size > len(der):
            raise ValueError("no length")
        length = int.from_bytes(der[begin : begin + size], "big")
        begin += size
    if begin + length > len(der):
        raise ValueError("cut short")
    return begin, begin + length
