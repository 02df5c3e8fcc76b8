"""Keeps the board in touch with its coordinator: log in, poll the map, tell of changes, answer pings; for ever.

    run():  wait for `up` -> connect -> register -> lite update -> map poll   (any failure: back-off, and again)

Established tunnels do not depend on any of it: what fails here changes no netmap and no tunnel.
Source: control.md sections 5, 6, 9 and 13.
"""

import asyncio
import json

from wayhomed.core import expiry, retry_after, server_url
from wayhomed.core.backoff import Backoff
from wayhomed.core.map_response import MAX_MESSAGE_BYTES, ResponseReader
from wayhomed.core.pace import Pace
from wayhomed.port import const, monotonic_ms, net, random_bytes
from wayhomed.port.tasks import Mailbox, run_all, sleep_ms, wait_for_event, within
from wayhomed.wire import control, json_text, keys
from wayhomed.wire.errors import BadWire

from . import c2n, hostinfo
from .control_connection import Busy, HandshakeFailed, dial, fetch_server_key, plain_ping
from .state import StateError

# Fixed by the protocol
WATCHDOG_MS = const(120_000)  # the poll ends after this long without a message
_PING_MS = const(15_000)
_ZSTD = const(0x28)  # how a zstd frame begins, and no JSON
# Chosen by us
_NAME = "the coordinator's session"  # as the watchdog knows it
_REQUEST_MS = const(60_000)
_ANSWER_BYTES = const(1_048_576)
_SHOWN_CHARACTERS = const(200)
_STEADY_MS = const(10_000)  # a poll that lived this long was no failure
_PINGS_WAITING = const(4)
_REFUSED_RETRY_MS = const(60_000)
_TIME_MS = const(5_000)  # for the time servers to answer a board that knows no time, before its first join
_CHECK_AGAIN_MS = const(60_000)
# Of what we are told: a coordinator that talks without end must not keep the board from its packets.
_MESSAGES_AT_ONCE = const(100)
_MESSAGE_EVERY_MS = const(50)
# Of what we tell: a NAT that gives us another port at each look must not keep all peers of a mesh busy.
_UPDATES_AT_ONCE = const(6)
_UPDATE_EVERY_MS = const(10_000)


class Phase:
    """What the user is told about the session."""

    STOPPED = 0
    CONNECTING = 1
    JOINING = 2
    NEEDS_LOGIN = 3
    NEEDS_APPROVAL = 4
    RUNNING = 5


PHASE_NAMES = {
    Phase.STOPPED: "stopped",
    Phase.CONNECTING: "connecting",
    Phase.JOINING: "joining",
    Phase.NEEDS_LOGIN: "needs-login",
    Phase.NEEDS_APPROVAL: "needs-approval",
    Phase.RUNNING: "running",
}


class LoginRefused(Exception):
    """The coordinator does not let us in; the text is its reason. Asking again at once would not help."""


class ControlSession:
    """The session. `board` is the daemon, asked for: netmap (Netmap), net_info(), own_endpoints(), disco_public, log,
    and told: netmap_changed(difference), node_key_changed(), session_changed(), ping_asked(request) (awaitable, gives
    a PingResponse dict).
    """

    def __init__(self, state, board, mark: int):
        self._state = state
        self._board = board
        self._mark = mark
        self._log = board.log
        self._backoff = Backoff()
        self._kicked = asyncio.Event()
        self._update_due = asyncio.Event()
        self._message_pace = Pace(_MESSAGES_AT_ONCE, _MESSAGE_EVERY_MS)
        self._update_pace = Pace(_UPDATES_AT_ONCE, _UPDATE_EVERY_MS)
        self._told = b""  # what this connection's last update said, but for latencies
        self._auth_key = ""
        self._spent_key = ""  # of the configuration's auth keys the last that the coordinator refused
        self._ephemeral = False
        self._new_key_wanted = False
        self._accept_new_server_key = False
        self._key_undated = False  # the coordinator's key came by a certificate whose dates nobody could judge
        self._last_ping_url = ""
        self._last_browse_url = ""
        self._pings = Mailbox(_PINGS_WAITING)
        self.server_address = b""  # where the coordinator was last reached
        self.phase = Phase.STOPPED
        self.auth_url = ""
        self.error = ""
        self.refused = False  # only the owner can mend what `error` says
        self.connected = False  # the map stream runs

    # --- What the owner asks for ---

    def login(self, auth_key: str, ephemeral: bool, new_key: bool, accept_new_server_key: bool) -> None:
        """Connect anew with these means. The auth key stays in memory only, until it has served."""
        self._auth_key = auth_key
        self._log.hide(auth_key)
        self._ephemeral = ephemeral
        self._new_key_wanted = new_key
        self._accept_new_server_key = accept_new_server_key
        self.error = ""
        self.refused = False
        self.auth_url = ""
        if new_key and self.phase == Phase.RUNNING:
            self._set_phase(Phase.CONNECTING)  # or it looks as if all were done
        self._backoff.succeeded()
        self._kicked.set()

    def settings_changed(self) -> None:
        """Hostinfo, home relay, endpoints or settings are new: tell the coordinator, or start or stop if so wished."""
        self._update_due.set()
        if not self._state.prefs.want_running or self.phase == Phase.STOPPED:
            self._kicked.set()

    def uplink_changed(self) -> None:
        """This machine has another way out: connect anew, for the old connection may be dead without saying so."""
        # A link that a person has yet to open would be another one after that.
        if self._state.prefs.want_running and not self.auth_url:
            self._backoff.succeeded()
            self._kicked.set()

    # --- The loop ---

    async def run(self) -> None:
        """Never returns; ends by cancellation."""
        while True:
            if not self._state.prefs.want_running or not self._state.prefs.login_server:
                self._set_phase(Phase.STOPPED)
                self._board.progress.rests(_NAME)
                self._kicked.clear()
                await self._kicked.wait()
                continue
            self._kicked.clear()
            started_ms = monotonic_ms()
            self._board.progress.due(_NAME, started_ms + _REQUEST_MS)
            wait_ms = 0
            try:
                await run_all(self._connect_and_serve(), self._kicked.wait())
            except LoginRefused as refusal:
                self.error = str(refusal)
                self.refused = True
                self._log.error("the coordinator refuses us: " + self.error)
                self._set_phase(Phase.NEEDS_LOGIN)
                wait_ms = _REFUSED_RETRY_MS
            except StateError as error:
                self.error = str(error)
                self._log.error(self.error)
                wait_ms = _REFUSED_RETRY_MS
            except (OSError, BadWire) as error:
                if isinstance(error, Busy):
                    wait_ms = retry_after.wait_ms(error.retry_after, self._board.clock.now_s(), random_bytes(1)[0])
                words = _words(error)
                # A coordinator that is away for hours is one line in the log, not thousands.
                if words != self.error:
                    self._log.warning("coordinator: " + words)
                self.error = words
            self._disconnected()
            if self._kicked.is_set():
                continue
            if not wait_ms:
                if monotonic_ms() - started_ms > _STEADY_MS:
                    self._backoff.succeeded()
                wait_ms = self._backoff.failed(random_bytes(1)[0])
            self._board.progress.due(_NAME, monotonic_ms() + wait_ms)
            await wait_for_event(self._kicked, wait_ms)

    def _disconnected(self) -> None:
        self.connected = False
        self.auth_url = ""
        if self.phase not in (Phase.STOPPED, Phase.NEEDS_LOGIN):
            self._set_phase(Phase.CONNECTING)
        self._board.session_changed()

    def _set_phase(self, phase: int) -> None:
        if phase != self.phase:
            self.phase = phase
            self._log.info(self._told_phase(phase))
        self._board.session_changed()

    def _told_phase(self, phase: int) -> str:
        """Return a phase as a person reads it in the log."""
        node = self._board.netmap.node
        if phase == Phase.CONNECTING:
            return "coordinator: connecting to " + self._state.prefs.login_server
        if phase == Phase.JOINING:
            return "coordinator: connected; joining"
        if phase == Phase.NEEDS_LOGIN:
            return "coordinator: someone has to let this machine in; wayhomectl status says how"
        if phase == Phase.NEEDS_APPROVAL:
            return "coordinator: an administrator has to approve this machine"
        if phase == Phase.RUNNING and node is not None:
            return "coordinator: in the mesh as " + node.display_name()
        return "coordinator: not connected, as wished"

    async def _connect_and_serve(self) -> None:
        url = server_url.parse(self._state.prefs.login_server)
        if self.phase in (Phase.STOPPED, Phase.RUNNING):
            self._set_phase(Phase.CONNECTING)
        key = await self._server_key(url)
        try:
            connection = await dial(url, self._state.machine_private, key, self._mark)
        except HandshakeFailed as error:
            # Perhaps the coordinator has a new key: ask, and see whether that is to be believed.
            await self._server_key_failed(url, key, error)
            raise
        try:
            self.server_address = connection.server_address
            await run_all(connection.run(), self._serve(connection, key))
        finally:
            connection.close()

    async def _server_key(self, url) -> bytes:
        if self._state.server_key and not self._accept_new_server_key:
            self._key_undated = self._state.key_undated
            return self._state.server_key
        clock = self._board.clock
        if url.secure:
            await clock.wait_for_trust(_TIME_MS)
        self._key_undated = url.secure and not clock.trusted
        key = await fetch_server_key(url, self._mark, clock)
        self._log.info("the coordinator's key is " + keys.short(key))
        return key

    async def _server_key_failed(self, url, key: bytes, error: BadWire) -> None:
        """Raise what the user should read after a handshake failed by `error`."""
        named = await fetch_server_key(url, self._mark, self._board.clock)
        if named == key:
            raise BadWire(
                "the coordinator does not hold the key that it names at /key, or does not want us (%s)" % error
            )
        if url.secure and not self._board.clock.trusted:
            raise BadWire("the coordinator's key is another than before; that is believed once the time is known")
        if url.secure:
            # TLS vouched for it: an administrator has set the coordinator up anew.
            self._log.warning("the coordinator has a new key, " + keys.short(named))
            self._state.server_key = named
            self._state.key_undated = False
            self._state.save()
            raise BadWire("the coordinator has a new key; connecting again")
        raise LoginRefused(
            "the coordinator's key is another than before, and without https nobody vouches for it; if you set the "
            "coordinator up anew, run: wayhomectl up --accept-new-key"
        )

    async def _serve(self, connection, server_key: bytes) -> None:
        if self.phase != Phase.NEEDS_LOGIN:
            self._set_phase(Phase.JOINING)
        await self._log_in(connection, server_key)
        self._accept_new_server_key = False
        self._told = b""
        await self._send_update(connection)
        await run_all(
            self._poll(connection),
            self._update_loop(connection),
            self._ping_loop(connection),
            self._check_key(server_key),
        )

    async def _check_key(self, key: bytes) -> None:
        """Ask for the coordinator's key again once the time is known, if it came while nobody could judge a date."""
        while self._key_undated:
            await self._board.clock.until_trusted()
            try:
                url = server_url.parse(self._state.prefs.login_server)
                named = await fetch_server_key(url, self._mark, self._board.clock)
                problem = "" if named == key else "its server names another key than at the first join"
            except net.TlsRefused as error:
                problem = _words(error)
            except (OSError, BadWire):
                await sleep_ms(_CHECK_AGAIN_MS)
                continue
            if problem:
                self._board.forget_coordinator()
                raise LoginRefused("joined before the time was known, and not at the right coordinator: " + problem)
            self._key_undated = self._state.key_undated = False
            self._state.save()
        await asyncio.Event().wait()

    # --- Registering (control.md 5) ---

    async def _log_in(self, connection, server_key: bytes) -> None:
        """Return once the coordinator knows our node key. Raises LoginRefused with its reason."""
        state = self._state
        if self._new_key_wanted:
            self._new_key_wanted = False
            self._make_next_key()
        followup = ""
        expired_once = False
        if not state.registered:
            self._take_standing_key()
        while True:
            reply = await self._register(connection, followup)
            if reply.get("Error"):
                used_key, self._auth_key = self._auth_key, ""
                text = str(reply["Error"])[:_SHOWN_CHARACTERS]
                if used_key and used_key == self._board.standing_auth_key():
                    self._spent_key = used_key
                    text += "; put a new auth key into the file that the configuration names"
                elif used_key:
                    text += "; make a new auth key on the coordinator, or run wayhomectl up without one to get a link"
                raise LoginRefused(text)
            if reply.get("NodeKeySignature"):
                raise LoginRefused("the coordinator wants network lock, which this daemon does not have")
            if reply.get("NodeKeyExpired") is True:
                if expired_once:
                    raise LoginRefused("the coordinator calls even a new node key expired")
                expired_once = True
                self._log.info("our node key has expired; making a new one")
                self._make_next_key()
                self._take_standing_key()
                continue
            url = reply.get("AuthURL")
            if url:
                if not isinstance(url, str) or not url.startswith(("https://", "http://")):
                    raise BadWire("AuthURL: a link is due here")
                if url == followup:
                    await sleep_ms(self._backoff.failed(random_bytes(1)[0]))
                followup = url[:2000]
                self.auth_url = followup
                self.error = ""
                self._log.info("to let this board in, open " + followup)
                self._board.progress.rests(_NAME)  # until a person has acted
                self._set_phase(Phase.NEEDS_LOGIN)
                self._board.session_changed()
                continue
            break
        self.auth_url = ""
        self.error = ""
        self.refused = False
        self._auth_key = ""
        rotated = state.next_node_private is not None
        if rotated:
            state.node_private = state.next_node_private
            state.next_node_private = None
        if rotated or not state.registered or state.server_key != server_key:
            state.registered = True
            state.server_key = server_key
            state.key_undated = self._key_undated
            state.save()
        if rotated:
            self._board.node_key_changed()
        self._set_phase(Phase.JOINING)

    def _take_standing_key(self) -> None:
        """Use the auth key that the configuration file leads to, unless the owner gave another or it was refused."""
        key = self._board.standing_auth_key()
        if not self._auth_key and key != self._spent_key:
            self._auth_key = key

    def _make_next_key(self) -> None:
        if self._state.registered:
            self._state.next_node_private = keys.new_private(random_bytes(32))
        else:
            # Nobody knows the present key yet, so there is nothing to rotate from.
            self._state.node_private = keys.new_private(random_bytes(32))
            self._board.node_key_changed()
        self._state.save()

    async def _register(self, connection, followup: str) -> dict:
        state = self._state
        current = keys.public_of(state.node_private)
        if state.next_node_private:
            wanted, old = keys.public_of(state.next_node_private), current
        else:
            wanted, old = current, keys.ZERO
        body = hostinfo.register_body(wanted, old, self._auth_key, followup, self._ephemeral, self._hostinfo())
        while True:
            asking = connection.request("POST", "/machine/register", body, _ANSWER_BYTES)
            # A follow-up is held until a person has acted; keep-alives of TCP notice a dead coordinator meanwhile.
            status, answer = await (asking if followup else within(_REQUEST_MS, asking, "registering"))
            if status != 200:
                raise BadWire("registering: status %d: %s" % (status, _text(answer)))
            return _json_object(answer, "the answer to registering")

    async def log_out(self) -> None:
        """Have the coordinator end our node key now, over a connection of its own: the session has stopped.

        Raises OSError, BadWire or LoginRefused: it may not have done so.
        """
        state = self._state
        url = server_url.parse(state.server)
        connection = await dial(url, state.machine_private, await self._server_key(url), self._mark)
        try:
            await run_all(connection.run(), self._end_key(connection))
        finally:
            connection.close()
        self.error = ""
        self.refused = False

    async def _end_key(self, connection) -> None:
        current = keys.public_of(self._state.node_private)
        body = hostinfo.register_body(current, keys.ZERO, "", "", False, self._hostinfo(), hostinfo.LOGGED_OUT)
        status, answer = await connection.request("POST", "/machine/register", body, _ANSWER_BYTES)
        if status != 200:
            raise BadWire("logging out: status %d: %s" % (status, _text(answer)))
        said = _json_object(answer, "the answer to logging out").get("Error")
        if said:
            raise LoginRefused("the coordinator refuses: " + str(said)[:_SHOWN_CHARACTERS])

    def _hostinfo(self) -> dict:
        machine = keys.public_of(self._state.machine_private)
        info = hostinfo.hostinfo(self._state.prefs, machine, self._board.net_info())
        for part in self._board.parts:
            info.update(part.hostinfo())
        return info

    # --- Telling of changes (control.md 6) ---

    async def _send_update(self, connection) -> None:
        self._update_due.clear()
        info = self._hostinfo()
        said = self._map_body(hostinfo.without_latencies(info), False)
        if said == self._told:
            return
        body = self._map_body(info, False)
        asking = connection.request("POST", "/machine/map", body, _ANSWER_BYTES)
        status, answer = await within(_REQUEST_MS, asking, "telling the coordinator of a change")
        if status != 200:
            raise BadWire("an update of ours: status %d: %s" % (status, _text(answer)))
        self._told = said
        self._update_pace.done(monotonic_ms())

    def _map_body(self, info: dict, stream: bool) -> bytes:
        node_public = keys.public_of(self._state.node_private)
        board = self._board
        warnings = board.warnings()
        return hostinfo.map_body(node_public, board.disco_public, info, stream, board.own_endpoints(), warnings)

    async def _update_loop(self, connection) -> None:
        while True:
            await self._update_due.wait()
            await sleep_ms(self._update_pace.wait_ms(monotonic_ms()))
            await self._send_update(connection)

    # --- The poll (control.md 7) ---

    async def _poll(self, connection) -> None:
        _number, answer = await connection.open("POST", "/machine/map", self._map_body(self._hostinfo(), True))
        status = await within(_REQUEST_MS, answer.headers(), "asking for the map")
        answer.refuse_if_busy()
        if status != 200:
            text = await within(_REQUEST_MS, answer.read(), "asking for the map")
            raise BadWire("the map: status %d: %s" % (status, _text(text or b"")))
        cutter = control.MapFrameCutter(MAX_MESSAGE_BYTES)
        self._board.netmap.new_stream()
        reader = None
        while True:
            # A large message on a slow line may take longer than this to come, so any part of one counts.
            self._board.progress.due(_NAME, monotonic_ms() + WATCHDOG_MS)
            data = await within(WATCHDOG_MS, answer.read(), "the coordinator's map stream")
            if data is None:
                raise BadWire("the coordinator ended the map stream")
            for piece, is_last in cutter.feed(data):
                if reader is None:
                    if piece[0] == _ZSTD:
                        raise BadWire("the coordinator compresses its map, which this daemon did not ask for")
                    reader = ResponseReader(self._board.netmap.peers)
                reader.feed(piece)
                if is_last:
                    response, reader = reader.close(), None
                    await sleep_ms(self._message_pace.wait_ms(monotonic_ms()))
                    self._message_pace.done(monotonic_ms())
                    await self._message_received(response)

    async def _message_received(self, response) -> None:
        difference = self._board.netmap.apply(response, self._board.clock.now_s())
        if difference.browse_url not in ("", self._last_browse_url):
            self._last_browse_url = difference.browse_url
            self._log.warning("the coordinator asks for a person to open " + difference.browse_url)
        for sentence in difference.left_out:
            self._log.warning("netmap: " + sentence)
        self._board.clock.coordinator_told(difference.control_time_s, not self._key_undated)
        request = difference.ping_request
        if request and request["URL"] and request["URL"] != self._last_ping_url:
            self._last_ping_url = request["URL"]
            self._pings.put(request)
        if difference.exit_asked:
            # A coordinator must not be able to switch a home off.
            self._log.warning("the coordinator asks this daemon to exit; it does not")
        if difference.first:
            self.connected = True
        if difference.anything():
            self._board.netmap_changed(difference)
            self._judge_self()
        if difference.sleep_ms:
            self._log.info("the coordinator asks for a pause of %d ms" % difference.sleep_ms)
            self._board.progress.due(_NAME, monotonic_ms() + difference.sleep_ms)
            await sleep_ms(difference.sleep_ms)

    def time_passed(self) -> None:
        """Look whether our key has run out meanwhile."""
        if self.connected and self.phase == Phase.RUNNING:
            self._judge_self()

    def _judge_self(self) -> None:
        """Set the phase by what the coordinator says of our own node."""
        node = self._board.netmap.node
        if node.is_expired(self._board.trusted_now_s()):
            self.error = expiry.EXPIRED
            self.refused = True
            self._set_phase(Phase.NEEDS_LOGIN)
        elif not node.machine_authorized:
            self._set_phase(Phase.NEEDS_APPROVAL)
        else:
            self._set_phase(Phase.RUNNING)

    # --- Pings (control.md 9) ---

    async def _ping_loop(self, connection) -> None:
        while True:
            for request in await self._pings.take_all():
                try:
                    await self._answer_ping(connection, request)
                except (OSError, BadWire) as error:
                    self._log.debug("a ping of the coordinator: " + _words(error))

    async def _answer_ping(self, connection, request: dict) -> None:
        # At a coordinator's word we make no request to anybody but itself, least of all into our own LAN.
        types = request["Types"]
        if not types and not request["URLIsNoise"]:
            url, target = server_url.with_target(request["URL"])
            if url.host == server_url.parse(self._state.prefs.login_server).host:
                await within(_PING_MS, plain_ping(url, target, self._mark, self._board.clock), "answering a ping")
                return
        path = _noise_path(request["URL"])
        if not request["URLIsNoise"] and not path.startswith("/machine/"):
            self._log.info("the coordinator asks for a ping of another server; it is left alone")
            return
        if not types:
            asking = connection.request("HEAD", path, b"", _ANSWER_BYTES)
        elif types == "c2n":
            asking = connection.request("POST", path, c2n.answer(request["Payload"]), _ANSWER_BYTES)
        else:
            response = await self._board.ping_asked(request)
            asking = connection.request("POST", path, json.dumps(response).encode(), _ANSWER_BYTES)
        await within(_PING_MS, asking, "answering a ping")


def _noise_path(url: str) -> str:
    """Return the path of https://anything/path: over Noise the host means nothing. Raises BadWire."""
    if not url.startswith("https://") or "/" not in url[8:]:
        raise BadWire("a ping's URL is not of the form https://host/path")
    path = url[8 + url[8:].find("/") :]
    for character in path:
        if not "!" <= character <= "~":
            raise BadWire("a ping's URL has a character that does not belong there")
    return path


def _json_object(answer: bytes, what: str) -> dict:
    try:
        fields = json_text.parse(answer)
    except ValueError:
        raise BadWire(what + " is not JSON")
    if not isinstance(fields, dict):
        raise BadWire(what + " is not a JSON object")
    return fields


def _text(answer: bytes) -> str:
    try:
        return str(answer[:_SHOWN_CHARACTERS], "utf-8").strip()
    except ValueError:
        return "(no text)"


def _words(error) -> str:
    """Return an error as a sentence: OSError's own text without its number."""
    if isinstance(error, OSError) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or "the connection failed"
