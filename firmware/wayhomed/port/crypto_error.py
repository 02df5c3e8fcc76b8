"""What every failed check of port.crypto raises."""


class CryptoError(Exception):
    """Not what the holder of the key sealed, or a public key that gives no secret."""
