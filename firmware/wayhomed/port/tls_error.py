"""What a failed TLS handshake raises, on both Pythons."""


class TlsRefused(OSError):
    """The other side's certificate is not the one due, or it speaks no TLS."""

    def __init__(self, text: str):
        super().__init__(1, text)


def no_tls(server_name: str) -> TlsRefused:
    """Most often that is https:// for a server of http://."""
    return TlsRefused(server_name + " does not speak TLS there; is it http:// or another port?")
