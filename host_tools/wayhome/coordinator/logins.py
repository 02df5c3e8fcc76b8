"""Devices that wait for a person: in memory only, because strangers can make them at will.

A restart forgets them, and their clients are given a new AuthURL. There are at most `limit`; when they are all taken,
whoever holds most places (by source address, IPv6 by /64) loses the oldest of them, so that one stranger can't keep
everybody else out.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from . import hostinfo
from .errors import LoginGone, LoginRefused, RegistryError
from .model import Device, PendingLogin

# No vowels: no words. No letters that look like digits.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_CODE_LETTERS = 8
_ID_BYTES = 24
# What is kept of a waiting stranger's Hostinfo; the rest comes with the first map request.
_KEPT = ("Hostname", "OS", "OSVersion", "Distro", "DeviceModel", "GoVersion", "IPNVersion")
_KEPT_TEXT_MAX = 255


class Logins:
    """The pending logins. Times come in as arguments; nothing here waits for a clock."""

    def __init__(self, limit: int, lifetime: timedelta, random_bytes: Callable[[int], bytes]) -> None:
        self._limit = limit
        self._lifetime = lifetime
        self._random_bytes = random_bytes
        self._by_id: dict[str, PendingLogin] = {}
        self._by_code: dict[str, str] = {}
        self._by_device: dict[tuple[bytes, bytes], str] = {}
        self._refused: set[str] = set()
        self._answers: dict[str, asyncio.Future[int]] = {}

    def begin(self, device: Device, now: datetime) -> PendingLogin:
        """A login for this device; the one that it has already, while that is young. Raises RegistryError when full."""
        self.time_passed(now)
        known = self._by_id.get(self._by_device.get((device.machine_key, device.node_key), ""))
        if known is not None:
            if known.id not in self._refused and known.expires - now > self._lifetime / 2:
                return known
            self._forget(known, LoginGone("this login was replaced by a newer one of the same device"))
        if len(self._by_id) >= self._limit:
            self._make_room(_bucket(device.source))
        facts = hostinfo.facts(device.hostinfo)
        login = PendingLogin(
            id=base64.urlsafe_b64encode(self._random_bytes(_ID_BYTES)).decode(),
            code=self._new_code(),
            fingerprint=fingerprint(device.machine_key),
            device=replace(device, hostinfo=_little(device.hostinfo)),
            hostname=facts.hostname,
            os=facts.os,
            created=now,
            expires=now + self._lifetime,
        )
        self._by_id[login.id] = login
        self._by_code[login.code] = login.id
        self._by_device[device.machine_key, device.node_key] = login.id
        return login

    def waiting(self) -> list[PendingLogin]:
        """Those that nobody has answered yet, oldest first."""
        return [login for login in self._by_id.values() if login.id not in self._refused]

    def find(self, id_or_code: str, now: datetime) -> PendingLogin:
        """Raises LoginGone."""
        self.time_passed(now)
        letters = "".join(letter for letter in id_or_code.upper() if letter in _LETTERS)
        code = f"{letters[:4]}-{letters[4:]}"
        login = self._by_id.get(id_or_code) or self._by_id.get(self._by_code.get(code, ""))
        if login is None or login.id in self._refused:
            raise LoginGone(
                f'no device waits with the code "{id_or_code[:40]}"; codes last '
                f"{self._lifetime // timedelta(minutes=1)} minutes, and the device's login page shows the current one"
            )
        return login

    async def wait(self, login_id: str, machine_key: bytes, now: datetime) -> int:
        """Return the id of the node that it became. Raises LoginRefused, LoginGone."""
        self.time_passed(now)
        login = self._by_id.get(login_id)
        # Another machine's login is no more known to it than one that never was.
        if login is None or login.device.machine_key != machine_key:
            raise LoginGone("this login is not known, or not any more")
        if login_id in self._refused:
            raise LoginRefused("the login was refused")
        answer = self._answers.get(login_id)
        if answer is None:
            answer = self._answers[login_id] = asyncio.get_running_loop().create_future()
            # Everybody who waited may have gone by the time the answer comes.
            answer.add_done_callback(lambda future: future.cancelled() or future.exception())
        return await asyncio.shield(answer)

    def approved(self, login: PendingLogin, node_id: int) -> None:
        self._remove(login)
        answer = self._answers.pop(login.id, None)
        if answer is not None and not answer.done():
            answer.set_result(node_id)

    def refused(self, login: PendingLogin) -> None:
        """It stays known until its time is over, so that a client that comes back is told so."""
        self._refused.add(login.id)
        self._answer(login, LoginRefused("the login was refused"))

    def time_passed(self, now: datetime) -> None:
        for login in [login for login in self._by_id.values() if login.expires <= now]:
            self._forget(login, LoginGone("nobody let this device in within the time that a login lasts"))

    def next_timer(self) -> datetime | None:
        return min((login.expires for login in self._by_id.values()), default=None)

    def close(self) -> None:
        for login in list(self._by_id.values()):
            self._forget(login, LoginGone("the coordinator is stopping"))

    def _make_room(self, newcomer: str) -> None:
        held = Counter(_bucket(login.device.source) for login in self._by_id.values())
        held[newcomer] += 1
        most = max(held.values())
        if most == 1:
            raise RegistryError("too many devices are waiting for a login; try again in some minutes")
        victim = next(login for login in self._by_id.values() if held[_bucket(login.device.source)] == most)
        self._forget(victim, LoginGone("too many devices from the same place are waiting for a login"))

    def _forget(self, login: PendingLogin, why: LoginGone) -> None:
        self._remove(login)
        self._answer(login, why)

    def _remove(self, login: PendingLogin) -> None:
        del self._by_id[login.id]
        del self._by_code[login.code]
        self._by_device.pop((login.device.machine_key, login.device.node_key), None)
        self._refused.discard(login.id)

    def _answer(self, login: PendingLogin, why: RegistryError) -> None:
        answer = self._answers.pop(login.id, None)
        if answer is not None and not answer.done():
            answer.set_exception(why)

    def _new_code(self) -> str:
        while True:
            letters = ""
            while len(letters) < _CODE_LETTERS:
                # 240 is the largest multiple of 20 in a byte: above it the letters would not be equally likely.
                letters += "".join(_LETTERS[byte % 20] for byte in self._random_bytes(_CODE_LETTERS) if byte < 240)
            code = f"{letters[:4]}-{letters[4:_CODE_LETTERS]}"
            if code not in self._by_code:
                return code


def fingerprint(machine_key: bytes) -> str:
    """The first 64 bits of a machine key, for comparing by eye: "7b4e 909b be7f fe44"."""
    digits = machine_key[:8].hex()
    return " ".join(digits[start : start + 4] for start in range(0, 16, 4))


def _bucket(source: str) -> str:
    """Who counts as one stranger: an IPv4 address, or the /64 that every IPv6 household has to itself."""
    try:
        address = ip_address(source)
    except ValueError:
        return source
    return str(ip_network(f"{address}/64", strict=False)) if address.version == 6 else source


def _little(given: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: given[name][:_KEPT_TEXT_MAX] for name in _KEPT if isinstance(given.get(name), str) and given[name]
    }
    if given.get("RoutableIPs"):
        kept["RoutableIPs"] = [str(prefix) for prefix in hostinfo.facts(given).advertised]
    return kept
