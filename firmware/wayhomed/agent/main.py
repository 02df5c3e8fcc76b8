"""wayhomed: the command line of the daemon."""

import asyncio
import os
import sys

from wayhomed.linux import own_user
from wayhomed.linux.dataplane import DataPlane, check_rights
from wayhomed.linux.dataplane import Settings as DataPlaneSettings
from wayhomed.linux.errors import DataPlaneError
from wayhomed.linux.interface_lock import InterfaceLock
from wayhomed.linux.watchdog_device import WatchdogDevice
from wayhomed.port import process, runtime
from wayhomed.port.tasks import lasting, start

from . import configuration, options, watchdog
from . import log as logging
from .clock import Settings as ClockSettings
from .daemon import Board, Settings
from .local_api import LocalApi
from .reason import reason
from .service_manager import ServiceManager
from .state import State, StateError
from .version import HELPER_SOCKET, VERSION

COMMAND = options.Command(
    "wayhomed",
    "Keeps this machine in the mesh: joins, carries packets, lets others reach the networks behind it.\n"
    "Runs in the foreground; wayhomectl tells it what to do.",
    "wayhomed --state /var/lib/wayhome",
    [
        options.Option("state", "where keys and settings are kept", "DIR", "/var/lib/wayhome"),
        options.Option("config", "the configuration file, which need not be there", "PATH", configuration.PATH),
        options.Option("check-config", "say what is wrong with the configuration file, and end"),
        options.Option("socket", "where wayhomectl finds this daemon", "PATH", "/run/wayhome/wayhomed.sock"),
        options.Option("interface", "name of the tunnel's interface (without it: wayhome0)", "NAME"),
        options.Option("port", "UDP port of WireGuard (without it: 41641)", "NUMBER"),
        options.Option("wireguard", "auto, kernel or userspace: which WireGuard (without it: auto)", "WHICH"),
        options.Option("wireguard-go", "the userspace WireGuard to run (without it: wireguard-go)", "PROGRAM"),
        options.Option("user", "become this user, with the rights that are needed and no other", "NAME"),
        options.Option("helper", "where wayhomed-helper listens, who may set the clock", "PATH", HELPER_SOCKET),
        options.Option("watchdog", "feed this watchdog; without us the machine is restarted", "DEVICE"),
        options.Option("system-log", "log to the system's log instead of stderr"),
        options.Option("verbose", "log what is of use to developers only, too"),
        options.Option("lab-insecure-relays", "for labs: believe relays that are marked InsecureForTests"),
        options.Option("lab-plain-relays", "for labs: relays speak plain HTTP"),
    ],
)

_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(words: list) -> int:
    """Run the daemon; return its exit status: 0 after a clean stop, 2 for a wrong command line, 1 for the rest."""
    try:
        values = options.parse(COMMAND, words)
        if values["help"]:
            print(options.help_text(COMMAND))
            return 0
        if values["check-config"]:
            return configuration.check(values["config"])
        given = configuration.from_command_line(values)
    except options.UsageError as error:
        runtime.write_stderr("wayhomed: " + str(error) + "\n")
        return 2
    try:
        if values["user"]:
            own_user.become(values["user"])
    except DataPlaneError as error:
        runtime.write_stderr("wayhomed: %s\n" % error)
        return 1
    folder = values["state"].rstrip("/")
    settings = configuration.Configuration(values["config"], folder + "/wayhomed.conf", given)
    log = logging.Log(_log_writer(given.get("system-log")), runtime.wall_clock_s)
    state = State(values["state"])
    try:
        # Before anything is touched that may be another one's: state, socket, interface.
        lock = InterfaceLock(settings.ahead("interface", "wayhome0"))
        state.open()
        settings.read()
        log.write_to(_log_writer(settings.value("system-log")))
        log.change_level(_LEVELS[settings.value("log-level", "info")])
        if lock.impostor:
            log.warning(
                "process %d has taken the name by which one wayhomed keeps another from its interface; if you don't "
                "know it, end it" % lock.impostor
            )
        data_plane_settings = DataPlaneSettings(
            folder + "/undo.json",
            settings.value("interface", "wayhome0"),
            settings.value("port", 41641),
            settings.value("wireguard-go", "wireguard-go"),
            settings.value("wireguard", "auto"),
        )
        is_replaced = asyncio.run(_serve(values, state, log, data_plane_settings, settings, lock))
    except (StateError, DataPlaneError) as error:
        log.error(str(error))
        return 1
    except Exception as error:
        log.error("a fault in wayhomed itself (%s); it ends, please report what follows" % repr(error)[:200])
        raise
    if is_replaced:
        try:
            process.replace(process.own_words())
        except OSError as error:
            log.error("the new process could not be started: %s" % error)
            return 1
    return 0


def _log_writer(to_system_log):
    """Return what puts the log's lines out."""
    if to_system_log:
        try:
            return runtime.SystemLog().write
        except OSError:
            runtime.write_stderr("wayhomed: there is no system log; logging to stderr\n")
    return _to_journal if os.getenv("JOURNAL_STREAM") else _to_stderr


def _to_journal(severity: int, text: str) -> None:
    # Source: sd-daemon(3): the number is the line's severity
    runtime.write_stderr("<%d>%s\n" % (severity, text))


def _to_stderr(severity: int, text: str) -> None:
    runtime.write_stderr(("wayhomed: error: " if severity <= logging.ERROR else "wayhomed: ") + text + "\n")


async def _serve(values: dict, state: State, log, data_plane_settings, configured, lock) -> bool:
    """Run the daemon; return True if it has ended for a new process to go on."""
    settings = Settings()
    settings.allow_insecure_relays = values["lab-insecure-relays"]
    settings.plain_relays = values["lab-plain-relays"]
    settings.clock = ClockSettings(configured.value("ntp-servers"), values["helper"], settings.mark)
    board = Board(settings, state, log, lambda: DataPlane(data_plane_settings), configured)
    api = _local_api(board, values["socket"])
    check_rights()
    manager = ServiceManager()
    device = _open_watchdog(values["watchdog"], log) if values["watchdog"] else None
    actions = {
        process.SIGTERM: board.stop,
        process.SIGINT: board.stop,
        process.SIGHUP: lambda: _reload(board, log, manager),
        process.SIGUSR1: board.replace,
    }
    postponed: list = []  # signals that came when it was too late for us to heed them

    def action(number):
        return lambda: postponed.append(number) if board.replacing else actions[number]()

    runtime.on_signals({number: action(number) for number in actions})
    services = [api.run(start), lasting(manager.keep_status, board)]
    if not lock.impostor:
        services.append(lasting(lock.answer))
    feeders = [(device.period_ms, device.feed)] if device is not None else []
    if manager.watchdog_ms():
        feeders.append((manager.watchdog_ms(), manager.alive))
    if feeders:
        services.append(lasting(watchdog.feed, board.progress, feeders, log))
    log.info("wayhomed %s is ready at %s (%s)" % (VERSION, values["socket"], runtime.python_name()))
    manager.ready()
    await board.run(*services)
    # An error does not come here: the watchdog then runs on, for whoever starts us again.
    if board.replacing:
        process.hold_signals(postponed)
        manager.reloading()
        log.info("wayhomed makes room for a new process in its place")
        if device is not None:
            device.hand_over()
        return True
    manager.stopping()
    log.info("wayhomed has stopped")
    if device is not None:
        device.release()
    return False


def _open_watchdog(path: str, log):
    """Return the WatchdogDevice, None if it can't be used: a board that stays away is worse than an unwatched one."""
    try:
        return WatchdogDevice(path)
    except DataPlaneError as error:
        log.error(str(error))
        return None


def _local_api(board: Board, path: str) -> LocalApi:
    try:
        folder = path[: path.rfind("/")]
        if folder and not runtime.is_there(folder):
            runtime.make_directory(folder, 0o755)
        return LocalApi(board, path)
    except OSError as error:
        raise StateError("the socket %s can't be made: %s; name another with --socket" % (path, reason(error)))


def _reload(board: Board, log: logging.Log, manager: ServiceManager) -> None:
    """SIGHUP: read the configuration file again, and begin the log anew."""
    manager.reloading()
    log.info("asked to read the configuration again")
    board.reload(board.trials.is_somebody_in_over_mesh())
    log.write_to(_log_writer(board.configuration.value("system-log")))
    log.change_level(_LEVELS[board.configuration.value("log-level", "info")])
    manager.ready()
