"""Auth keys made, revoked and used. Their text and their hashes: `authkeys`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from . import authkeys, names, tables
from .errors import BadAuthKey, NotFound, RegistryError
from .ledger import Ledger, mutation
from .model import AuthKey
from .storage import auth_key_from, insert, spend_auth_key


class Keyring:
    """The auth keys. keys: by id, a read-only view."""

    def __init__(self, ledger: Ledger, random_bytes: Callable[[int], bytes]) -> None:
        self._ledger = ledger
        self._random_bytes = random_bytes
        self._keys: dict[int, AuthKey] = {}
        self._hashes: dict[int, bytes] = {}
        self.keys: Mapping[int, AuthKey] = MappingProxyType(self._keys)

    async def load(self, db: AsyncConnection) -> None:
        for row in await db.execute(sa.select(tables.auth_keys)):
            self._keys[row.id] = auth_key_from(row)
            self._hashes[row.id] = row.secret_hash

    @mutation
    async def create_auth_key(
        self,
        user_id: int | None,
        tags: Collection[str] = (),
        *,
        reusable: bool = False,
        ephemeral: bool = False,
        lifetime: timedelta | None = timedelta(hours=1),
    ) -> tuple[AuthKey, str]:
        """Return the record and the secret text, shown here and never again. Either a user or tags, not both.

        lifetime None: the key never expires.
        """
        if (user_id is None) == (not tags):
            raise RegistryError("an auth key lets in either a user's devices or tagged ones: give a user or tags")
        if user_id is not None:
            self._ledger.user(user_id)
        if lifetime is not None and lifetime <= timedelta(0):
            raise RegistryError("an auth key must be valid for some time; give a lifetime above zero")
        now = self._ledger.now()
        key = AuthKey(
            id=0,
            user_id=user_id,
            tags=tuple(sorted({names.check_tag(tag) for tag in tags})),
            reusable=reusable,
            ephemeral=ephemeral,
            created=now,
            expiry=None if lifetime is None else _later(now, lifetime),
            used=None,
            revoked=None,
        )
        secret = authkeys.new_secret(self._random_bytes)
        secret_hash = authkeys.secret_hash(secret)
        row = {
            "secret_hash": secret_hash,
            "user_id": user_id,
            "tags": list(key.tags),
            "reusable": reusable,
            "ephemeral": ephemeral,
            "created": now,
            "expiry": key.expiry,
        }
        async with self._ledger.transaction() as db:
            key = replace(key, id=await insert(db, tables.auth_keys, row))
        self._keys[key.id] = key
        self._hashes[key.id] = secret_hash
        return key, authkeys.key_text(key.id, secret)

    @mutation
    async def revoke_auth_key(self, key_id: int) -> AuthKey:
        """It lets nobody in any more; nodes that came in by it stay."""
        key = self._keys.get(key_id)
        if key is None:
            raise NotFound(f"there is no auth key {key_id}; `wayhome key list` shows them all")
        if key.revoked is None:
            key = replace(key, revoked=self._ledger.now())
            async with self._ledger.transaction() as db:
                await db.execute(
                    sa.update(tables.auth_keys).where(tables.auth_keys.c.id == key_id).values(revoked=key.revoked)
                )
            self._keys[key_id] = key
        return key

    # For whoever lets devices in, and for whoever deletes users

    def usable(self, text: str) -> AuthKey:
        """The key that this is the secret text of. Raises BadAuthKey unless it is valid now."""
        parts = authkeys.split_key(text)
        key = self._keys.get(parts[0]) if parts else None
        if parts is None or key is None or not authkeys.is_secret_of(parts[1], self._hashes[key.id]):
            raise BadAuthKey("this auth key is not known here; make one with `wayhome key create`")
        state = key.state(self._ledger.now())
        if state != "valid":
            reason = {"used": "has been used, and it is good for one device only", "expired": "has expired"}
            raise BadAuthKey(
                f"auth key {key.id} {reason.get(state, f'is {state}')}; make another with `wayhome key create`"
            )
        return key

    async def spend(self, db: AsyncConnection, key: AuthKey, now: datetime) -> None:
        """Use a key within the transaction that lets its device in; once that is committed, call `spent`.

        Raises BadAuthKey if it may not be used any more.
        """
        if not await spend_auth_key(db, key.id, now):
            raise BadAuthKey(f"auth key {key.id} was used or revoked this very moment; make another one")

    def spent(self, key: AuthKey, now: datetime) -> None:
        self._keys[key.id] = replace(key, used=now)

    def user_deleted(self, user_id: int) -> None:
        """Forget the user's keys; the database dropped them with their user."""
        for key in [key for key in self._keys.values() if key.user_id == user_id]:
            del self._keys[key.id], self._hashes[key.id]


def _later(now: datetime, lifetime: timedelta) -> datetime:
    try:
        return now + lifetime
    except OverflowError:
        raise RegistryError("that lifetime is beyond the calendar; leave it out for a key that never expires") from None
