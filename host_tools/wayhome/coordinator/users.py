"""The people whose devices are in the mesh."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from . import names, tables
from .errors import RegistryError
from .keyring import Keyring
from .ledger import Ledger, mutation
from .model import TAGGED_LOGIN, Aspect, Change, User
from .storage import insert


class Users:
    """Users made, renamed and deleted."""

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._world = ledger.world
        self._keyring = keyring

    @mutation
    async def create_user(self, name: str, display_name: str = "") -> User:
        name = self._free_name(name, but=None)
        now = self._ledger.now()
        values = {"name": name, "display_name": display_name[:255] or name, "created": now}
        async with self._ledger.transaction() as db:
            user_id = await insert(db, tables.users, {**values, "folded_name": name.casefold()})
        user = User(id=user_id, name=name, display_name=display_name[:255] or name, created=now)
        self._world.put_user(user)
        return user

    @mutation
    async def rename_user(self, user_id: int, name: str, display_name: str | None = None) -> User:
        before = self._ledger.user(user_id)
        name = self._free_name(name, but=user_id)
        user = replace(before, name=name, display_name=before.display_name if display_name is None else display_name)
        async with self._ledger.transaction() as db:
            await db.execute(
                sa.update(tables.users)
                .where(tables.users.c.id == user_id)
                .values(name=name, folded_name=name.casefold(), display_name=user.display_name)
            )
        self._world.put_user(user)
        audience = self._world.by_user[user_id] | self._world.tagged_routers
        self._ledger.announce(Change(frozenset({Aspect.PROFILE}), None, None, False, frozenset(audience)))
        return user

    @mutation
    async def delete_user(self, user_id: int) -> None:
        """Refused while the user has nodes; takes the user's auth keys along."""
        user = self._ledger.user(user_id)
        if self._world.by_user[user_id]:
            owned = ", ".join(sorted(self._world.nodes[node].name for node in self._world.by_user[user_id])[:5])
            raise RegistryError(f"{user.name} still has devices ({owned}); delete those first")
        async with self._ledger.transaction() as db:
            await db.execute(sa.delete(tables.users).where(tables.users.c.id == user_id))
        self._world.drop_user(user_id)
        self._keyring.user_deleted(user_id)

    def _free_name(self, name: str, but: int | None) -> str:
        name = names.check_user(name.strip())
        if name.casefold() == TAGGED_LOGIN:
            raise RegistryError(f'"{name}" is the name that clients show for tagged devices; choose another')
        for user in self._world.users.values():
            if user.id != but and user.name.casefold() == name.casefold():
                raise RegistryError(f"there is a user {user.name} already; choose another name")
        return name
