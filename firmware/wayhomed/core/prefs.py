"""What the board's owner wants: the settings of `wayhomectl up`, and what the configuration file says of them."""

from wayhomed.core import server_url
from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from .prefixes import no_subnet_reason

MAX_ROUTES = 256
# Of the tunnel. Less than 1280 carries no IPv6 (RFC 8200 section 5). More than 1920, and a packet that goes by a relay
# no longer fits between WireGuard and us (linux.proxy); from 1420 on an ordinary uplink has to cut packets in two.
MIN_MTU_BYTES = const(1280)
MAX_MTU_BYTES = const(1920)
DNS_PORT = const(53)
_LABEL = "abcdefghijklmnopqrstuvwxyz0123456789-"


class Prefs:
    """login_server: URL, "" before the first `up`; hostname: "" = the machine's own; advertise_routes: prefixes
    (ip bytes, length); accept_routes: take other routers' prefixes; snat: LAN devices see the board's address;
    snat_except: prefixes whose devices see mesh addresses all the same; lan_to_mesh: LAN devices may open connections
    to peers and through accepted routes; mtu_bytes: of the tunnel; lan_dns: LAN
    devices may ask this machine for names, at lan_dns_port;
    want_running: True after `up`, False after `down`, None while nobody has said either.
    """

    def __init__(self):
        self.login_server = ""
        self.hostname = ""
        self.advertise_routes = []
        self.accept_routes = False
        self.snat = True
        self.snat_except = []
        self.lan_to_mesh = False
        self.mtu_bytes = MIN_MTU_BYTES
        self.lan_dns = False
        self.lan_dns_port = DNS_PORT
        self.want_running: bool | None = None

    def as_json(self) -> dict:
        fields = {
            "LoginServer": self.login_server,
            "Hostname": self.hostname,
            "AdvertiseRoutes": [address.prefix_text(prefix) for prefix in self.advertise_routes],
            "AcceptRoutes": self.accept_routes,
            "SNAT": self.snat,
            "SNATExcept": [address.prefix_text(prefix) for prefix in self.snat_except],
            "LANToMesh": self.lan_to_mesh,
            "MTU": self.mtu_bytes,
            "LANDNS": self.lan_dns,
            "LANDNSPort": self.lan_dns_port,
        }
        if self.want_running is not None:
            fields["WantRunning"] = self.want_running
        return fields


def settled(said: Prefs, fixed: dict) -> Prefs:
    """Return the Prefs that hold: what `up` and `down` said, over that the fields that the configuration file says.

    A file that names a coordinator is as good as an `up`, until somebody says `down`. Raises BadWire.
    """
    made = changed(said, fixed)
    if made.want_running is None or not made.login_server:
        made.want_running = bool(fixed.get("LoginServer"))
    return made


def changed(prefs: Prefs, fields: dict) -> Prefs:
    """Return new Prefs: the old with those fields replaced that are named. Raises BadWire with a text for the user."""
    made = Prefs()
    for name in prefs.__dict__:
        setattr(made, name, getattr(prefs, name))
    for name in fields:
        value = fields[name]
        if name == "LoginServer":
            made.login_server = "" if value == "" else server_url.text_of(server_url.parse(_text(name, value)))
        elif name == "Hostname":
            made.hostname = _hostname(_text(name, value))
        elif name == "AdvertiseRoutes":
            made.advertise_routes = _routes(value)
        elif name == "AcceptRoutes":
            made.accept_routes = _flag(name, value)
        elif name == "SNAT":
            made.snat = _flag(name, value)
        elif name == "SNATExcept":
            made.snat_except = _snat_except(value)
        elif name == "LANToMesh":
            made.lan_to_mesh = _flag(name, value)
        elif name == "MTU":
            made.mtu_bytes = _mtu(value)
        elif name == "LANDNS":
            made.lan_dns = _flag(name, value)
        elif name == "LANDNSPort":
            made.lan_dns_port = _port(value)
        elif name == "WantRunning":
            made.want_running = _flag(name, value)
        else:
            raise BadWire("no such setting: " + name[:40])
    return made


def _text(name: str, value) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise BadWire(name + " is a text")
    return value


def _flag(name: str, value) -> bool:
    if value is not True and value is not False:
        raise BadWire(name + " is true or false")
    return value


def _port(value) -> int:
    if not isinstance(value, int) or value is True or not 0 < value <= 65_535:
        raise BadWire("a port is a number from 1 to 65535")
    return value


def _hostname(text: str) -> str:
    if not text:
        return ""
    text = text.lower()
    if len(text) > 63 or text[0] == "-" or text[-1] == "-":
        raise BadWire("a hostname has at most 63 letters, digits and hyphens, no hyphen at its ends: " + text[:70])
    for character in text:
        if character not in _LABEL:
            raise BadWire("a hostname has letters, digits and hyphens only, not " + repr(character))
    return text


def _routes(value) -> list:
    if not isinstance(value, list):
        raise BadWire("AdvertiseRoutes is a list of prefixes")
    if len(value) > MAX_ROUTES:
        raise BadWire("more than %d routes" % MAX_ROUTES)
    routes = []
    for text in value:
        try:
            prefix = address.prefix_from_text(_text("a route", text))
        except BadWire as error:
            raise BadWire("the route " + repr(text)[:60] + ": " + str(error) + "; write it as 192.168.1.0/24")
        reason = no_subnet_reason(prefix)
        if reason:
            raise BadWire("the route " + text + " can't be offered: " + reason)
        if prefix not in routes:
            routes.append(prefix)
    return routes


def _snat_except(value) -> list:
    if not isinstance(value, list):
        raise BadWire("SNATExcept is a list of prefixes")
    if len(value) > MAX_ROUTES:
        raise BadWire("more than %d prefixes" % MAX_ROUTES)
    prefixes = []
    for text in value:
        try:
            prefix = address.prefix_from_text(_text("a prefix", text))
        except BadWire as error:
            raise BadWire("the prefix " + repr(text)[:60] + ": " + str(error) + "; write it as 192.168.1.0/24")
        if prefix not in prefixes:
            prefixes.append(prefix)
    return prefixes


def _mtu(value) -> int:
    if not isinstance(value, int) or value is True or value is False or not MIN_MTU_BYTES <= value <= MAX_MTU_BYTES:
        raise BadWire("MTU is a whole number from %d to %d" % (MIN_MTU_BYTES, MAX_MTU_BYTES))
    return value
