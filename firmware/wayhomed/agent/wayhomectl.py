"""wayhomectl: tells the daemon what to do, and shows what it does."""

import asyncio
import json
import sys

from wayhomed.port import net, runtime

from . import options
from .state import reason

_AUTH_KEY_BYTES = 4096
_MAX_ANSWER_BYTES = 16_777_216
_SOCKET = options.Option("socket", "where the daemon listens", "PATH", "/run/wayhomed.sock")
_JSON = options.Option("json", "print one JSON document, for scripts")

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
        options.Option("ephemeral", "the coordinator may forget this machine when it goes away"),
        options.Option("accept-new-key", "the coordinator was set up anew: believe its new key"),
        options.Option("timeout", "give up waiting after this long", "SECONDS"),
        _SOCKET,
        _JSON,
    ],
)
DOWN = options.Command(
    "wayhomectl down",
    "Take the tunnel down and leave the machine as it was; it stays down until the next up.",
    "wayhomectl down",
    [_SOCKET, _JSON],
)
STATUS = options.Command(
    "wayhomectl status",
    "Show this machine, its coordinator and relay, and everybody it may reach.",
    "wayhomectl status --json",
    [_SOCKET, _JSON],
)
PING = options.Command(
    "wayhomectl ping",
    "Measure the way to a peer (asked by the relay) or to an address behind one (asked through the tunnel).",
    "wayhomectl ping nas",
    [
        options.Option("tunnel", "ask through the tunnel also where the peer's daemon could answer"),
        options.Option("relay", "ask the peer's daemon, by the relay"),
        options.Option("count", "how often", "NUMBER", "3"),
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
COMMANDS = {"up": UP, "down": DOWN, "status": STATUS, "ping": PING, "routes": ROUTES, "log": LOG}


class Failed(Exception):
    """What the user is told, in one sentence, and the next step."""

    def __init__(self, text: str, next_step: str):
        super().__init__(text)
        self.text = text
        self.next_step = next_step


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
    except options.UsageError as error:
        runtime.write_stderr("wayhomectl: " + str(error) + "\n")
        return 2
    try:
        if words[0] == "ping":
            return asyncio.run(_ping(values, request))
        result = asyncio.run(_ask(values["socket"], request, not values["json"]))
        if values["json"]:
            print(json.dumps(result))
        else:
            _SHOWN[words[0]](result)
    except Failed as failure:
        if values["json"]:
            print(json.dumps({"error": failure.text, "next": failure.next_step}))
        runtime.write_stderr("wayhomectl: %s\n  next: %s\n" % (failure.text, failure.next_step))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _overview() -> str:
    width = max([len(name) for name in COMMANDS]) + 2
    lines = ["usage: wayhomectl COMMAND [options]", "", "Tells the wayhomed of this machine what to do.", ""]
    for name in ("up", "down", "status", "ping", "routes", "log"):
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
    for name, yes, no in (("AcceptRoutes", "accept-routes", "no-accept-routes"), ("SNAT", "snat", "no-snat")):
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
        return str(data, "utf-8").strip()
    except ValueError:
        raise options.UsageError("the file %s holds no auth key" % path)


def _ping_request(values: dict) -> dict:
    if values["tunnel"] and values["relay"]:
        raise options.UsageError("--tunnel and --relay contradict each other")
    timeout_ms = 1000 * options.whole_number("timeout", values["timeout"], 1, 60)
    options.whole_number("count", values["count"], 1, 1000)
    request = {"command": "ping", "target": values["TARGET"], "timeout_ms": timeout_ms}
    if values["tunnel"] or values["relay"]:
        request["by_relay"] = bool(values["relay"])
    return request


_REQUESTS = {
    "up": _up_request,
    "down": lambda values: {"command": "down"},
    "status": lambda values: {"command": "status"},
    "ping": _ping_request,
    "routes": lambda values: {"command": "routes"},
    "log": lambda values: {"command": "log"},
}


async def _ask(path: str, request: dict, tell: bool) -> dict:
    """Return the daemon's result, telling its progress meanwhile. Raises Failed."""
    try:
        stream = await net.connect_local(path)
    except OSError as error:
        if error.errno == 13:
            raise Failed("you may not talk to wayhomed", "run it again with sudo")
        raise Failed(
            "wayhomed is not running (nobody answers at %s)" % path, "start it: wayhomed, or name its --socket"
        )
    try:
        await stream.write(json.dumps(request).encode() + b"\n")
        received = b""
        while True:
            data = await stream.read()
            if not data or len(received) > _MAX_ANSWER_BYTES:
                raise Failed("wayhomed ended before it answered", "look at its log: wayhomectl log")
            received += data
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                message = json.loads(str(line, "utf-8"))
                if "result" in message:
                    return message["result"]
                if "error" in message:
                    raise Failed(message["error"], message["next"])
                if "auth_url" in message:
                    # Whatever the form of the output: a person has to read this.
                    runtime.write_stderr("to let this machine in, open:\n\n  %s\n\n" % message["auth_url"])
                elif tell:
                    runtime.write_stderr(message.get("progress", "") + "\n")
    except OSError as error:
        raise Failed("the connection to wayhomed broke: " + reason(error), "try again")
    finally:
        stream.close()


async def _ping(values: dict, request: dict) -> int:
    answers: list = []
    lost = 0
    count = int(values["count"])
    for number in range(count):
        try:
            result = await _ask(values["socket"], request, False)
        except Failed as failure:
            lost += 1
            if number + 1 == count and not answers:
                raise
            if not values["json"]:
                print(failure.text)
            continue
        answers.append(result)
        if not values["json"]:
            print("%s (%s) by %s: %d ms" % (result["name"], result["address"], result["path"], result["latency_ms"]))
        if number + 1 < count:
            await asyncio.sleep(0.2)
    if values["json"]:
        print(json.dumps({"answers": answers, "lost": lost}))
    return 0 if answers else 1


# --- What is shown ---


def _table(rows: list) -> None:
    widths = [max([len(row[column]) for row in rows]) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join([text + " " * (widths[column] - len(text)) for column, text in enumerate(row)]).rstrip())


def _show_summary(result: dict) -> None:
    own, relay = result["self"], result["relay"]
    rows = [
        ["state", result["state"] + ("" if result["up"] or result["state"] == "stopped" else " (no packets flow yet)")]
    ]
    if own:
        rows.append(["name", own["name"]])
        rows.append(["addresses", ", ".join(own["addresses"])])
    rows.append(["coordinator", (result["coordinator"]["url"] or "none") + _connected(result["coordinator"])])
    rows.append(["relay", (relay["code"] or "none") + _connected(relay)])
    if result["auth_url"]:
        rows.append(["to let it in", result["auth_url"]])
    for problem in result["problems"]:
        rows.append(["problem", problem])
    refused = len(result["tunnel"].get("refused", []))
    if refused:
        rows.append(["refused", "%d of the netmap's addresses and routes; why: wayhomectl routes" % refused])
    _table(rows)


def _connected(part: dict) -> str:
    return " (connected)" if part["connected"] else " (not connected)"


def _show_status(result: dict) -> None:
    _show_summary(result)
    if not result["peers"]:
        return
    print()
    rows = [["PEER", "ADDRESS", "PATH", "ONLINE", "SENT", "RECEIVED", "ROUTES"]]
    for peer in result["peers"]:
        online = {True: "yes", False: "no"}.get(peer["online"], "?")
        rows.append(
            [
                peer["name"],
                peer["addresses"][0] if peer["addresses"] else "",
                peer["path"],
                "expired" if peer["expired"] else online,
                _size(peer.get("sent_bytes")),
                _size(peer.get("received_bytes")),
                ", ".join(peer["routes"]),
            ]
        )
    _table(rows)


def _size(count) -> str:
    if count is None:
        return ""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 10_000 or unit == "GB":
            return "%d %s" % (count, unit)
        count //= 1000
    return ""


def _show_routes(result: dict) -> None:
    rows = [["ROUTE", "WHERE", "STATE"]]
    refused = {(entry["node"], entry["prefix"]): entry["reason"] for entry in result["refused"]}
    for route in result["advertised"]:
        rows.append([route["prefix"], "here", "approved" if route["approved"] else "waits for approval"])
    for device in result["published"]:
        rows.append([device["address"], "here", "published: %s, %s" % (device["name"], device["target"])])
    for route in result["peers"]:
        reason = refused.pop((route["via"], route["prefix"]), "")
        rows.append([route["prefix"], route["via"], _route_state(route, reason, result["accepting"])])
    for (node, prefix), reason in refused.items():
        rows.append([prefix, node, "refused: " + reason])
    _table(rows)
    if len(rows) == 1:
        print("none; offer one with: wayhomectl up --advertise-routes 192.168.1.0/24")


def _route_state(route: dict, reason: str, accepting: bool) -> str:
    if route["used"]:
        return "in use"
    if reason:
        return "refused: " + reason
    if route["prefix"] in ("0.0.0.0/0", "::/0"):
        return "not used: an exit node, which nobody chose"
    return "not used" if accepting else "not used: see up --accept-routes"


def _show_log(result: dict) -> None:
    for line in result["lines"]:
        print(line)


_SHOWN = {
    "up": _show_summary,
    "down": _show_summary,
    "status": _show_status,
    "routes": _show_routes,
    "log": _show_log,
}
