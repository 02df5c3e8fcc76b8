"""POST /machine/register: the flows, and what the client is answered.

Source: protocol reference, "POST /machine/register".
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from math import ceil
from typing import Any

from wayhomed.wire.keys import short

from ..visible_text import visible
from .attempt_limit import AttemptLimit, Rate
from .health import Counters
from .model import TAGGED_LOGIN, TAGGED_USER_ID, Device, Node
from .registry import (
    BadAuthKey,
    KeyExpired,
    LoginGone,
    LoginRefused,
    Registry,
    RegistryError,
    WrongMachine,
)
from .requests import CAPABILITY_TOO_MANY_REQUESTS, OLDEST_CAPABILITY, RegisterRequest

log = logging.getLogger(__name__)

# A refused key makes clients try again with back-off: 13 times in 8 s were seen. That much is answered like the first.
PER_MACHINE = Rate(burst=20, seconds=2.0)
# Many honest clients may share an address; whoever guesses keys from it is slowed down all the same.
PER_SOURCE = Rate(burst=200, seconds=0.2)
REGISTER_PATH = "/register/"
_ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Answer:
    """`status` 200 and the response, or 429 with the seconds of Retry-After."""

    body: dict[str, Any]
    status: int = HTTPStatus.OK
    retry_after_s: int = 0


class Registration:
    """`url` is the server's own, without a slash at its end; `now` a clock in seconds, `today` the wall's."""

    def __init__(
        self,
        registry: Registry,
        url: str,
        *,
        counters: Counters,
        now: Callable[[], float],
        today: Callable[[], datetime],
        per_machine: Rate = PER_MACHINE,
        per_source: Rate = PER_SOURCE,
    ) -> None:
        self._registry = registry
        self._url = url
        self._counters = counters
        self._now = now
        self._today = today
        self._machines = AttemptLimit(per_machine)
        self._sources = AttemptLimit(per_source)

    async def answer(self, request: RegisterRequest, machine_key: bytes, source: str) -> Answer:
        """Answer a register request; with a Followup this waits for a person."""
        if request.version < OLDEST_CAPABILITY:
            self._counters.old_clients += 1
            return Answer(
                _failed(
                    f"this client is too old for this server (capability version {request.version}, at least "
                    f"{OLDEST_CAPABILITY} is needed: release 1.80); please update it"
                )
            )
        wait_s = max(self._machines.wait_s(machine_key, self._now()), self._sources.wait_s(source, self._now()))
        if wait_s > 0:
            return self._throttled(request, machine_key, source, wait_s)
        try:
            return Answer(await self._registered(request, machine_key, source))
        except KeyExpired:
            return Answer(_response(node_key_expired=True))
        except (BadAuthKey, WrongMachine, LoginRefused, RegistryError) as error:
            if isinstance(error, WrongMachine):
                self._counters.foreign_node_keys += 1
            self._counters.refused_registrations += 1
            self._machines.failed(machine_key, self._now())
            self._sources.failed(source, self._now())
            log.info("register of machine %s from %s refused: %s", short(machine_key), source, visible(str(error)))
            return Answer(_failed(str(error)))

    async def _registered(self, request: RegisterRequest, machine_key: bytes, source: str) -> dict[str, Any]:
        registry = self._registry
        if request.expiry is not None and request.expiry <= self._today():
            await registry.logout(machine_key, request.node_key)
            return _response()
        device = Device(
            machine_key=machine_key,
            node_key=request.node_key,
            hostinfo=request.hostinfo,
            cap=request.version,
            ephemeral=request.ephemeral,
            expiry=request.expiry,
            source=source,
        )
        if registry.node_by_key(request.node_key) is not None:
            return self._success(await registry.refresh(device))
        if request.auth_key:
            node = await registry.register_with_key(device, request.auth_key)
            log.info("node %s (machine %s) joined by auth key, from %s", node.name, short(machine_key), source)
            return self._success(node)
        if request.followup:
            login_id = request.followup.rstrip("/").rpartition("/")[2]
            try:
                return self._success(await registry.wait_for_login(login_id, machine_key))
            except LoginGone:
                pass  # timed out, or from before a restart: the client gets a new URL
        login = registry.begin_login(device)
        log.info("machine %s waits to be let in with code %s", short(machine_key), login.code)
        return _response(auth_url=f"{self._url}{REGISTER_PATH}{login.id}")

    def _success(self, node: Node) -> dict[str, Any]:
        user = self._registry.users.get(node.user_id) if node.user_id is not None else None
        return _response(
            user_id=user.id if user else TAGGED_USER_ID,
            login_name=user.name if user else TAGGED_LOGIN,
            display_name=user.display_name if user else "Tagged Devices",
            authorized=True,
        )

    def _throttled(self, request: RegisterRequest, machine_key: bytes, source: str, wait_s: float) -> Answer:
        self._counters.throttled_registrations += 1
        if self._counters.throttled_registrations.bit_count() == 1:
            log.warning(
                "machine %s from %s tries to register too often; told to wait (%d times by now)",
                short(machine_key),
                source,
                self._counters.throttled_registrations,
            )
        seconds = ceil(wait_s)
        body = _failed(f"too many attempts to join that failed; try again in {seconds} s")
        if request.version >= CAPABILITY_TOO_MANY_REQUESTS:
            return Answer(body, HTTPStatus.TOO_MANY_REQUESTS, seconds)
        return Answer(body)


def _failed(error: str) -> dict[str, Any]:
    return _response(error=error)


def _response(
    *,
    user_id: int = 0,
    login_name: str = "",
    display_name: str = "",
    authorized: bool = False,
    node_key_expired: bool = False,
    auth_url: str = "",
    error: str = "",
) -> dict[str, Any]:
    """Every field is there: some clients want each of them ("RegisterResponse")."""
    return {
        "User": {"ID": user_id, "DisplayName": display_name, "ProfilePicURL": "", "Created": _ZERO_TIME},
        "Login": {
            "ID": user_id,
            "Provider": "",
            "LoginName": login_name,
            "DisplayName": display_name,
            "ProfilePicURL": "",
        },
        "NodeKeyExpired": node_key_expired,
        "MachineAuthorized": authorized,
        "AuthURL": auth_url,
        "NodeKeySignature": None,
        "Error": error,
    }
