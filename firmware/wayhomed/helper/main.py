"""wayhomed-helper: its command line, its socket, and who may use it.

    request   one line of JSON with a "command", at most 4096 bytes, within 5 seconds; one a connection
    answer    {"result": {...}} or {"error": TEXT}

The socket may be opened by everybody (0666); the kernel says who did (peer credentials), and only root and the user
that the daemon runs as are listened to.
"""

import asyncio
import json
import sys

from wayhomed.agent import options
from wayhomed.agent.version import BUILD_S, HELPER_SOCKET
from wayhomed.linux import own_user
from wayhomed.port import const, net, runtime
from wayhomed.port.tasks import run_all, within

from .refusal import Refused
from .set_clock import ClockSetter

_SOCKET_MODE = 0o666
_REQUEST_BYTES = const(4_096)
_REQUEST_MS = const(5_000)

COMMAND = options.Command(
    "wayhomed-helper",
    "Does for wayhomed what wayhomed has no right to: sets the machine's clock, within limits.\n"
    "Needs CAP_SYS_TIME and nothing else. Runs in the foreground.",
    "wayhomed-helper --user wayhome",
    [
        options.Option("socket", "where wayhomed finds this helper", "PATH", HELPER_SOCKET),
        options.Option("user", "besides root, who may ask: the user that wayhomed runs as", "NAME"),
        options.Option("interface", "the tunnel's: while it stands, the clock never steps back", "NAME", "wayhome0"),
    ],
)


class Helper:
    """Serves the commands {name: function of the request} on one socket to root and the users with these ids."""

    def __init__(self, path: str, uids: list, commands: dict):
        """Raises OSError if the socket can't be made."""
        self._uids = uids
        self._commands = commands
        folder = path[: path.rfind("/")]
        if folder and not runtime.is_there(folder):
            runtime.make_directory(folder, 0o755)
        self._listener = net.LocalListener(path, _SOCKET_MODE)

    async def run(self) -> None:
        """Serve one after the other, for ever."""
        try:
            while True:
                stream, credentials = await self._listener.accept()
                try:
                    await within(_REQUEST_MS, self._serve(stream, credentials[1]), "a request")
                except OSError:
                    pass  # it hung up, or was too slow
                finally:
                    stream.close()
        finally:
            self._listener.close()

    async def _serve(self, stream, uid: int) -> None:
        try:
            line = await _read_line(stream)  # from anybody: what is left unread would take the answer with it
            if uid not in self._uids:
                raise Refused("user %d may not ask for anything here" % uid)
            answer: dict = {"result": self._done(line)}
        except Refused as refusal:
            answer = {"error": str(refusal)}
        except OSError as error:
            answer = {"error": "the machine does not let us: %s" % error}
        await stream.write(json.dumps(answer).encode() + b"\n")

    def _done(self, line: bytes) -> dict:
        try:
            request = json.loads(str(line, "utf-8"))
        except (ValueError, RuntimeError):
            raise Refused("a request is one line of JSON")
        command = self._commands.get(request.get("command")) if isinstance(request, dict) else None
        if command is None:
            raise Refused("there is no such command")
        return command(request)


async def _read_line(stream) -> bytes:
    received = b""
    while b"\n" not in received:
        data = await stream.read(_REQUEST_BYTES)
        if not data:
            raise Refused("a request is one line of JSON")
        received += data
        if len(received) > _REQUEST_BYTES:
            raise Refused("a request of more than %d bytes" % _REQUEST_BYTES)
    return received[: received.find(b"\n")]


def user_id_of(name: str):
    """Return a user's number, by name or as a number; None if there is none such. Raises OSError."""
    if name.isdigit():
        return int(name)
    found = own_user.user_ids(name)
    return None if found is None else found[0]


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(words: list) -> int:
    """Run the helper; return its exit status: 0 after a clean stop, 2 for a wrong command line, 1 for the rest."""
    try:
        values = options.parse(COMMAND, words)
    except options.UsageError as error:
        runtime.write_stderr("wayhomed-helper: " + str(error) + "\n")
        return 2
    if values["help"]:
        print(options.help_text(COMMAND))
        return 0
    uids = [0, runtime.user_id()]
    try:
        if values["user"]:
            uid = user_id_of(values["user"])
            if uid is None:
                runtime.write_stderr("wayhomed-helper: there is no user %s\n" % values["user"])
                return 1
            uids.append(uid)
        asyncio.run(_serve(values, uids))
    except OSError as error:
        runtime.write_stderr("wayhomed-helper: %s\n" % error)
        return 1
    return 0


async def _serve(values: dict, uids: list) -> None:
    setter = ClockSetter(BUILD_S, values["interface"])
    helper = Helper(values["socket"], uids, {"set-clock": setter.set_clock})
    stop = asyncio.Event()
    runtime.on_stop_signals(stop.set)
    await run_all(helper.run(), stop.wait())


if __name__ == "__main__":
    main()
