"""What may be looked up at all, the same on both Pythons."""

_EINVAL = 22
_MAX_BYTES = 253  # RFC 1035 section 2.3.4, as text
_MAX_LABEL_BYTES = 63


def check_host_name(host: str) -> None:
    """Raise OSError (EINVAL) for what no resolver should be asked for."""
    name = host.encode()
    if name.endswith(b"."):
        name = name[:-1]
    labels = name.split(b".")
    if len(name) > _MAX_BYTES or b"\0" in name or [one for one in labels if not 0 < len(one) <= _MAX_LABEL_BYTES]:
        raise OSError(_EINVAL, "not a host name: " + host[:80])
