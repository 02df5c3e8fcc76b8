"""mbed TLS's own calls, for MicroPython's unix port, which runs on that library.

MicroPython's `tls` module would do for much, but reads until a buffer is full and so loses the end of a stream that
comes with the last bytes; and it knows neither versions nor why a certificate is refused.
Structures are opaque: what the library needs for each is far below STRUCTURE_BYTES, in versions 2.28 to 3.6.
Source: <mbedtls/ssl.h>, <mbedtls/x509_crt.h>, <mbedtls/net_sockets.h>, <mbedtls/ctr_drbg.h>, <mbedtls/entropy.h>.
"""

import struct

import ffi
import uctypes

from .ffi import open_library

# First what is in the process already; a MicroPython with an mbed TLS inside needs the packages as well.
_TLS = (None, "libmbedtls.so.21", "libmbedtls.so.14", "libmbedtls.so")
_X509 = (None, "libmbedx509.so.7", "libmbedx509.so.1", "libmbedx509.so")
_CRYPTO = (None, "libmbedcrypto.so.16", "libmbedcrypto.so.7", "libmbedcrypto.so")

STRUCTURE_BYTES = 4096
_POINTER_BYTES = struct.calcsize("P")
_MAX_CERTIFICATE_BYTES = 65_536


def structure() -> bytearray:
    """Return room for one of the library's structures; it stays where it is, and lives as long as it is kept."""
    return bytearray(STRUCTURE_BYTES)


def _found(names: tuple, symbol: str):
    """Return the first of these libraries that has a function. Raises OSError."""
    for name in names:
        try:
            library = open_library((name,))
            library.func("v", symbol, "p")
            return library
        except OSError:
            pass
    raise OSError(
        2, "TLS needs mbed TLS's libraries; install the package libmbedtls21 (Debian) or libmbedtls (OpenWrt)"
    )


_tls = _found(_TLS, "mbedtls_ssl_init")
_x509 = _found(_X509, "mbedtls_x509_crt_init")
_crypto = _found(_CRYPTO, "mbedtls_entropy_init")

ssl_init = _tls.func("v", "mbedtls_ssl_init", "p")
ssl_setup = _tls.func("i", "mbedtls_ssl_setup", "pp")
ssl_free = _tls.func("v", "mbedtls_ssl_free", "p")
ssl_set_hostname = _tls.func("i", "mbedtls_ssl_set_hostname", "pp")
ssl_set_bio = _tls.func("v", "mbedtls_ssl_set_bio", "ppppp")
ssl_handshake = _tls.func("i", "mbedtls_ssl_handshake", "p")
ssl_read = _tls.func("i", "mbedtls_ssl_read", "ppL")
ssl_write = _tls.func("i", "mbedtls_ssl_write", "pPL")
ssl_close_notify = _tls.func("i", "mbedtls_ssl_close_notify", "p")
ssl_get_peer_cert = _tls.func("p", "mbedtls_ssl_get_peer_cert", "p")
config_init = _tls.func("v", "mbedtls_ssl_config_init", "p")
config_defaults = _tls.func("i", "mbedtls_ssl_config_defaults", "piii")
config_free = _tls.func("v", "mbedtls_ssl_config_free", "p")
conf_authmode = _tls.func("v", "mbedtls_ssl_conf_authmode", "pi")
conf_max_version = _tls.func("v", "mbedtls_ssl_conf_max_version", "pii")
conf_rng = _tls.func("v", "mbedtls_ssl_conf_rng", "ppp")
conf_verify = _tls.func("v", "mbedtls_ssl_conf_verify", "ppp")
NET_SEND = _tls.addr("mbedtls_net_send")
NET_RECV = _tls.addr("mbedtls_net_recv")

crt_init = _x509.func("v", "mbedtls_x509_crt_init", "p")
crt_free = _x509.func("v", "mbedtls_x509_crt_free", "p")
crt_parse_der = _x509.func("i", "mbedtls_x509_crt_parse_der", "pPL")
crt_verify = _x509.func("i", "mbedtls_x509_crt_verify", "pppspPP")
crt_check_extended_key_usage = _x509.func("i", "mbedtls_x509_crt_check_extended_key_usage", "pPL")

_strerror = _crypto.func("v", "mbedtls_strerror", "ipL")

# MBEDTLS_ERR_*
WANT_READ = -0x6900
WANT_WRITE = -0x6880
CONN_EOF = -0x7280
FATAL_ALERT = -0x7780
CLOSE_NOTIFY = -0x7880
NEW_SESSION_TICKET = -0x7B00
NET_RESET = -0x0050
NOT_TLS = (-0x7200, -0x7300, -0x7700)  # INVALID_RECORD, DECODE_ERROR, UNEXPECTED_MESSAGE

VERIFY_NONE = 0
VERIFY_OPTIONAL = 1


def words_of(status: int) -> str:
    """Return the library's own words for what one of its functions returned."""
    text = bytearray(160)
    _strerror(status, text, len(text))
    return str(text[: text.find(b"\0")], "utf-8")


def certificate_at(address: int) -> bytes:
    """Return the DER of a struct mbedtls_x509_crt: int own_buffer, int tag, size_t length, char *bytes come first."""
    length, begin = struct.unpack("LP", uctypes.bytes_at(address + 2 * _POINTER_BYTES, 2 * _POINTER_BYTES))
    if not 0 < length <= _MAX_CERTIFICATE_BYTES:
        return b""
    return uctypes.bytes_at(begin, length)


_random = None


def set_random(config: bytearray) -> None:
    """Give a configuration the one source of randomness that all connections share. Raises OSError."""
    global _random
    if _random is None:
        entropy, generator = structure(), structure()
        _crypto.func("v", "mbedtls_entropy_init", "p")(entropy)
        _crypto.func("v", "mbedtls_ctr_drbg_init", "p")(generator)
        seed = _crypto.func("i", "mbedtls_ctr_drbg_seed", "pppPL")
        status = seed(generator, _crypto.addr("mbedtls_entropy_func"), entropy, None, 0)
        if status != 0:
            raise OSError(5, "TLS has no randomness: " + words_of(status))
        try:
            _crypto.func("i", "psa_crypto_init", "")()  # TLS 1.3 rests on it
        except OSError:
            pass  # an older library, without 1.3
        _random = (entropy, generator, _crypto.addr("mbedtls_ctr_drbg_random"))
    conf_rng(config, _random[2], _random[1])


# The chain that is being shown: the handshake's steps run through without a wait, so there is one at a time.
shown: list = []


def _show(_context, certificate, _depth, _flags) -> int:
    try:
        shown.insert(0, certificate_at(certificate))  # they come from the top down
    except MemoryError:
        shown[:] = []  # no exception may pass through the library; without a chain nobody is trusted
    return 0


_show_function = ffi.callback("i", _show, "ppip")
SHOW = _show_function.cfun()
