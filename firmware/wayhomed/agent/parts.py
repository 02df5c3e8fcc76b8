"""The parts of the daemon: what it does for the LAN beside the tunnel itself (agent/part)."""

from .dns_server import DnsServer
from .foreign_rules import ForeignRules
from .peer_api import PeerApi


def all_of(board) -> list:
    """Return the Board's parts, in the order in which the status shows them."""
    names = DnsServer(board)
    return [ForeignRules(board), names, PeerApi(board, names.resolver)]
