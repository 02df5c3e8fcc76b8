"""Names for the LAN, by the switch lan-dns: devices without a client ask this board, the mesh's names among the rest.

It listens at the board's own addresses in the networks that it serves, and answers nobody whose address is not of one
of them: it is no open resolver, and the mesh and the uplink's far side get no word. At another port than 53 it listens
on the loopback too, for a dnsmasq of this machine that hands the mesh's names on to it.
"""

import asyncio

from wayhomed.linux import port_holder
from wayhomed.port import const, monotonic_ms
from wayhomed.port.tasks import run_all, start, wait_for_event
from wayhomed.wire import address, dns

from .dns_listener import TcpListener, UdpListener
from .part import Part, Trouble
from .resolver import Resolver

_AGAIN_MS = const(10_000)  # a port that was taken may be free
_LOOPBACK = b"\x7f\x00\x00\x01"
_LOOPBACKS = (_LOOPBACK[:1] + bytes(3), 8)
_EADDRINUSE = const(98)
_EACCES = const(13)


class DnsServer(Part):
    """Runs a Resolver at listeners that come and go with the LAN's addresses. resolver: for others of this board."""

    name = "lan_dns"

    def __init__(self, board):
        super().__init__(board)
        self.resolver = Resolver(board)
        self._due = asyncio.Event()
        self._served: list = []  # the LAN's prefixes
        self._ips: list = []  # ours in them
        self._open: dict = {}  # (ip, port): ([listeners], [tasks])
        self._refused: dict = {}  # (ip, port): OSError
        self._holder = ""

    # --- What the daemon tells ---

    def settings_changed(self) -> None:
        self.resolver.changed()
        self._due.set()

    def applied(self, plan, facts) -> None:
        self.resolver.changed()
        self.resolver.upstreams.forwarder.own_ips = list(facts.own)
        advertised = self._advertised()
        lans = [one for one in facts.connected if [other for other in advertised if address.overlaps(one, other)]]
        self._served = lans + advertised
        ips = sorted([ip for ip in facts.own if [one for one in lans if address.contains(one, ip)]])
        if ips != self._ips:
            self._ips = ips
            self._due.set()

    def _advertised(self) -> list:
        asked = getattr(self._board, "advertised", None)
        return list(asked()) if asked is not None else self._board.state.prefs.advertise_routes

    # --- Listening ---

    async def run(self) -> None:
        try:
            while True:
                self._due.clear()
                self._listen()
                await wait_for_event(self._due, _AGAIN_MS)
        finally:
            for place in list(self._open):
                self._close(place)
            self.resolver.upstreams.close()

    def _wanted(self) -> list:
        prefs = self._board.state.prefs
        if not prefs.lan_dns:
            return []
        places = [(ip, prefs.lan_dns_port) for ip in self._ips]
        return places + ([(_LOOPBACK, prefs.lan_dns_port)] if prefs.lan_dns_port != dns.PORT else [])

    def _listen(self) -> None:
        wanted = self._wanted()
        for place in list(self._open):
            if place not in wanted or [task for task in self._open[place][1] if task.done()]:
                self._close(place)
        before, self._refused = self._refused, {}
        for place in wanted:
            if place not in self._open:
                self._open_at(place)
        self.resolver.upstreams.forwarder.own = list(self._open)
        if sorted(self._refused) != sorted(before):
            self._holder = port_holder.holder(self._board.state.prefs.lan_dns_port) if self._refused else ""
            for trouble in self.troubles():
                self._board.log.warning(trouble.what)
            self._board.tell()

    def _open_at(self, place: tuple) -> None:
        listeners: list = []
        try:
            for kind in (UdpListener, TcpListener):
                listeners.append(kind(place[0], place[1], self._is_client, self._asked))
        except OSError as error:
            for listener in listeners:
                listener.close()
            self._refused[place] = error
            return
        self._open[place] = (listeners, [start(self._run(listener)) for listener in listeners])

    async def _run(self, listener) -> None:
        try:
            await run_all(listener.run())
        except OSError as error:
            self._board.log.warning("DNS for the LAN: " + str(error.args[-1]))
        self._due.set()

    def _close(self, place: tuple) -> None:
        listeners, tasks = self._open.pop(place)
        for task in tasks:
            task.cancel()
        for listener in listeners:
            listener.close()

    # --- Questions ---

    def _is_client(self, ip: bytes) -> bool:
        for prefix in self._served + [_LOOPBACKS]:
            if address.contains(prefix, ip):
                return True
        return False

    def _asked(self, listener, query: dns.Query, source) -> None:
        self.resolver.ask(query, (listener, source), source, _send)

    # --- For people ---

    def troubles(self) -> list:
        prefs = self._board.state.prefs
        found = []
        if prefs.lan_dns and not self._ips:
            found.append(
                Trouble(
                    "lan-dns is on, and this board serves no LAN that it is part of",
                    "wayhomectl up --advertise-routes with the LAN's prefix",
                )
            )
        for place in sorted(self._refused):
            found.append(self._refused_trouble(place, self._refused[place]))
            break  # one port, one reason
        if prefs.lan_dns:
            found += resolver_troubles(self.resolver)
        return found

    def _refused_trouble(self, place: tuple, error: OSError) -> Trouble:
        where = "port %d of %s" % (place[1], address.ip_text(place[0]))
        if error.errno == _EADDRINUSE:
            what = "LAN devices can't ask for names: %s is taken by %s" % (where, self._holder or "another program")
            if "dnsmasq" in self._holder or not self._holder:
                mend = "wayhomectl up --lan-dns-port 5353, and these lines in dnsmasq's configuration: " + "; ".join(
                    self._dnsmasq_lines(5353)
                )
            else:
                mend = "stop it, or wayhomectl up --lan-dns-port 5353 and have it forward %s there" % self._suffix()
            return Trouble(what, mend)
        if error.errno == _EACCES:
            return Trouble(
                "LAN devices can't ask for names: %s may not be had" % where, "give wayhomed CAP_NET_BIND_SERVICE"
            )
        return Trouble("LAN devices can't ask for names at %s: %s" % (where, error.args[-1]))

    def _suffix(self) -> str:
        return self.resolver.names.suffix or "the mesh's names"

    def _dnsmasq_lines(self, port: int) -> list:
        suffix = self.resolver.names.suffix
        if not suffix:
            return []
        target = "127.0.0.1#%d" % port
        return [
            "server=/%s/%s" % (suffix, target),
            "rev-server=100.64.0.0/10," + target,
            "rebind-domain-ok=/%s/" % suffix,
        ]

    def status(self) -> dict:
        prefs = self._board.state.prefs
        if not prefs.lan_dns:
            return {}
        forwarder, names = self.resolver.upstreams.forwarder, self.resolver.names
        shown = {
            "serving": [address.endpoint_text(place) for place in sorted(self._open)],
            "suffix": names.suffix,
            "routes": {
                suffix: [address.endpoint_text(upstream) for upstream in names.routes[suffix]]
                for suffix in names.routes
            },
            "counts": dict(forwarder.counts),
        }
        if prefs.lan_dns_port != dns.PORT:
            shown["dnsmasq"] = self._dnsmasq_lines(prefs.lan_dns_port)
        return shown


def resolver_troubles(resolver: Resolver) -> list:
    """Return what is wrong with those whom a Resolver asks."""
    forwarder, now_ms = resolver.upstreams.forwarder, monotonic_ms()
    found = []
    for upstream in forwarder.looping(now_ms):
        found.append(
            Trouble(
                "the DNS server %s sends our own questions back to us: it is left alone for a minute"
                % address.endpoint_text(upstream),
                "have it ask a resolver of the Internet, not this board; for the mesh's names alone it may ask here",
            )
        )
    for upstream in forwarder.forging(now_ms):
        found.append(
            Trouble(
                "answers that fit no question of ours come in the name of the DNS server %s: somebody may be forging "
                "them; they are not believed" % address.endpoint_text(upstream),
                "look who is in this network",
            )
        )
    for problem in resolver.names.problems:
        found.append(Trouble(problem))
    return found


def _send(client: tuple, query: dns.Query, message) -> None:
    listener, source = client
    listener.send(source, query, message)
