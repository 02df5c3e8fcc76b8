"""What `wayhomectl bugreport` shows: all that helps to find a fault, and no secret.

It comes section by section, so that a small board never holds all of it. Nothing is run for it: the kernel is asked by
netlink, the rules by libnftables. Each line goes through redaction.py.
"""

from wayhomed.core import times
from wayhomed.linux import link, netlink, routes, sysctl
from wayhomed.linux.errors import DataPlaneError
from wayhomed.linux.firewall import TABLE
from wayhomed.linux.nftables import Nftables
from wayhomed.port import const, runtime
from wayhomed.port.tasks import sleep_ms
from wayhomed.wire import address

from .redaction import without_secrets
from .shown import json_text
from .status import full_status, in_one_line, netcheck_status
from .version import VERSION

_FILE_BYTES = const(65_536)
_MAX_LINES = const(1_000)  # of a section
_MAX_PEERS = const(100)
_SHOWN_SETTINGS = (
    sysctl.FORWARD4,
    sysctl.FORWARD6,
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/src_valid_mark",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
)


async def sections(board):
    """Return [(title, function that returns its lines)], in their order; to be asked one after the other."""
    status = await full_status(board)
    return [
        ("versions", versions),
        ("in one line", lambda: [in_one_line(board)]),
        ("status", lambda: _status_lines(status)),
        ("peers", lambda: _peer_lines(status["peers"])),
        ("this network", lambda: _netcheck_lines(board)),
        ("settings", lambda: [json_text(status["prefs"])]),
        ("configuration file", lambda: _configuration_lines(board)),
        ("interfaces", lambda: _asked(_interface_lines)),
        ("routes", lambda: _asked(_route_lines)),
        ("kernel settings", _setting_lines),
        ("nftables, " + TABLE, _rule_lines),
        ("log", board.log.lines),
    ]


async def lines_of(board, title: str, make_lines):
    """Return the lines of a section, bounded and without secrets; a failure is a line, too."""
    try:
        lines = make_lines()
    except (OSError, DataPlaneError, ValueError) as error:
        lines = ["could not be read: %s" % error]
    secrets = known_secrets(board)
    made = ["", "== " + title + " =="]
    left = len(lines) - _MAX_LINES
    # the newest lines of the log, the first ones of the rest
    chosen = lines[-_MAX_LINES:] if title == "log" else lines[:_MAX_LINES]
    for number, line in enumerate(chosen):
        if number % 50 == 49:
            await sleep_ms(0)  # packets go first
        made.append(without_secrets(line, secrets))
    if left > 0:
        made.append("(%d lines more)" % left)
    return made


def known_secrets(board) -> list:
    """Return the texts that may stand nowhere, as far as the daemon itself knows them."""
    return list(board.log.hidden)


def versions() -> list:
    """Return the lines that can be had without a daemon, too."""
    system, release, machine = runtime.operating_system()
    made = [
        "wayhomed %s, %s" % (VERSION, runtime.python_name()),
        "%s %s %s" % (system, release, machine),
        "time here: " + times.text_from_seconds(runtime.wall_clock_s()),
    ]
    made += [line for line in _file_lines("/etc/os-release") if line.startswith("PRETTY_NAME=")]
    made += ["up for %s s" % line.split(" ")[0] for line in _file_lines("/proc/uptime")]
    wanted = ("VmRSS", "VmHWM", "Threads", "voluntary_ctxt_switches", "CapEff", "Uid")
    made += [" ".join(line.split()) for line in _file_lines("/proc/self/status") if line.split(":")[0] in wanted]
    made += [" ".join(line.split()) for line in _file_lines("/proc/meminfo")[:3]]
    return made


def _status_lines(status: dict) -> list:
    return [name + ": " + json_text(status[name]) for name in sorted(status) if name not in ("peers", "prefs")]


def _peer_lines(peers: list) -> list:
    made = ["%d peers, %d online" % (len(peers), len([peer for peer in peers if peer["online"]]))]
    made += [json_text(peer) for peer in peers[:_MAX_PEERS]]
    if len(peers) > _MAX_PEERS:
        made.append("(%d peers more)" % (len(peers) - _MAX_PEERS))
    return made


def _netcheck_lines(board) -> list:
    if board.paths.netcheck is None:
        return ["not measured yet"]
    found = netcheck_status(board, board.paths.netcheck)
    return [name + ": " + json_text(found[name]) for name in sorted(found)]


def _configuration_lines(board) -> list:
    path = board.configuration.path
    if not path or not runtime.is_there(path):
        return ["there is none"]
    return _file_lines(path)


def _asked(ask) -> list:
    kernel = netlink.Netlink()
    try:
        return ask(kernel)
    finally:
        kernel.close()


def _interface_lines(kernel) -> list:
    addresses = link.addresses(kernel)
    made = []
    for found in link.links(kernel):
        own = ["%s/%d" % (address.ip_text(one.ip), one.length) for one in addresses if one.index == found.index]
        words = [found.name, found.kind, "up" if found.is_up else "down", "mtu %d" % found.mtu_bytes] + own
        made.append(" ".join([word for word in words if word]))
    return made


def _route_lines(kernel) -> list:
    names = {found.index: found.name for found in link.links(kernel)}
    made = []
    for route in routes.routes(kernel):
        via = " via " + address.ip_text(route.gateway) if route.gateway else ""
        where = names.get(route.index, "interface %d" % route.index)
        made.append("table %d: %s%s dev %s" % (route.table, address.prefix_text(route.prefix), via, where))
    made.append("our policy rules that stand: %d" % len(routes.policy_rules(kernel)))
    return made


def _setting_lines() -> list:
    return ["%s = %s" % (name, sysctl.read(name)) for name in _SHOWN_SETTINGS]


def _rule_lines() -> list:
    rules = Nftables(as_json=False)
    try:
        return rules.run("list table " + TABLE).split("\n")
    finally:
        rules.close()


def _file_lines(path: str) -> list:
    data = runtime.read_file(path, _FILE_BYTES) or b""
    # a file that a hand has made may hold anything
    return [line.strip() for line in "".join([chr(byte) for byte in data]).split("\n") if line.strip()]
