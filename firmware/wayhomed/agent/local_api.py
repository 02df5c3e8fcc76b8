"""The local API: a unix socket, JSON lines, one request a connection. wayhomectl is its only client.

    request   {"command": "up", ...}
    answer    any number of {"progress": TEXT} (and {"auth_url": URL}), then {"result": {...}}
              or {"error": TEXT, "next": TEXT}: what went wrong, and what to do; with "again": true where the same
              request may well work when it is repeated, and "by": "tunnel" where a ping went that way

    request   {"command": "status", "watch": true}
    answer    {"status": {...}} now and after every change, until the client hangs up

    request   {"command": "bugreport"}
    answer    {"lines": [TEXT, ...]} for each of its sections, then {"result": {}}

A watcher gets the status as it is when its last line has been taken: nothing is queued for it, and one that reads
nothing for a while is hung up on.

Whoever may open the socket (0660: root and its group) may read; changing is for root and for the daemon's own user.
"""

import json

from wayhomed.port import const, monotonic_ms, net, runtime
from wayhomed.port.tasks import OutOfMemory, lasting, run_all, sleep_ms, within
from wayhomed.wire import address, json_text
from wayhomed.wire.errors import BadWire

from . import bugreport
from .control_session import LoginRefused, Phase
from .refused import Refused
from .state import StateError
from .status import full_status, netcheck_status, path_status, summary, watched

SOCKET_MODE = 0o660
_REQUEST_BYTES = const(65_536)
_REQUEST_MS = const(5_000)
_MAX_CONNECTIONS = const(16)
_UP_MS = const(60_000)
_LOGOUT_MS = const(20_000)
_LOGIN_MS = const(900_000)  # a person has to find a browser and a password
_MAX_WATCHERS = const(4)
_LOOK_MS = const(1_000)  # some reasons for a path change by time alone
_STATUS_GAP_MS = const(100)  # between two lines to one watcher: the kernel is asked for each
_SLOW_MS = const(20_000)
_NETCHECK_MS = const(5_000)
_SILENCES = (110, 113)  # ETIMEDOUT, EHOSTUNREACH: the next try may be answered
_CHANGING = ("up", "down", "logout", "reload", "confirm")


class LocalApi:
    """Serves a Board on one socket."""

    def __init__(self, board, path: str):
        """Raises OSError if the socket can't be made."""
        self._board = board
        self._listener = net.LocalListener(path, SOCKET_MODE)
        self._watchers = 0

    async def run(self, create_task) -> None:
        """Accept for ever. create_task starts a connection's task."""
        tasks: list = []
        try:
            while True:
                stream, credentials = await lasting(self._listener.accept)
                tasks = [task for task in tasks if not task.done()]
                if len(tasks) >= _MAX_CONNECTIONS:
                    stream.close()
                    continue
                tasks.append(create_task(self._serve(stream, credentials[1])))
        finally:
            for task in tasks:
                task.cancel()
            self._listener.close()

    async def _serve(self, stream, uid: int) -> None:
        try:
            try:
                request = await within(_REQUEST_MS, _read_request(stream), "the request")
                # A client that hangs up takes its command's waiting with it, not what the command has changed.
                await run_all(self._answer(stream, request, uid), _until_hung_up(stream))
            except Refused as refusal:
                await _send(stream, refusal.answer)
            except BadWire as error:
                await _send(stream, {"error": str(error), "next": "see wayhomectl --help"})
            except OutOfMemory:
                await _send(stream, {"error": "wayhomed is out of memory", "next": "try again in a minute"})
        except OSError:
            pass  # it hung up
        finally:
            stream.close()

    async def _answer(self, stream, request: dict, uid: int) -> None:
        command = request.get("command")
        if command in _CHANGING and uid not in (0, runtime.user_id()):
            raise Refused("only root may change the tunnel", "run it again with sudo")
        if command == "status" and request.get("watch") is True:
            await self._watch(stream)
            return
        if command == "bugreport":
            await self._bugreport(stream)
            return
        if command == "status":
            result = await full_status(self._board)
        elif command == "netcheck":
            result = await self._netcheck(stream)
        elif command == "routes":
            result = await self._routes()
        elif command == "ping":
            result = await self._ping(request)
        elif command == "log":
            result = {"lines": self._board.log.lines()}
        elif command == "up":
            result = await self._up(stream, request)
        elif command == "down":
            result = await self._down(self._board.trials.is_over_mesh(request))
        elif command == "reload":
            result = self._reload(request)
        elif command == "logout":
            result = await self._log_out(request)
        else:
            result = await self._part_answer(command, request, uid)
        await _send(stream, {"result": result})

    async def _part_answer(self, command, request: dict, uid: int) -> dict:
        for part in self._board.parts:
            commands = part.commands()
            if isinstance(command, str) and command in commands:
                return await commands[command](request, uid)
        raise BadWire("there is no command " + repr(command)[:40])

    async def _bugreport(self, stream) -> None:
        for title, make_lines in await bugreport.sections(self._board):
            await _send(stream, {"lines": await bugreport.lines_of(self._board, title, make_lines)})
        await _send(stream, {"result": {}})

    async def _watch(self, stream) -> None:
        """Send the status now and after every change, until the client hangs up or is too slow."""
        if self._watchers >= _MAX_WATCHERS:
            raise Refused("%d others are watching already" % self._watchers, "end one of them, or ask without --watch")
        self._watchers += 1
        try:
            told = None
            while True:
                seen = watched(self._board)
                if seen == told:
                    await self._board.news(_LOOK_MS)
                    continue
                told = seen
                status = await full_status(self._board)
                await within(_SLOW_MS, _send(stream, {"status": status}), "the watcher")
                await sleep_ms(_STATUS_GAP_MS)
        finally:
            self._watchers -= 1

    async def _netcheck(self, stream) -> dict:
        if not self._board.netmap.derp_map.regions:
            raise Refused("no relay is known yet, and they are what is asked", "join first: wayhomectl up")
        if self._board.data_plane is None:
            raise Refused(
                "the tunnel does not stand; its port is what is measured", "run wayhomectl up, then ask again"
            )
        await _send(stream, {"progress": "asking the relays how they see this machine ..."})
        try:
            netcheck = await self._board.paths.run_netcheck(_NETCHECK_MS)
        except OSError as error:
            raise Refused("the network could not be measured: " + str(error.args[-1]), "see wayhomectl status")
        return netcheck_status(self._board, netcheck)

    async def _routes(self) -> dict:
        status = await full_status(self._board)
        node = self._board.netmap.node
        approved = [] if node is None else _prefix_texts(node.allowed_ips + node.primary_routes)
        return {
            "advertised": [
                {"prefix": text, "approved": text in approved} for text in status["prefs"]["AdvertiseRoutes"]
            ],
            "accepting": status["prefs"]["AcceptRoutes"],
            "peers": [
                {"prefix": prefix, "via": peer["name"], "used": prefix in status["tunnel"].get("routes", [])}
                for peer in status["peers"]
                for prefix in peer["routes"]
            ],
            "published": status["tunnel"].get("published", []),
            "refused": status["tunnel"].get("refused", []),
        }

    async def _ping(self, request: dict) -> dict:
        target, timeout_ms = request.get("target"), request.get("timeout_ms", 5_000)
        if not isinstance(target, str) or not isinstance(timeout_ms, int) or not 0 < timeout_ms <= 60_000:
            raise BadWire("a ping needs a target, and a timeout of up to 60 s")
        by_relay = request.get("by_relay")
        pings = self._board.pings
        _ip, peer = pings.find(target)
        asks_daemon = by_relay is None and peer is not None
        try:
            if asks_daemon:
                result = await pings.ping_path(target, timeout_ms)
            else:
                result = await pings.ping(target, by_relay is True, timeout_ms)
        except OSError as error:
            raise Refused(
                str(error.args[-1]),
                "see wayhomectl status: is the peer online, is the relay connected?",
                error.args[0] in _SILENCES,
                "" if asks_daemon or by_relay is True else "tunnel",
            )
        result["by"] = result["path"].split(" ")[0]
        if result["by"] == "direct":
            result["path"] += " " + result["endpoint"]
        result["why"] = path_status(self._board, peer, monotonic_ms())["why"] if peer is not None else ""
        return result

    def _reload(self, request: dict) -> dict:
        self._board.reload(request.get("for_good") is not True and self._board.trials.is_over_mesh(request))
        return summary(self._board)

    async def _down(self, over_mesh: bool) -> dict:
        try:
            self._board.change_prefs({"WantRunning": False}, over_mesh)
        except StateError as error:
            raise Refused(str(error), "the tunnel still stands")
        deadline_ms = monotonic_ms() + _UP_MS
        while self._board.standing and monotonic_ms() < deadline_ms:
            await self._board.news(100)
        return summary(self._board)

    async def _log_out(self, request: dict) -> dict:
        """Take the tunnel down first: whatever fails after that, nothing joins anew by itself."""
        board = self._board
        if board.trials.is_over_mesh(request):
            raise Refused(
                "a logout made over the mesh would leave no way back",
                "do it at the machine itself, or add --for-good",
            )
        await self._down(False)
        if board.state.registered:
            try:
                await within(_LOGOUT_MS, board.session.log_out(), "the coordinator")
            except (OSError, BadWire, LoginRefused) as error:
                problem = str(error.args[-1])
                if request.get("anyway") is not True:
                    raise Refused(
                        "the tunnel is down, but the coordinator could not be told: " + problem,
                        "run it again once that is mended; or add --anyway, and have the administrator expire the key",
                    )
                board.log.warning("logged out without telling the coordinator: " + problem)
        try:
            board.change_prefs({"WantRunning": False})  # an `up` may have come meanwhile
            board.forget_login()
        except StateError as error:
            raise Refused(str(error), "run it again once that is mended")
        board.log.info("logged out; the node key is forgotten")
        return summary(board)

    async def _up(self, stream, request: dict) -> dict:
        board = self._board
        fields = request.get("prefs") or {}
        auth_key = request.get("auth_key") or ""
        timeout_ms = request.get("timeout_ms")
        if not isinstance(fields, dict) or not isinstance(auth_key, str) or len(auth_key) > 512:
            raise BadWire("up: prefs is an object, auth_key a text")
        if timeout_ms is not None and (not isinstance(timeout_ms, int) or not 0 < timeout_ms <= 86_400_000):
            raise BadWire("up: the timeout is up to one day")
        moved = "LoginServer" in fields and board.state.prefs.login_server != fields["LoginServer"]
        fields = dict(fields)
        fields["WantRunning"] = True
        started_before = board.state.prefs.want_running
        try:
            board.change_prefs(fields, board.trials.is_over_mesh(request))
        except StateError as error:
            raise Refused(str(error), "nothing was changed")
        node = board.netmap.node
        expired = board.state.registered and node is not None and node.is_expired(board.trusted_now_s())
        renew = expired or request.get("renew_key") is True
        if moved or renew or not started_before or board.session.phase != Phase.RUNNING:
            board.session.login(
                auth_key, request.get("ephemeral") is True, renew, request.get("accept_new_key") is True
            )
        await self._wait_until_up(stream, timeout_ms)
        return summary(board)

    async def _wait_until_up(self, stream, timeout_ms) -> None:
        """Tell each step once as it is reached; return when packets can flow. Raises Refused."""
        board = self._board
        started_ms = monotonic_ms()
        told = []
        while True:
            for step in _steps_reached(board):
                if step not in told:
                    told.append(step)
                    key = "auth_url" if step.startswith("http") else "progress"
                    await _send(stream, {key: step})
            if board.is_up() and board.session.phase == Phase.RUNNING:
                return
            if board.session.refused:
                raise Refused(board.session.error, "run wayhomectl up again once that is mended")
            limit_ms = timeout_ms or (_LOGIN_MS if board.session.phase == Phase.NEEDS_LOGIN else _UP_MS)
            left_ms = started_ms + limit_ms - monotonic_ms()
            if left_ms <= 0:
                raise Refused(
                    "not up after %d s: %s" % (limit_ms // 1000, _what_is_missing(board)),
                    "wayhomed goes on trying; look again with wayhomectl status",
                )
            await board.news(min(left_ms, 250))


def _steps_reached(board) -> list:
    """Return what `up` tells, in order: sentences, and the login URL itself while a person has to open it."""
    session, steps = board.session, []
    if session.phase in (Phase.CONNECTING, Phase.JOINING):
        steps.append("connecting to " + board.state.prefs.login_server)
    if session.phase == Phase.JOINING:
        steps.append("joining")
    if session.auth_url:
        steps.append(session.auth_url)
    if session.phase == Phase.NEEDS_APPROVAL:
        steps.append("joined; an administrator has to approve this machine")
    if session.phase == Phase.RUNNING:
        node = board.netmap.node
        steps.append("joined as " + node.display_name())
        if board.applied:
            steps.append("tunnel set up")
        if board.links.relays.is_up(board.links.relays.home):
            steps.append("relay connected")
    for problem in (session.error, board.data_error):
        if problem:
            steps.append("not yet: " + problem)
    return steps


def _what_is_missing(board) -> str:
    if board.session.auth_url:
        return "nobody has opened the link and let this machine in so far"
    problems = summary(board)["problems"]
    return problems[0] if problems else "no answer so far"


def _prefix_texts(prefixes: list) -> list:
    return [address.prefix_text(prefix) for prefix in prefixes]


async def _read_request(stream) -> dict:
    received = b""
    while b"\n" not in received:
        data = await stream.read()
        if not data:
            raise OSError(104, "hung up")
        received += data
        if len(received) > _REQUEST_BYTES:
            raise BadWire("a request of more than %d bytes" % _REQUEST_BYTES)
    try:
        request = json_text.parse(received[: received.find(b"\n")])
    except ValueError:
        raise BadWire("a request is one line of JSON")
    if not isinstance(request, dict):
        raise BadWire("a request is a JSON object")
    return request


async def _until_hung_up(stream) -> None:
    while await stream.read():
        pass


async def _send(stream, message: dict) -> None:
    await stream.write(json.dumps(message).encode() + b"\n")
