"""What this board still waits for, in one line: for the status, the log and the service manager."""

from wayhomed.port import const
from wayhomed.port.tasks import sleep_ms

from .control_session import Phase

_PATIENCE_MS = const(2_000)  # what passes by itself is not worth a line
_LOOK_MS = const(60_000)
_SHOWN = const(160)


def waiting_for(board) -> str:
    """Return what is missing, most fundamental first, parted by semicolons; "" when nothing is or `down` was said."""
    return "; ".join(missing(board)) if board.state.prefs.want_running else ""


def missing(board) -> list:
    """Return each thing that is missing as "what (why)". What only follows from another missing thing is left out."""
    session = board.session
    found = []
    was_there = session.connected or session.auth_url or session.refused  # whatever our routes look like
    if board.has_uplink is False and not was_there:
        found.append("the uplink (no network interface with a link leads out: no default route)")
    else:
        if not session.connected or session.phase in (Phase.NEEDS_LOGIN, Phase.NEEDS_APPROVAL):
            found.append(_of_the_coordinator(session))
        relays = board.links.relays
        if relays.home and board.data_plane is not None and not relays.is_up(relays.home):
            found.append(
                "the relay %s%s" % (relays.region_code(relays.home), _why(board.links.errors.get(relays.home)))
            )
    if board.data_error:
        found.append("the tunnel" + _why(board.data_error))
    if not board.clock.trusted:
        found.append("the time" + _why(board.clock.status()["by"]))
    if board.saver.error or board.state.problem:
        found.append("a disk that can be written" + _why(board.saver.error or board.state.problem))
    return found


def _of_the_coordinator(session) -> str:
    if session.auth_url:
        return "somebody to open the link that lets this machine in"
    if session.phase == Phase.NEEDS_APPROVAL:
        return "an administrator to approve this machine"
    if session.refused:
        return "its owner" + _why(session.error)
    return "the coordinator" + _why(session.error)


def _why(text) -> str:
    return " (" + str(text)[:_SHOWN] + ")" if text else ""


async def tell_changes(board) -> None:
    """Log what is missing whenever that has become another for longer than a moment; for ever."""
    told = ""
    while True:
        line = waiting_for(board)
        if line == told:
            await board.news(_LOOK_MS)
            continue
        await sleep_ms(_PATIENCE_MS)
        line = waiting_for(board)
        if line != told:
            told = line
            board.log.info("waiting for: " + line if line else "nothing is missing")
