"""What the registry refuses: one family, so that a session or a command catches `RegistryError` and shows its text."""

from __future__ import annotations

from ..errors import HostError


class RegistryError(HostError):
    """The registry refuses or cannot do what was asked; the text says why and what to do. Nothing was changed."""


class NotFound(RegistryError):
    """There is no such user, node, key, login, route or published device."""


class KeyExpired(RegistryError):
    """The node key is known and has expired: the client must make a new one (NodeKeyExpired)."""


class WrongMachine(RegistryError):
    """The node key belongs to another machine key."""


class BadAuthKey(RegistryError):
    """The auth key is unknown, spent, expired or revoked."""


class BadUpdate(RegistryError):
    """A client reported something out of its limits or of the wrong shape."""


class LoginRefused(RegistryError):
    """The person said no."""


class LoginGone(RegistryError):
    """No such pending login, or not any more: begin a new one."""
