"""The board's own small resolver: the mesh's names from the netmap, all others from whom they are to be asked of."""

from wayhomed.core.names import Answer, Names, look_up, names_of
from wayhomed.linux.facts import resolvers_from_text
from wayhomed.port import const, monotonic_ms, runtime
from wayhomed.wire import dns

from .upstreams import Upstreams

_RESOLV_CONF = "/etc/resolv.conf"
_RESOLV_CONF_BYTES = const(65_536)
_READ_AGAIN_MS = const(10_000)
_LINK_LOCAL6 = b"\xfe\x80"


class Resolver:
    """Answers questions as the Board's netmap, settings and the machine's own resolvers have it.

    names: a core.names.Names, made when it is first asked for after a change: a netmap changes more often than it is
    asked about names.
    """

    def __init__(self, board, resolv_conf: str = _RESOLV_CONF):
        self._board = board
        self._resolv_conf = resolv_conf
        self.upstreams = Upstreams()
        self._names: Names | None = None
        self._machines: list = []
        self._read_ms: int | None = None

    def changed(self) -> None:
        """Netmap or settings are others."""
        self._names = None

    @property
    def names(self) -> Names:
        if self._names is None:
            self._names = names_of(self._board.netmap, self._board.configuration.ceiling.names)
        return self._names

    def machines_upstreams(self) -> list:
        """Return [(ip, port)] of the resolvers that this machine asks itself."""
        now_ms = monotonic_ms()
        if self._read_ms is None or now_ms - self._read_ms >= _READ_AGAIN_MS:
            self._read_ms = now_ms
            try:
                text = str(runtime.read_file(self._resolv_conf, _RESOLV_CONF_BYTES) or b"", "utf-8")
            except (OSError, ValueError):
                text = ""
            # one with a link-local address can't be asked without its interface
            self._machines = [(ip, dns.PORT) for ip in resolvers_from_text(text) if ip and ip[:2] != _LINK_LOCAL6]
        return self._machines

    def ask(self, query: dns.Query, client, source: tuple, send) -> None:
        """Have send(client, query, message) called, now or later; a message of None: there is no answer.

        client: compared with others by ==; source: its (ip, port).
        """
        found = look_up(self.names, query)
        if isinstance(found, Answer):
            send(client, query, found.encoded(query))
            return
        upstreams = self.machines_upstreams() if found.upstreams is None else found.upstreams

        def answered(client, query, reply) -> None:
            send(client, query, None if reply is None else dns.for_client(reply, query))

        if not upstreams or not self.upstreams.ask(query, client, source, upstreams, answered):
            send(client, query, None)
