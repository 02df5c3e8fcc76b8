"""The mesh's names: what the netmap says of them, and what follows for a question.

    question -> .onion? 4via6? a host? inside the mesh's own zones? an address of the mesh? -> answered here
                otherwise -> forwarded: to the resolvers of the longest suffix in the DNSConfig's Routes, or, where
                none fits, to those that this machine asks itself

The DNSConfig is a stranger's. What it may decide is limited: the mesh's own zones, and suffixes that the owner leaves
to it (`allow-names`); what is refused is told. Its global resolvers are not used: this machine's DNS stays as it is.
Source: wireguard.md section 7.1, control.md section 8.4.
"""

from wayhomed.port import const
from wayhomed.wire import address, dns
from wayhomed.wire.errors import BadWire

from .ceiling import ANY
from .prefixes import is_no_host

# Fixed by the protocol
TTL_S = const(5)
NEGATIVE_TTL_S = const(10)
_REVERSE4 = "in-addr.arpa"
_REVERSE6 = "ip6.arpa"
_MESH6_ZONE = "0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa"
_VIA6 = b"\xfd\x7a\x11\x5c\xa1\xe0\x0b\x1a\0\0"  # then 2 bytes of the site, and the IPv4 address
_MAX_SITE = const(65_535)
_AAAA_TOO = "magicdns-aaaa"
_WITH_SUBDOMAINS = "dns-subdomain-resolve"
# Chosen by us
MAX_ROUTES = const(512)
MAX_RESOLVERS = const(8)
MAX_RECORDS = const(16_384)
_MAX_PROBLEMS = const(20)
# Suffixes of one label that nobody registers names below: others are a whole part of the public DNS.
_PRIVATE_TOPS = ("corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "private", "test")
_NOT_HERE = (dns.NS, dns.SOA, dns.HINFO)
_TRANSFERS = (dns.AXFR, dns.IXFR)


class Names:
    """suffix: the mesh's, "" without MagicDNS; hosts: [ips] by name; with_subdomains: names that answer for all below
    them; zones: {suffix} answered here alone; routes: [(ip, port)] by suffix; reverse: a name by ip; aaaa_too: IPv6
    addresses are told of hosts that have IPv4 ones; problems: sentences.
    """

    def __init__(self):
        self.suffix = ""
        self.hosts: dict = {}
        self.with_subdomains: set = set()
        self.zones: set = set()
        self.routes: dict = {}
        self.reverse: dict = {}
        self.aaaa_too = False
        self.problems: list = []

    def complain(self, sentence: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS and sentence not in self.problems:
            self.problems.append(sentence)


class Answer:
    """What is answered here: the rcode and records; zone: labels of the zone that a negative answer is of, or None."""

    def __init__(self, code: int, records: list | tuple = (), zone=None):
        self.code = code
        self.records = records
        self.zone = zone

    def encoded(self, query: dns.Query) -> bytes:
        authority = [] if self.zone is None else [dns.soa(self.zone, NEGATIVE_TTL_S)]
        flags = dns.AA if self.records or authority else 0
        return dns.encode_answer(query, self.code, self.records, authority, flags)


class Forward:
    """Upstreams to ask, [(ip, port)]; None: those that this machine asks itself. suffix: the route, "" for None."""

    def __init__(self, upstreams, suffix: str = ""):
        self.upstreams = upstreams
        self.suffix = suffix


# --- From the netmap ---


def names_of(netmap, allowed=ANY) -> Names:
    """Return the Names that a netmap (core.netmap.Netmap) says.

    allowed: suffixes beside the mesh's own that the coordinator may decide about, ANY for all but whole public ones.
    """
    names = Names()
    node = netmap.node
    if node is None:
        return names
    names.aaaa_too = _AAAA_TOO in node.cap_map or not [ip for ip, _ in node.addresses if len(ip) == 4]
    config = netmap.dns
    if config.get("Proxied") is True:
        names.suffix = _tail(_name(node.name))
    for one in [node] + [netmap.peers[node_id] for node_id in sorted(netmap.peers)]:
        _take_node(names, one)
    _take_routes(names, config.get("Routes"), allowed)
    _take_records(names, config.get("ExtraRecords"), allowed)
    if names.suffix:
        names.zones.add(names.suffix)
        names.zones.add(_MESH6_ZONE)
        for second in range(64, 128):
            names.zones.add("%d.100.%s" % (second, _REVERSE4))
    return names


def _name(value) -> str:
    """Return a name in the one form that names are compared in, "" for what is none."""
    try:
        return dns.name_text(dns.labels_from_text(value)) if isinstance(value, str) else ""
    except BadWire:
        return ""


def _tail(name: str) -> str:
    return name.partition(".")[2]


def _take_node(names: Names, node) -> None:
    name = _name(node.name)
    ips = [ip for ip, length in node.addresses if length == 8 * len(ip)]
    if not name or not ips:
        return
    if names.suffix and _tail(name) != names.suffix:
        # a node shared from another mesh, or one whose name would be another's
        names.complain("the node %s has a name outside %s" % (name, names.suffix))
        return
    names.hosts.setdefault(name, ips)
    if _WITH_SUBDOMAINS in node.cap_map:
        names.with_subdomains.add(name)
    for ip in ips:
        names.reverse.setdefault(ip, name)


def _refusal(names: Names, name: str, allowed) -> str:
    """Say why the coordinator may not decide about a name, or ""."""
    if names.suffix and is_below(name, names.suffix):
        return ""
    if allowed == ANY:
        return "" if "." in name[:-1] or name in _PRIVATE_TOPS else "it is a whole part of the public DNS"
    for suffix in allowed:
        if is_below(name, suffix):
            return ""
    return "allow-names does not name it"


def _take_routes(names: Names, routes, allowed) -> None:
    if not isinstance(routes, dict):
        return
    if len(routes) > MAX_ROUTES:
        names.complain("%d DNS suffixes are more than this machine takes; none is used" % len(routes))
        return
    for text in sorted(routes):
        suffix = _name(text)
        reason = _refusal(names, suffix, allowed) if suffix else "it is no name"
        if reason:
            names.complain("DNS for %s is not left to the coordinator: %s" % (suffix or "a suffix", reason))
            continue
        upstreams = _resolvers(names, suffix, routes[text])
        if upstreams:
            names.routes[suffix] = upstreams
        elif not routes[text]:
            names.zones.add(suffix)


def _resolvers(names: Names, suffix: str, listed) -> list:
    """Return [(ip, port)] of the resolvers that we can ask."""
    found: list = []
    for entry in listed if isinstance(listed, list) else ():
        text = entry.get("Addr") if isinstance(entry, dict) else None
        upstream = upstream_of(text)
        if upstream is None:
            names.complain("a resolver for %s can't be asked: it is no address of a host" % suffix)
        elif upstream not in found and len(found) < MAX_RESOLVERS:
            found.append(upstream)
    return found


def upstream_of(text):
    """Return (ip, port) of "192.0.2.1", "192.0.2.1:5353" or "[2001:db8::1]:53"; None for anything else."""
    try:
        ip, port = address.ip_from_text(text), dns.PORT
    except BadWire:
        try:
            ip, port = address.endpoint_from_text(text)
        except BadWire:
            return None
    return None if is_no_host(ip) or not port else (ip, port)


def _take_records(names: Names, records, allowed) -> None:
    if not isinstance(records, list):
        return
    if len(records) > MAX_RECORDS:
        names.complain("%d DNS records are more than this machine takes; none is used" % len(records))
        return
    for record in records:
        if not isinstance(record, dict):
            continue
        name = _name(record.get("Name"))
        try:
            ip = address.ip_from_text(record.get("Value") or "")
        except BadWire:
            continue
        # A name of one label is for dialling by clients without search domains; nobody is asked for it by DNS.
        if not name or "." not in name[:-1]:
            continue
        reason = _refusal(names, name, allowed)
        if reason:
            names.complain("the name %s is not left to the coordinator: %s" % (name, reason))
            continue
        ips = names.hosts.setdefault(name, [])
        if ip not in ips:
            names.hosts[name] = ips + [ip]
        names.reverse.setdefault(ip, name)


# --- For a question ---


def is_below(name: str, suffix: str) -> bool:
    """Tell whether a name is the suffix or lies below it."""
    return name == suffix or suffix == "." or name.endswith("." + suffix)


def look_up(names: Names, query: dns.Query):
    """Return the Answer to a question, or where to Forward it."""
    if query.opcode != dns.QUERY or query.kind in _TRANSFERS:
        return Answer(dns.NOTIMP)
    if query.class_ != dns.IN:
        return Answer(dns.REFUSED)
    name = dns.name_text(query.labels)
    if is_below(name, "onion"):  # RFC 7686: never asked for anywhere
        return Answer(dns.NXDOMAIN)
    via6 = _via6(names, name)
    if via6:
        return _of_addresses(names, query, [via6], query.labels[1:])
    zone = _longest(names.zones, name)
    ips = _host(names, name)
    if ips is not None:
        return Answer(dns.NOTIMP) if query.kind in _NOT_HERE else _of_addresses(names, query, ips, query.labels[1:])
    route = _longest(names.routes, name)
    if zone and len(zone) >= len(route):
        return _in_zone(names, query, name, zone)
    if query.kind == dns.PTR:
        known = names.reverse.get(_address_of(name))
        if known:
            return Answer(dns.NOERROR, [_pointer(query, known)])
    if route:
        return Forward(names.routes[route], route)
    return Forward(None)


def _in_zone(names: Names, query: dns.Query, name: str, zone: str) -> Answer:
    zone_labels = query.labels[len(query.labels) - len(zone.split(".")) :]
    if query.kind == dns.PTR:
        known = names.reverse.get(_address_of(name))
        if known:
            return Answer(dns.NOERROR, [_pointer(query, known)])
    if name != zone:
        return Answer(dns.NXDOMAIN, (), zone_labels)
    # That the zone itself does not exist would say the same of all that lies below (RFC 8020).
    if query.kind in (dns.SOA, dns.ANY):
        return Answer(dns.NOERROR, [dns.soa(zone_labels, NEGATIVE_TTL_S)])
    return Answer(dns.NOERROR, (), zone_labels)


def _pointer(query: dns.Query, known: str) -> dns.Record:
    return dns.Record(query.labels, dns.PTR, TTL_S, dns.encode_name(dns.labels_from_text(known)))


def _host(names: Names, name: str):
    """Return the addresses of a host, None for what is none."""
    ips = names.hosts.get(name)
    above = name
    while ips is None and names.with_subdomains and above:
        above = _tail(above)
        if above in names.with_subdomains:
            ips = names.hosts[above]
    return ips


def _of_addresses(names: Names, query: dns.Query, ips: list, zone: tuple) -> Answer:
    v4 = [ip for ip in ips if len(ip) == 4]
    # Who can't reach the mesh's IPv6 would wait for it in vain before trying IPv4.
    v6 = [ip for ip in ips if len(ip) == 16] if names.aaaa_too or not v4 else []
    records = []
    if query.kind in (dns.A, dns.ANY):
        records += [dns.Record(query.labels, dns.A, TTL_S, ip) for ip in v4]
    if query.kind in (dns.AAAA, dns.ANY):
        records += [dns.Record(query.labels, dns.AAAA, TTL_S, ip) for ip in v6]
    return Answer(dns.NOERROR, records, None if records else zone)


def _longest(suffixes, name: str) -> str:
    """Return the longest suffix that the name lies below, "" for none."""
    while name:
        if name in suffixes:
            return name
        name = _tail(name)
    return ""


def _via6(names: Names, name: str) -> bytes:
    """Return the address that a name such as 192-168-10-20-via-7 stands for, b"" for other names."""
    first, _, rest = name.partition(".")
    if not first.find("-via-") > 0 or (rest and rest != names.suffix):
        return b""
    ip_text, _, site_text = first.partition("-via-")
    if not site_text.isdigit() or len(site_text) > 5 or not int(site_text) <= _MAX_SITE:
        return b""
    try:
        ip = address.ip_from_text(ip_text.replace("-", "."))
    except BadWire:
        return b""
    return _VIA6 + int(site_text).to_bytes(2, "big") + ip


def _address_of(name: str):
    """Return the ip that a name of the reverse tree means, None for others."""
    if is_below(name, _REVERSE4):
        parts = name[: -len(_REVERSE4) - 1].split(".")
        try:
            return address.ip_from_text(".".join(reversed(parts)))
        except BadWire:
            return None
    if not is_below(name, _REVERSE6):
        return None
    digits = name[: -len(_REVERSE6) - 1].split(".")
    if len(digits) != 32:
        return None
    number = 0
    for digit in reversed(digits):
        if len(digit) != 1 or digit not in "0123456789abcdef":
            return None
        number = number << 4 | int(digit, 16)
    return number.to_bytes(16, "big")
