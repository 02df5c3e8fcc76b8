"""wayhomed: the command line of the daemon."""

import asyncio
import sys

from wayhomed.linux.dataplane import DataPlane, check_rights
from wayhomed.linux.dataplane import Settings as DataPlaneSettings
from wayhomed.linux.errors import DataPlaneError
from wayhomed.port import runtime

from . import log as logging
from . import options
from .daemon import Board, Settings
from .local_api import LocalApi
from .state import State, StateError, reason

COMMAND = options.Command(
    "wayhomed",
    "Keeps this machine in the mesh: joins, carries packets, lets others reach the networks behind it.\n"
    "Runs in the foreground; wayhomectl tells it what to do.",
    "wayhomed --state /var/lib/wayhome",
    [
        options.Option("state", "where keys and settings are kept", "DIR", "/var/lib/wayhome"),
        options.Option("socket", "where wayhomectl finds this daemon", "PATH", "/run/wayhomed.sock"),
        options.Option("interface", "name of the tunnel's interface", "NAME", "wayhome0"),
        options.Option("port", "UDP port of WireGuard", "NUMBER", "41641"),
        options.Option("wireguard-go", "the userspace WireGuard to run", "PROGRAM", "wireguard-go"),
        options.Option("system-log", "log to the system's log instead of stderr"),
        options.Option("verbose", "log what is of use to developers only, too"),
        options.Option("lab-insecure-relays", "for labs: believe relays that are marked InsecureForTests"),
        options.Option("lab-plain-relays", "for labs: relays speak plain HTTP"),
    ],
)


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(words: list) -> int:
    """Run the daemon; return its exit status: 0 after a clean stop, 2 for a wrong command line, 1 for the rest."""
    try:
        values = options.parse(COMMAND, words)
        if values["help"]:
            print(options.help_text(COMMAND))
            return 0
        port = options.whole_number("port", values["port"], 1, 65535)
    except options.UsageError as error:
        runtime.write_stderr("wayhomed: " + str(error) + "\n")
        return 2
    log = _log(values)
    state = State(values["state"])
    try:
        state.open()
        undo_path = values["state"].rstrip("/") + "/undo.json"
        data_plane_settings = DataPlaneSettings(undo_path, values["interface"], port, values["wireguard-go"])
        DataPlane(data_plane_settings)  # says at once what is wrong with the interface's name
        asyncio.run(_serve(values, state, log, data_plane_settings))
    except (StateError, DataPlaneError) as error:
        log.error(str(error))
        return 1
    return 0


def _log(values: dict) -> logging.Log:
    write = _to_stderr
    if values["system-log"]:
        try:
            write = runtime.SystemLog().write
        except OSError:
            runtime.write_stderr("wayhomed: there is no system log; logging to stderr\n")
    return logging.Log(write, runtime.wall_clock_s, logging.DEBUG if values["verbose"] else logging.INFO)


def _to_stderr(severity: int, text: str) -> None:
    # systemd reads the number as the line's severity; for people it is noise, so it comes only with errors
    runtime.write_stderr(("wayhomed: error: " if severity <= logging.ERROR else "wayhomed: ") + text + "\n")


async def _serve(values: dict, state: State, log, data_plane_settings) -> None:
    settings = Settings()
    settings.allow_insecure_relays = values["lab-insecure-relays"]
    settings.plain_relays = values["lab-plain-relays"]
    board = Board(settings, state, log, lambda: DataPlane(data_plane_settings))
    try:
        api = LocalApi(board, values["socket"])
    except OSError as error:
        raise StateError(
            "the socket %s can't be made: %s; name another with --socket" % (values["socket"], reason(error))
        )
    check_rights()
    runtime.on_stop_signals(board.stop)
    log.info("wayhomed is ready at " + values["socket"])
    await board.run(api.run(asyncio.create_task))
    log.info("wayhomed has stopped")
