"""TLS by the system's authorities, as strictly as what we know of the time allows.

    the machine's clock is right         TLS judges all dates by it
    it is not, but the time is trusted   TLS judges no date; the server's certificate must be valid at our time
    nobody knows the time                TLS judges no date; the certificate must not have expired before the build date
                                         or the last time that was written down

What was let in without strict dates is looked at again once the time is known: see ControlSession and RelayLinks.
"""

from wayhomed.core import times
from wayhomed.port import net
from wayhomed.wire import certificate
from wayhomed.wire.errors import BadWire


async def tls_by_authorities(stream, server_name: str, certificate_name: str, clock):
    """Return a TLS stream as net.tls_by_authorities does. clock: the daemon's TimeKeeper.

    Raises OSError; net.TlsRefused for a certificate that is not the one due, or not at this time.
    """
    if clock.is_right():
        return await net.tls_by_authorities(stream, server_name, certificate_name)
    secured = await net.tls_by_authorities(stream, server_name, certificate_name, False)
    problem = date_problem(secured.certificate(), clock.trusted_now_s(), clock.floor_s())
    if problem:
        raise net.TlsRefused("the certificate of %s is not trusted: %s" % (server_name, problem))
    return secured


def date_problem(der: bytes, trusted_now_s: int, floor_s: int) -> str:
    """Return why a certificate is not valid at this time, "" if it is, or may be.

    trusted_now_s: 0 while nobody knows the time; floor_s: a time that has passed for sure.
    """
    try:
        not_before, not_after = certificate.validity(der)
    except BadWire as error:
        return str(error)
    if not_after < _digits(trusted_now_s or floor_s):
        return "it expired on " + _day(not_after)
    if trusted_now_s and _digits(trusted_now_s) < not_before:
        return "it is not valid before " + _day(not_before)
    return ""


def _digits(seconds: int) -> str:
    return "%04d%02d%02d%02d%02d%02d" % times.civil(seconds)


def _day(digits: str) -> str:
    return digits[:4] + "-" + digits[4:6] + "-" + digits[6:8]
