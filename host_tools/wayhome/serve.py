"""`wayhome serve`: coordinator, relay, STUN, pages and admin socket put together in one process.

Everything is started in `Service.start` and stopped in `Service.stop`, in the opposite order.
"""

import asyncio
import ipaddress
import logging
import secrets
import signal
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from . import own_ca
from .coordinator.admin_api import AdminApi, start_admin_api
from .coordinator.app import Coordinator
from .coordinator.registry import Registry, Settings
from .derp_map import OtherRelay, RelayPlace, derp_map
from .errors import HostError
from .http_front import Front, FrontLimits, UpgradeHandler, make_front
from .key_file import load_or_make_key
from .process_limits import give_back_memory_after_crowds, raise_file_limit, within_file_limit
from .relay import certificate
from .relay import pages as relay_pages
from .relay.service import UPGRADES as RELAY_UPGRADES
from .relay.service import Relay
from .relay.settings import RelaySettings
from .relay.stun import StunService, serve_stun
from .state_directory import SOCKET_NAME

log = logging.getLogger(__name__)

Address = tuple[str, int]

_TLS_HANDSHAKE_S = 10.0
_PAGE_KEEP_ALIVE_S = 75.0
# RFC 1918, RFC 4193, and loopback
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128")
)


@dataclass(frozen=True)
class ServeSettings:
    """What `wayhome serve` was told.

    `url` is where clients find us. An address "" means all of this machine's, IPv4 and IPv6. `relay_listen` is used
    unless our own TLS on `listen` serves the relay too. `relay_address`: where clients find the relay, a name or an
    address of each family; () = at the URL's host.
    """

    state: Path
    url: str
    listen: tuple[Address, ...] = (("", 8080),)
    certificate: Path | None = None
    key: Path | None = None
    own_ca: bool = False
    suffix: str | None = None
    relay: bool = True
    relay_listen: tuple[Address, ...] = (("", 8443),)
    relay_address: tuple[str, ...] = ()
    stun_listen: tuple[Address, ...] = (("", 3478),)
    other_relays: tuple[OtherRelay, ...] = ()
    registry: Settings = field(default_factory=Settings)
    front: FrontLimits = field(default_factory=FrontLimits)


@dataclass(frozen=True)
class ServerUrl:
    """A server's URL taken apart."""

    scheme: str
    host: str
    port: int

    @property
    def is_https(self) -> bool:
        return self.scheme == "https"


def parse_url(text: str) -> ServerUrl:
    """Raises HostError for anything but http(s)://host[:port], with or without a slash."""
    hint = "give --url as clients will reach it, such as https://mesh.example.net or http://192.168.1.5:8080"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise HostError(f"{text} is no URL ({error}); {hint}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HostError(f"{text} is no URL of a server; {hint}")
    if parts.path.rstrip("/") or parts.query or parts.fragment or parts.username:
        raise HostError(f"{text} has more than a host and a port; {hint}")
    return ServerUrl(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


class Service:
    """A running server. `await Service.start(settings)`, then `await service.stop()`."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.url = parse_url(settings.url)
        self.made: list[str] = []  # what the first start made, in words
        self.listening: list[Address] = []
        self._undo: list[Callable[[], Any]] = []
        self.coordinator: Coordinator
        self.registry: Registry
        self.relay: Relay | None = None
        self.fronts: list[Front] = []

    @classmethod
    async def start(cls, settings: ServeSettings) -> "Service":
        """Start everything; raises HostError, with nothing left running, if something can't be started."""
        service = cls(settings)
        try:
            await service._start()
        except BaseException:
            await service.stop()
            raise
        return service

    async def stop(self) -> None:
        """Stop what was started, the last first. Clients are told goodbye; what was acknowledged is on disk."""
        while self._undo:
            result = self._undo.pop()()
            if asyncio.iscoroutine(result):
                await result

    async def _start(self) -> None:
        settings, state = self.settings, self.settings.state
        self._file_limit = raise_file_limit()
        _make_state_directory(state)
        noise_private, made = load_or_make_key(state / "noise.key", secrets.token_bytes)
        if made:
            self.made.append(
                f"{state / 'noise.key'}: the server's identity; clients that know it must start anew without it"
            )
        files = self._certificate_files()
        self.registry = await Registry.open(state / "wayhome.db", self._registry_settings())
        self._undo.append(self.registry.close)
        self.coordinator = Coordinator(self.registry, noise_private, settings.url)
        self._undo.append(self.coordinator.close)
        self._make_relay()
        tls = self._keep_tls(files) if files is not None else None
        relay_tls = self._relay_tls(tls)
        await self._listen(tls, relay_tls)
        stun = await self._serve_stun()
        self._publish_relay(relay_tls, stun)
        admin: AdminApi = await start_admin_api(self.registry, state / SOCKET_NAME, self.status)
        self._undo.append(admin.close)
        self.coordinator.start()
        giving_back = asyncio.create_task(give_back_memory_after_crowds(self._connections_ended))
        self._undo.append(giving_back.cancel)

    def _connections_ended(self) -> int:
        return sum(front.ended for front in self.fronts)

    def status(self) -> dict[str, Any]:
        """What `wayhome status` adds to the registry's facts."""
        facts: dict[str, Any] = {"url": self.settings.url, "coordinator": self.coordinator.status()}
        if self.relay is not None:
            facts["relay"] = self.relay.counters()
        facts["listeners"] = [
            {"strangers": front.strangers, "open": len(front.open), **vars(front.counters)} for front in self.fronts
        ]
        return facts

    # TLS

    def _certificate_files(self) -> tuple[Path, Path] | None:
        """Return certificate and key of the main listener; None for plain HTTP, or where a proxy does TLS."""
        settings = self.settings
        if settings.own_ca:
            if settings.certificate or settings.key:
                raise HostError("either an own CA or certificate files, not both: drop --own-ca, or --cert and --key")
            ca = own_ca.prepare(settings.state, self.url.host)
            if ca.made:
                self.made.append(
                    f"{ca.authority}: the own CA's certificate; clients need it (SSL_CERT_FILE={ca.authority})"
                )
            return ca.certificate, ca.key
        if settings.certificate is not None and settings.key is not None:
            return settings.certificate, settings.key
        if settings.certificate is not None or settings.key is not None:
            raise HostError("TLS needs both files: --cert FILE and --key FILE")
        if self.url.is_https:
            log.warning("the URL is https and no certificate was given: something in front must do TLS")
        return None

    def _keep_tls(self, files: tuple[Path, Path]) -> ssl.SSLContext:
        """Return a TLS context that takes up renewed files by itself, within a day."""
        relay_key = self.relay.public_key if self.relay is not None else None
        context = certificate.server_context(*files, relay_key)
        self._undo.append(certificate.keep_showing(context, *files, relay_key))
        return context

    # listeners

    async def _listen(self, tls: ssl.SSLContext | None, relay_tls: "_RelayTls | None") -> None:
        upgrades = dict(self.coordinator.upgrades())
        routes = self.coordinator.routes()
        relay_upgrades: dict[tuple[str, str], UpgradeHandler] = {}
        if self.relay is not None:
            # DERP answers on every listener: labs use plain HTTP, and an https URL makes a second listener needless.
            relay_upgrades = dict.fromkeys(RELAY_UPGRADES, self.relay.upgrade)
            routes += relay_pages.routes()
        else:
            routes += [route for route in relay_pages.routes() if getattr(route, "path", "") == "/generate_204"]
        await self._serve(self.settings.listen, routes, {**upgrades, **relay_upgrades}, tls)
        if relay_tls is not None and relay_tls.own_listener:
            # The control protocol proves the server by its Noise key, so the relay's own certificate does for it too.
            taken = {**upgrades, **relay_upgrades}
            await self._serve(self.settings.relay_listen, relay_pages.routes(), taken, relay_tls.context)
        if not self.url.is_https and not is_private(self.url.host):
            await self._serve_way_back(upgrades, relay_tls)

    async def _serve_way_back(
        self, upgrades: dict[tuple[str, str], UpgradeHandler], relay_tls: "_RelayTls | None"
    ) -> None:
        """Listen on port 443 as well, where official clients that lost an http server look for it and nowhere else.

        They do so again and again while they find nothing (seen with 1.90.9 for minutes), and they check no
        certificate there: the Noise key is the proof. Where the port can't be had, a warning says what follows.
        """
        listening = {*self.settings.listen, *(self.settings.relay_listen if relay_tls is not None else ())}
        if any(port == 443 for _, port in listening):
            return
        try:
            if relay_tls is None:
                raise HostError("without a relay there is no certificate for it")
            way_back = tuple({(host, 443): None for host, _ in self.settings.listen})
            await self._serve(way_back, [], upgrades, relay_tls.context)
        except HostError as error:
            log.warning(
                "the URL is http and %s is no private address: official clients that lose their connection try only "
                "port 443 again, and there is nothing for them (%s), so they stay away after a restart; use https, "
                "--own-ca if there is no other way",
                self.url.host,
                error,
            )

    async def _serve(
        self,
        addresses: tuple[Address, ...],
        routes: list[web.RouteDef],
        upgrades: dict[tuple[str, str], UpgradeHandler],
        tls: ssl.SSLContext | None,
    ) -> None:
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_PAGE_KEEP_ALIVE_S,
            handle_signals=False,
            shutdown_timeout=2.0,
            logger=_pages_log(),
        )
        await runner.setup()
        self._undo.append(runner.cleanup)
        assert runner.server is not None
        front = make_front(runner.server, upgrades, within_file_limit(self.settings.front, self._file_limit))
        self.fronts.append(front)
        self._undo.append(front.close)
        loop = asyncio.get_running_loop()
        for host, port in everywhere(addresses):
            try:
                server = await loop.create_server(
                    front,
                    host,
                    port,
                    ssl=tls,
                    ssl_handshake_timeout=_TLS_HANDSHAKE_S if tls else None,
                    backlog=1024,
                    reuse_address=True,
                )
            except OSError as error:
                raise HostError(_cannot_listen(host, port, error)) from error
            self._undo.append(server.close)
            self.listening += [one.getsockname()[:2] for one in server.sockets]

    # relay

    def _make_relay(self) -> None:
        if not self.settings.relay:
            return
        relay_private, _ = load_or_make_key(self.settings.state / "relay.key", secrets.token_bytes)
        self.relay = Relay(RelaySettings(), relay_private, self.coordinator.admit)
        self._undo.append(self.relay.close)
        self._undo.append(self.coordinator.on_key_gone(self.relay.disconnect))

    def _relay_tls(self, tls: ssl.SSLContext | None) -> "_RelayTls | None":
        if self.relay is None:
            return None
        if tls is not None:
            # Nothing to pin with files: a public authority stands behind them. Our own CA's is known to nobody else.
            pin = certificate.pin_of(self.settings.state / "server.crt") if self.settings.own_ca else ""
            return _RelayTls(tls, pin, own_listener=False)
        own = certificate.load_or_make(self.settings.state, self.relay_host)
        note = own.renewal_note()
        if note:
            log.warning("%s", note)
        return _RelayTls(self._keep_tls((own.certificate, own.key)), own.pin, own_listener=True)

    @property
    def relay_host(self) -> str:
        """Where clients find the relay."""
        return self.settings.relay_address[0] if self.settings.relay_address else self.url.host

    async def _serve_stun(self) -> list[Address]:
        if self.relay is None or not self.settings.stun_listen:
            return []
        stun: StunService = await serve_stun(everywhere(self.settings.stun_listen))
        self._undo.append(stun.close)
        return stun.addresses

    def _publish_relay(self, relay_tls: "_RelayTls | None", stun: list[Address]) -> None:
        place = None
        if relay_tls is not None:
            port = self.settings.relay_listen[0][1] if relay_tls.own_listener else self.url.port
            listening = self.settings.relay_listen if relay_tls.own_listener else self.settings.listen
            place = RelayPlace(
                self.relay_host,
                port,
                relay_tls.pin,
                can_port_80=(self.url.scheme, self.url.port) == ("http", 80),
                also=(*self.settings.relay_address[1:], *other_family(self.relay_host, listening)),
            )
        if place is not None or self.settings.other_relays:
            self.registry.set_derp_map(derp_map(place, stun, self.settings.other_relays))

    def _registry_settings(self) -> Settings:
        if self.settings.suffix is None:
            return self.settings.registry
        values = {name: getattr(self.settings.registry, name) for name in Settings.__dataclass_fields__}
        return Settings(**{**values, "suffix": self.settings.suffix.strip(".").lower()})


@dataclass(frozen=True)
class _RelayTls:
    context: ssl.SSLContext
    pin: str
    own_listener: bool


def _pages_log() -> logging.Logger:
    """Return the log of the pages, which has our bugs and not each piece of nonsense that strangers send.

    aiohttp answers what it cannot read with 400, and logs a trace of its parser with the stranger's bytes in it.
    """
    pages_log = logging.getLogger("wayhome.pages")
    pages_log.addFilter(_is_no_strangers_fault)
    return pages_log


def _is_no_strangers_fault(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _make_state_directory(state: Path) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = state / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise HostError(
            f"cannot write into the state directory {state} ({error.strerror or error}); "
            "give another one with --state DIR, or make it yours"
        ) from error


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if port < 1024 and isinstance(error, PermissionError):
        return f"may not listen on {host}:{port}: ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return f"cannot listen on {host}:{port}: {error.strerror or error}; choose another address or stop what is there"


def everywhere(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses with "" replaced by the wildcards of the families that this machine has."""
    result: list[Address] = []
    for host, port in addresses:
        result += [(host, port)] if host else [("0.0.0.0", port), *([("::", port)] if _has_ipv6() else [])]
    return result


def other_family(host: str, listening: Iterable[Address]) -> list[str]:
    """Return the addresses named for listening that are not of the host's own family, where that is an address.

    So a server told to listen on one address of each family is found at both, though its URL names one.
    """
    try:
        known = ipaddress.ip_address(host)
        named = [ipaddress.ip_address(text) for text, _ in listening if text]
    except ValueError:
        return []  # a name: DNS knows all its addresses
    usable = [
        one for one in named if not (one.is_unspecified or one.is_link_local or one.is_loopback != known.is_loopback)
    ]
    return [str(one) for one in usable if one.version != known.version]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def is_private(host: str) -> bool:
    """Tell whether official clients take this for a private host, to which they speak plain HTTP for good.

    Python's own `is_private` counts more in. Source: seen with release 1.90.9.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return any(address.version == network.version and address in network for network in _PRIVATE)


async def serve_until_told(settings: ServeSettings, started: Callable[[Service], None]) -> None:
    """Run the server until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = await Service.start(settings)
    started(service)
    try:
        await stop.wait()
    finally:
        log.info("stopping")
        await service.stop()
