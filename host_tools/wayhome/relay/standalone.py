"""A relay on its own: `wayhome relay`, for those who want it on another machine than their coordinator."""

import asyncio
import json
import logging
import secrets
import signal
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from ..derp_map import OtherRelay, RelayPlace, other_relay_text
from ..errors import HostError
from ..http_front import FrontLimits, make_front
from ..key_file import load_or_make_key
from ..process_limits import give_back_memory_after_crowds, raise_file_limit, within_file_limit
from . import certificate, pages
from .admission import AllowedKeys, AnyOf, AskedCoordinator, Door, Everybody, turn_out_the_refused
from .service import UPGRADES, Relay
from .settings import RelaySettings
from .stun import StunService, serve_stun

log = logging.getLogger(__name__)

Address = tuple[str, int]

SOCKET_NAME = "relay.sock"
_TLS_HANDSHAKE_SECONDS = 10.0
# How long a removed device may go on using a relay that its coordinator can't tell.
_ASK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class StandaloneOptions:
    """What `wayhome relay` was told. `names` are for the own certificate; `certificate` and `key` replace it."""

    state: Path
    listen: tuple[Address, ...] = (("0.0.0.0", 8443),)
    stun_listen: tuple[Address, ...] = (("0.0.0.0", 3478),)
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    plain_http: bool = False
    verify_url: str | None = None
    allow_keys: Path | None = None
    admit_everybody: bool = False
    settings: RelaySettings = field(default_factory=RelaySettings)


class StandaloneRelay:
    """A running relay. `await StandaloneRelay.start(options)`, then `await relay.stop()`."""

    def __init__(self, options: StandaloneOptions) -> None:
        self._options = options
        self._undo: list[Callable[[], Any]] = []
        self._has_tls = False
        self.listening: list[Address] = []
        self.pin = ""
        self.note: str | None = None
        self.relay: Relay
        self.stun: StunService

    @classmethod
    async def start(cls, options: StandaloneOptions) -> "StandaloneRelay":
        """Raises HostError, with nothing left running, if something can't be started."""
        one = cls(options)
        try:
            await one._start()
        except BaseException:
            await one.stop()
            raise
        return one

    async def stop(self) -> None:
        while self._undo:
            result = self._undo.pop()()
            if asyncio.iscoroutine(result):
                await result

    def facts(self) -> dict[str, Any]:
        """Return what somebody needs who puts this relay into a relay map, ready for JSON."""
        return {
            "listen": [list(address) for address in self.listening],
            "stun": [list(address) for address in self.stun.addresses],
            "tls": self._has_tls,
            "pin": self.pin or None,
            "other_relay": self._as_other_relay(),
            "public_key": self.relay.public_key.hex(),
            "note": self.note,
        }

    def status(self) -> dict[str, Any]:
        return {
            **self.facts(),
            "relay": self.relay.counters(),
            "stun_requests": dict(self.stun.counters),
            "clients": self.relay.clients(),
        }

    def _as_other_relay(self) -> str | None:
        """Return what the coordinator's --other-relay takes; None without TLS, which clients insist on."""
        if not self._has_tls:
            return None
        host, port = self.listening[0]
        stun_port = self.stun.addresses[0][1] if self.stun.addresses else None
        name = self._options.names[0] if self._options.names else host
        return other_relay_text(OtherRelay(RelayPlace(name, port, self.pin), stun_port))

    async def _start(self) -> None:
        options = self._options
        door = self._doors()
        try:
            options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"cannot make the state directory {options.state}: {error.strerror}; name another with --state DIR"
            ) from error
        private_key, _ = load_or_make_key(options.state / "relay.key", secrets.token_bytes)
        self.relay = Relay(options.settings, private_key, door)
        self._undo.append(self.relay.close)
        context = self._tls_context()
        await self._listen(context)
        self.stun = await serve_stun(options.stun_listen)
        self._undo.append(self.stun.close)
        await self._serve_status()
        asking = asyncio.create_task(self._ask_again(door))
        self._undo.append(asking.cancel)

    async def _ask_again(self, door: Door) -> None:
        while True:
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
            await turn_out_the_refused(self.relay, door)

    def _doors(self) -> Door:
        options = self._options
        doors: list[Door] = []
        if options.admit_everybody:
            doors.append(Everybody())
        if options.verify_url is not None:
            asked = AskedCoordinator(options.verify_url)
            self._undo.append(asked.close)
            doors.append(asked)
        if options.allow_keys is not None:
            doors.append(AllowedKeys(options.allow_keys))
        if not doors:
            raise HostError(
                "nobody would be let in: name the coordinator to ask with --verify-url https://HOST/verify, "
                "or a list of node keys with --allow-keys FILE"
            )
        return AnyOf(doors)

    def _tls_context(self) -> ssl.SSLContext | None:
        options = self._options
        if (options.certificate is None) != (options.key is None):
            raise HostError("TLS needs both files: --cert FILE and --key FILE")
        if options.plain_http:
            if options.certificate is not None:
                raise HostError("either --plain-http or --cert and --key, not both")
            return None
        if options.certificate is not None and options.key is not None:
            files = options.certificate, options.key
        else:
            own = certificate.load_or_make(options.state, *options.names)
            files = own.certificate, own.key
            self.pin = own.pin
            self.note = own.renewal_note()
        context = certificate.server_context(*files, self.relay.public_key)
        self._has_tls = True
        self._undo.append(certificate.keep_showing(context, *files, self.relay.public_key))
        return context

    async def _listen(self, context: ssl.SSLContext | None) -> None:
        app = web.Application()
        app.add_routes([*pages.routes(), *pages.routes_of_a_relay_alone()])
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        self._undo.append(runner.cleanup)
        assert runner.server is not None
        limits = within_file_limit(FrontLimits(), raise_file_limit())
        front = make_front(runner.server, dict.fromkeys(UPGRADES, self.relay.upgrade), limits)
        self._undo.append(front.close)
        giving_back = asyncio.create_task(give_back_memory_after_crowds(lambda: front.ended))
        self._undo.append(giving_back.cancel)
        for host, port in self._options.listen:
            try:
                server = await asyncio.get_running_loop().create_server(
                    front,
                    host,
                    port,
                    ssl=context,
                    ssl_handshake_timeout=_TLS_HANDSHAKE_SECONDS if context else None,
                    backlog=1024,
                )
            except OSError as error:
                raise HostError(
                    f"cannot listen on {host} port {port}: {error.strerror or error}; --listen names another address"
                ) from error
            self._undo.append(server.close)
            self.listening += [one.getsockname()[:2] for one in server.sockets]

    async def _serve_status(self) -> None:
        path = self._options.state / SOCKET_NAME
        path.unlink(missing_ok=True)
        try:
            server = await asyncio.start_unix_server(self._tell_status, path)
            path.chmod(0o600)
        except OSError as error:
            raise HostError(
                f"cannot make the socket {path}: {error.strerror or error}; is its path too long?"
            ) from error
        self._undo.append(lambda: path.unlink(missing_ok=True))
        self._undo.append(server.close)

    async def _tell_status(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(json.dumps(self.status()).encode())
        writer.close()


def ask_status(state: Path) -> dict[str, Any]:
    """Return the status of the relay that runs with this state directory. Raises HostError."""
    return asyncio.run(_ask_status(state / SOCKET_NAME))


async def _ask_status(path: Path) -> dict[str, Any]:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        text = await reader.read()
        writer.close()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise HostError(
            f"no relay runs with the state directory {path.parent}; start it with `wayhome relay`"
        ) from error
    except OSError as error:
        raise HostError(f"cannot speak to the relay at {path}: {error.strerror or error}; are you its user?") from error
    answer: dict[str, Any] = json.loads(text)
    return answer


async def run_until_told(options: StandaloneOptions, started: Callable[[StandaloneRelay], None]) -> None:
    """Run until SIGTERM or SIGINT. Raises HostError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    one = await StandaloneRelay.start(options)
    try:
        started(one)
        await stop.wait()
    finally:
        await one.stop()


def addresses_text(addresses: Sequence[Address]) -> str:
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
