"""wayhomectl: tells the daemon what to do, and shows what it does."""

import asyncio
import json
import sys
import time

from wayhomed.core.prefs import MAX_MTU_BYTES, MIN_MTU_BYTES
from wayhomed.port import const, monotonic_ms, net, runtime
from wayhomed.port.tasks import sleep_ms

from . import options, shown, ssh_session
from .reason import reason
from .visible_text import visible

_AUTH_KEY_BYTES = const(4096)
_MAX_ANSWER_BYTES = const(16_777_216)
_BROKEN_PIPE = const(32)  # EPIPE
# Pings until one is answered directly: as many, and as far apart, as users of other mesh clients know it.
_COUNT_UNTIL_DIRECT = const(10)
_APART_UNTIL_DIRECT_MS = const(1_000)
_COUNT = const(3)
_APART_MS = const(200)
# In the overview
_SHOWN_ORDER = (
    "up",
    "down",
    "logout",
    "reload",
    "confirm",
    "status",
    "ping",
    "netcheck",
    "routes",
    "log",
    "bugreport",
)
# A change made over the mesh is on trial (agent/trial).
_CHANGING = ("up", "down", "logout", "reload", "confirm")
_SOCKET = options.Option("socket", "where the daemon listens", "PATH", "/run/wayhome/wayhomed.sock")
_JSON = options.Option("json", "print one JSON document, for scripts")

_FOR_GOOD = options.Option("for-good", "also if it is made over the mesh: don't wait for a confirmation")

UP = options.Command(
    "wayhomectl up",
    "Join the mesh and let packets flow; settings that are not named stay as they are.\n"
    "Without an auth key a link is printed that a person opens to let this machine in.",
    "wayhomectl up --login-server https://mesh.example.net --auth-key-file key --advertise-routes 192.168.1.0/24",
    [
        options.Option("login-server", "the coordinator's URL", "URL"),
        options.Option("auth-key", "join by this key (others on this machine can see it; prefer a file)", "KEY"),
        options.Option("auth-key-file", "join by the key in this file", "FILE"),
        options.Option("hostname", "the name in the mesh", "NAME"),
        options.Option("advertise-routes", "networks that the mesh may reach through here; '' = none", "PREFIX,..."),
        options.Option("accept-routes", "use the networks that others advertise"),
        options.Option("no-accept-routes", "do not"),
        options.Option("no-snat", "LAN devices see mesh addresses (they then need a route back)"),
        options.Option("snat", "LAN devices see this machine's address (as at first)"),
        options.Option(
            "snat-except", "networks whose devices see mesh addresses all the same; '' = none", "PREFIX,..."
        ),
        options.Option("lan-to-mesh", "LAN devices may open connections to peers and to networks of other routers"),
        options.Option("no-lan-to-mesh", "they may only answer (as at first)"),
        options.Option("lan-dns", "LAN devices may ask this machine for names, the mesh's among them"),
        options.Option("no-lan-dns", "they may not (as at first)"),
        options.Option("lan-dns-port", "where they ask; 53 is what devices expect", "PORT"),
        options.Option("mtu", "bytes of a packet inside the tunnel at most, 1280 to 1920", "BYTES"),
        options.Option("ephemeral", "the coordinator may forget this machine when it goes away"),
        options.Option("renew-key", "make a new node key before the present one expires; asks for a login"),
        options.Option("accept-new-key", "the coordinator was set up anew: believe its new key"),
        options.Option("timeout", "give up waiting after this long", "SECONDS"),
        _FOR_GOOD,
        _SOCKET,
        _JSON,
    ],
)
DOWN = options.Command(
    "wayhomectl down",
    "Take the tunnel down and leave the machine as it was; it stays down until the next up.",
    "wayhomectl down",
    [_FOR_GOOD, _SOCKET, _JSON],
)
LOGOUT = options.Command(
    "wayhomectl logout",
    "Take the tunnel down, have the coordinator end this machine's node key, and forget that key here.\n"
    "The settings stay; the next up is a new login.",
    "wayhomectl logout",
    [
        _FOR_GOOD,
        options.Option("anyway", "forget the key also if the coordinator can't be told; it stays valid there"),
        _SOCKET,
        _JSON,
    ],
)
RELOAD = options.Command(
    "wayhomectl reload",
    "Have the configuration file read again.\n"
    "A file that was changed over the mesh goes back after 90 s unless it is confirmed: wayhomectl confirm.",
    "wayhomectl reload",
    [_FOR_GOOD, _SOCKET, _JSON],
)
CONFIRM = options.Command(
    "wayhomectl confirm",
    "Keep what was changed over the mesh; without this it goes back by itself after 90 s.\n"
    "It is believed over the mesh alone, since only that proves that the way in still works.",
    "wayhomectl confirm",
    [options.Option("here", "confirm it at the machine itself, not over the mesh"), _SOCKET, _JSON],
)
STATUS = options.Command(
    "wayhomectl status",
    "Show this machine, its coordinator and relay, everybody it may reach, and by which path since when.\n"
    "A path is direct, or by a relay; then the line below says why.",
    "wayhomectl status --watch",
    [
        options.Option("watch", "stay, and tell every change with its time, until Ctrl-C"),
        _SOCKET,
        options.Option("json", "print one JSON document (with --watch one a line, at each change), for scripts"),
    ],
)
NETCHECK = options.Command(
    "wayhomectl netcheck",
    "Measure this network: does UDP get out, what kind of NAT is it and what does that mean for direct paths,\n"
    "how far are the relays, at which addresses are the other nodes told to look for this machine.",
    "wayhomectl netcheck",
    [_SOCKET, _JSON],
)
PING = options.Command(
    "wayhomectl ping",
    "Measure the way to a peer, or to an address behind one, and tell which way it is.\n"
    "A peer's daemon is asked by the present path until an answer comes directly; if none does, the last line says\n"
    "why not. An address behind a peer is asked through the tunnel. The exit status is 0 if anything answered.",
    "wayhomectl ping nas",
    [
        options.Option("until-direct", "fail (exit status 1) unless an answer comes directly"),
        options.Option("no-until-direct", "go on after the first direct answer"),
        options.Option("tunnel", "ask through the tunnel also where the peer's daemon could answer"),
        options.Option("relay", "ask the peer's daemon by the relay, also where there is a direct path"),
        options.Option("count", "how often (without it: 10 until direct, else 3)", "NUMBER"),
        options.Option("timeout", "how long to wait for each answer", "SECONDS", "5"),
        _SOCKET,
        _JSON,
    ],
    ["TARGET"],
)
ROUTES = options.Command(
    "wayhomectl routes",
    "Show the networks that this machine offers and those that others offer it.",
    "wayhomectl routes",
    [_SOCKET, _JSON],
)
LOG = options.Command(
    "wayhomectl log",
    "Show the daemon's newest log lines, which it keeps in memory.",
    "wayhomectl log",
    [_SOCKET, _JSON],
)
BUGREPORT = options.Command(
    "wayhomectl bugreport",
    "Write down what helps to find a fault: versions, status, network, rules, the newest log lines.\n"
    "Keys, tokens and links are left out; names and addresses are not, so read it before you give it away.",
    "wayhomectl bugreport --output report.txt",
    [
        options.Option("output", "write it to this file, which only you may read; without it, it is printed", "FILE"),
        _SOCKET,
        options.Option("json", "print one JSON document, for scripts"),
    ],
)
COMMANDS = {
    "up": UP,
    "down": DOWN,
    "logout": LOGOUT,
    "reload": RELOAD,
    "confirm": CONFIRM,
    "status": STATUS,
    "ping": PING,
    "netcheck": NETCHECK,
    "routes": ROUTES,
    "log": LOG,
    "bugreport": BUGREPORT,
}


class Failed(Exception):
    """What the user is told, in one sentence, and the next step.

    is_silence: asked again, it may work. by: the way that a ping was sent in vain, if the daemon told.
    """

    def __init__(self, text: str, next_step: str, is_silence: bool = False, by: str = ""):
        super().__init__(text)
        self.text = text
        self.next_step = next_step
        self.is_silence = is_silence
        self.by = by


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(words: list) -> int:
    """Run one command; return the exit status: 0 done, 1 failed, 2 not understood."""
    if not words or words[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0 if words else 2
    command = COMMANDS.get(words[0])
    if command is None:
        runtime.write_stderr("wayhomectl: there is no command %s; see wayhomectl --help\n" % words[0])
        return 2
    try:
        values = options.parse(command, words[1:])
        if values["help"]:
            print(options.help_text(command))
            return 0
        request = _REQUESTS[words[0]](values)
        if words[0] in _CHANGING:
            request["from"] = ssh_session.came_from()
            request["for_good"] = bool(values.get("for-good"))
    except options.UsageError as error:
        runtime.write_stderr("wayhomectl: " + str(error) + "\n")
        return 2
    try:
        if words[0] == "bugreport":
            return _bugreport(values, request)
        if words[0] == "ping":
            return asyncio.run(_ping(values, request))
        if words[0] == "status" and values["watch"]:
            return _watch(values, request)
        result = asyncio.run(_ask(values["socket"], request, not values["json"]))
        _print([shown.json_text(result)] if values["json"] else _SHOWN[words[0]](result))
    except Failed as failure:
        if values["json"]:
            _print([shown.json_text({"error": failure.text, "next": failure.next_step})])
        runtime.write_stderr("wayhomectl: %s\n  next: %s\n" % (visible(failure.text), visible(failure.next_step)))
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno != _BROKEN_PIPE:
            raise
        return 141  # what a shell says of a program whose reader has gone: 128 + SIGPIPE
    return 0


def _overview() -> str:
    width = max([len(name) for name in COMMANDS]) + 2
    lines = ["usage: wayhomectl COMMAND [options]", "", "Tells the wayhomed of this machine what to do.", ""]
    for name in _SHOWN_ORDER:
        lines.append("  " + name + " " * (width - len(name)) + COMMANDS[name].summary.split("\n")[0])
    return "\n".join(lines + ["", "example: wayhomectl status", "each command has a --help of its own"])


# --- Requests ---


def _up_request(values: dict) -> dict:
    prefs: dict = {}
    if values["login-server"] is not None:
        prefs["LoginServer"] = values["login-server"]
    if values["hostname"] is not None:
        prefs["Hostname"] = values["hostname"]
    if values["advertise-routes"] is not None:
        texts = [text.strip() for text in values["advertise-routes"].split(",")]
        prefs["AdvertiseRoutes"] = [text for text in texts if text]
    if values["snat-except"] is not None:
        texts = [text.strip() for text in values["snat-except"].split(",")]
        prefs["SNATExcept"] = [text for text in texts if text]
    if values["mtu"] is not None:
        prefs["MTU"] = options.whole_number("mtu", values["mtu"], MIN_MTU_BYTES, MAX_MTU_BYTES)
    if values["lan-dns-port"] is not None:
        prefs["LANDNSPort"] = options.whole_number("lan-dns-port", values["lan-dns-port"], 1, 65_535)
    for name, yes, no in (
        ("AcceptRoutes", "accept-routes", "no-accept-routes"),
        ("SNAT", "snat", "no-snat"),
        ("LANToMesh", "lan-to-mesh", "no-lan-to-mesh"),
        ("LANDNS", "lan-dns", "no-lan-dns"),
    ):
        if values[yes] and values[no]:
            raise options.UsageError("--%s and --%s contradict each other" % (yes, no))
        if values[yes] or values[no]:
            prefs[name] = bool(values[yes])
    request: dict = {"command": "up", "prefs": prefs}
    auth_key = _auth_key(values)
    if auth_key:
        request["auth_key"] = auth_key
    if values["ephemeral"]:
        request["ephemeral"] = True
    if values["renew-key"]:
        request["renew_key"] = True
    if values["accept-new-key"]:
        request["accept_new_key"] = True
    if values["timeout"] is not None:
        request["timeout_ms"] = 1000 * options.whole_number("timeout", values["timeout"], 1, 86_400)
    return request


def _auth_key(values: dict) -> str:
    if values["auth-key"] and values["auth-key-file"]:
        raise options.UsageError("give --auth-key or --auth-key-file, not both")
    if not values["auth-key-file"]:
        return values["auth-key"] or ""
    path = values["auth-key-file"]
    try:
        data = runtime.read_file(path, _AUTH_KEY_BYTES)
    except OSError as error:
        raise options.UsageError("the auth key's file %s can't be read: %s" % (path, reason(error)))
    if data is None:
        raise options.UsageError("there is no file %s" % path)
    try:
        key = str(data, "utf-8").strip()
    except ValueError:
        key = ""
    if not key:
        # Not as if none had been named: a script would wait for a person.
        raise options.UsageError("the file %s holds no auth key" % path)
    return key


def _ping_request(values: dict) -> dict:
    chosen = [name for name in ("tunnel", "relay", "until-direct") if values[name]]
    if values["no-until-direct"]:
        chosen = [name for name in chosen if name == "until-direct"] + ["no-until-direct"]
    if len(chosen) > 1:
        raise options.UsageError("--%s and --%s contradict each other" % (chosen[0], chosen[1]))
    timeout_ms = 1000 * options.whole_number("timeout", values["timeout"], 1, 60)
    if values["count"] is not None:
        options.whole_number("count", values["count"], 1, 1000)
    request = {"command": "ping", "target": values["TARGET"], "timeout_ms": timeout_ms}
    if values["tunnel"] or values["relay"]:
        request["by_relay"] = bool(values["relay"])
    return request


_REQUESTS = {
    "up": _up_request,
    "down": lambda values: {"command": "down"},
    "logout": lambda values: {"command": "logout", "anyway": values["anyway"]},
    "reload": lambda values: {"command": "reload"},
    "confirm": lambda values: {"command": "confirm", "here": values["here"]},
    "status": lambda values: {"command": "status", "watch": values["watch"]},
    "ping": _ping_request,
    "netcheck": lambda values: {"command": "netcheck"},
    "routes": lambda values: {"command": "routes"},
    "log": lambda values: {"command": "log"},
    "bugreport": lambda values: {"command": "bugreport"},
}


async def _converse(path: str, request: dict, take) -> None:
    """Ask the daemon, and give each of its messages to take(message) until that returns True. Raises Failed."""
    try:
        stream = await net.connect_local(path)
    except OSError as error:
        if error.errno == 13:
            raise Failed("you may not talk to wayhomed", "run it again with sudo")
        raise Failed(
            "wayhomed is not running (nobody answers at %s)" % path, "start it: wayhomed, or name its --socket"
        )
    try:
        await _send(stream, request)
        received = b""
        while True:
            data = await _read(stream)
            if not data or len(received) > _MAX_ANSWER_BYTES:
                raise Failed("wayhomed ended before it had answered", "start it again; its log says what happened")
            received += data
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                message = json.loads(str(line, "utf-8"))
                if "error" in message:
                    raise Failed(message["error"], message["next"], message.get("again") is True, message.get("by", ""))
                if take(message):
                    return
    finally:
        stream.close()


async def _send(stream, request: dict) -> None:
    try:
        await stream.write(json.dumps(request).encode() + b"\n")
    except OSError as error:
        raise _broken(error)


async def _read(stream) -> bytes:
    try:
        return await stream.read()
    except OSError as error:
        raise _broken(error)


def _broken(error: OSError) -> Failed:
    return Failed("the connection to wayhomed broke: " + reason(error), "try again")


async def _ask(path: str, request: dict, tell: bool) -> dict:
    """Return the daemon's result, telling its progress meanwhile. Raises Failed."""
    results = []

    def take(message: dict) -> bool:
        if "result" in message:
            results.append(message["result"])
            return True
        if "auth_url" in message:
            # Whatever the form of the output: a person has to read this.
            runtime.write_stderr("to let this machine in, open:\n\n  %s\n\n" % visible(message["auth_url"]))
        elif tell:
            runtime.write_stderr(visible(message.get("progress", "")) + "\n")
        return False

    await _converse(path, request, take)
    return results[0]


async def _ping(values: dict, request: dict) -> int:
    """Ask again and again; return the exit status."""
    seeks_direct = not (values["tunnel"] or values["relay"] or values["no-until-direct"])
    answers: list = []
    lost = 0
    while True:
        failed = None
        try:
            result = await _ask(values["socket"], request, False)
        except Failed as failure:
            if not failure.is_silence:
                raise
            failed = failure
            lost += 1
            seeks_direct = seeks_direct and failure.by != "tunnel"
        else:
            answers.append(result)
            seeks_direct = seeks_direct and result["by"] != "tunnel"
        is_last = len(answers) + lost >= _count(values, seeks_direct)
        if failed is not None and is_last and not answers:
            raise failed
        if not values["json"]:
            _print([visible(failed.text) if failed is not None else shown.answer(result)])
        if is_last or (seeks_direct and failed is None and result["by"] == "direct"):
            break
        await sleep_ms(_APART_UNTIL_DIRECT_MS if seeks_direct else _APART_MS)
    is_direct = answers[-1]["by"] == "direct"
    if values["json"]:
        _print([shown.json_text({"answers": answers, "lost": lost, "direct": is_direct, "why": answers[-1]["why"]})])
    elif seeks_direct and not is_direct:
        _print([visible("not direct: " + answers[-1]["why"])])
    return 0 if is_direct or not values["until-direct"] else 1


def _count(values: dict, seeks_direct: bool) -> int:
    if values["count"] is not None:
        return int(values["count"])
    return _COUNT_UNTIL_DIRECT if seeks_direct else _COUNT


def _watch(values: dict, request: dict) -> int:
    """Print the status, and then every change with its time, until Ctrl-C."""
    last: list = []  # the status before, and when it came

    def take(message: dict) -> bool:
        status = message.get("status")
        if status is None:
            return False
        if values["json"]:
            _print([shown.json_text(status)])
            return False
        now_ms = monotonic_ms()
        if last:
            _print([_clock() + text for text in shown.changes(last[0], status, (now_ms - last[1]) / 1000)])
        else:
            _print(shown.status(status) + ["", _clock() + "watching; Ctrl-C ends it"])
        last[:] = [status, now_ms]
        return False

    try:
        asyncio.run(_converse(values["socket"], request, take))
    except KeyboardInterrupt:
        pass  # the way to end it
    return 0


def _bugreport(values: dict, request: dict) -> int:
    """Write the daemon's report, or without a daemon as much as there is. Raises Failed if it can't be written."""
    lines = ["Wayhome bug report. Keys, tokens and links are left out; names and addresses are not."]

    def take(message: dict) -> bool:
        lines.extend(message.get("lines", ()))
        return "result" in message

    try:
        asyncio.run(_converse(values["socket"], request, take))
    except Failed as failure:
        from . import bugreport  # the daemon's parts, which no other command needs

        lines += ["", "no report from the daemon: " + failure.text, ""] + bugreport.versions()
    shown_lines = [visible(line) for line in lines]
    if values["output"]:
        try:
            runtime.write_file(values["output"], "\n".join(shown_lines + [""]).encode(), 0o600)
        except OSError as error:
            raise Failed("%s can't be written: %s" % (values["output"], reason(error)), "name another file")
        runtime.write_stderr("written to %s; read it before you give it away\n" % values["output"])
    if values["json"]:
        _print([shown.json_text({"lines": shown_lines})])
    elif not values["output"]:
        _print(shown_lines)
    return 0


# --- What is shown ---


def _print(lines: list) -> None:
    runtime.write_stdout("".join([line + "\n" for line in lines]))


def _clock() -> str:
    """Return the time of day, as it stands before a change."""
    now = time.localtime(runtime.wall_clock_s())
    return "%02d:%02d:%02d " % (now[3], now[4], now[5])


_SHOWN = {
    "up": shown.summary,
    "down": shown.summary,
    "logout": shown.summary,
    "reload": shown.summary,
    "confirm": lambda result: [visible("confirmed, it stays: " + result["confirmed"])],
    "status": shown.status,
    "netcheck": shown.netcheck,
    "routes": shown.routes,
    "log": lambda result: [visible(line) for line in result["lines"]],
}
