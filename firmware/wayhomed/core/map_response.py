"""One map response (control.md sections 7.1 and 7.3): from bytes, as they come, to its parts as we keep them.

A peer is read when its bytes are whole, while those of the next may still be on their way, so that a message of a
thousand peers is never in memory as text or as a tree of JSON. What a part does to what is already known is
netmap.py's business.
"""

import json

from wayhomed.core.json_fields import (
    Fault,
    Names,
    at,
    read_flag,
    read_id,
    read_integer_key,
    read_object,
    read_plain,
    read_text,
    read_time,
    read_words,
)
from wayhomed.core.node import Node, PeerReader, patch_fields, patch_node, read_node
from wayhomed.port import const
from wayhomed.wire.errors import BadWire
from wayhomed.wire.json_cutter import ANY, ITEMS, WHOLE, JsonCutter

# Chosen by us: far above what a coordinator of ours sends, low enough that a hostile one can't fill a board's memory.
MAX_MESSAGE_BYTES = const(16_777_216)  # passed through, not held
MAX_PEERS = const(4096)
MAX_PROFILES = const(8192)
MAX_FILTERS = const(64)
MAX_FILTER_RULES = const(4096)
MAX_FILTER_BYTES = const(1_048_576)  # of all rules as they are kept
MAX_HEALTH = const(64)

PLAN = {
    "KeepAlive": WHOLE,
    "PingRequest": WHOLE,
    "PopBrowserURL": WHOLE,
    "ControlTime": WHOLE,
    "Debug": WHOLE,
    "Node": WHOLE,
    "DERPMap": WHOLE,
    "Peers": ITEMS,
    "PeersChanged": ITEMS,
    "PeersRemoved": ITEMS,
    "PeersChangedPatch": ITEMS,
    "PeerSeenChange": WHOLE,
    "OnlineChange": WHOLE,
    "DNSConfig": WHOLE,
    "Domain": WHOLE,
    "PacketFilter": ITEMS,
    "PacketFilters": {ANY: ITEMS},
    "UserProfiles": ITEMS,
    "Health": ITEMS,
    "DisplayMessages": {ANY: WHOLE},
}


class Response:
    """What one map response says. None: it says nothing of this, which is another thing than an empty list.

    node: Node; derp_map: the DERPMap as it came; peers, peers_changed: Nodes; peers_removed: ids; patches: PeerChange
    objects; seen, online: flags by id; filter: rules; filters: rules by name, None for a filter to be deleted; a rule
    is kept as JSON, which takes a fifth of the memory; profiles: (id, login, display name); messages: texts by id,
    None for one to be deleted; ping_request: URL, URLIsNoise, Types, IP, Payload.
    """

    def __init__(self):
        self.keep_alive = False
        self.ping_request = None
        self.browse_url = ""
        self.control_time_s = 0
        self.sleep_ms = 0
        self.exit_asked = False
        self.node = None
        self.derp_map = None
        self.peers = None
        self.peers_changed = None
        self.peers_removed = None
        self.patches = None
        self.seen = None
        self.online = None
        self.dns = None
        self.domain = ""
        self.filter: list = None  # type: ignore[assignment]
        self.filters: dict = None  # type: ignore[assignment]
        self.profiles = None
        self.health = None
        self.messages: dict = None  # type: ignore[assignment]


_LISTS = {
    "Peers": "peers",
    "PeersChanged": "peers_changed",
    "PeersRemoved": "peers_removed",
    "PeersChangedPatch": "patches",
    "PacketFilter": "filter",
    "UserProfiles": "profiles",
    "Health": "health",
}
_LIMITS = {"Health": MAX_HEALTH, "UserProfiles": MAX_PROFILES, "PacketFilter": MAX_FILTER_RULES}


class ResponseReader:
    """Reads one map response, however its bytes were cut.

    feed() and close() raise BadWire, with the path of the fault, such as "Peers[3].AllowedIPs[0]: ...", for what is no
    response; after that the reader is of no more use.
    """

    def __init__(self, peers_before=None):
        """peers_before: Nodes by id; one that is described as it was is kept as it is."""
        self._response = Response()
        self._cutter = JsonCutter(PLAN, self)
        self._peers = PeerReader(peers_before or {})
        self._read_bytes = 0
        self._filter_bytes = 0
        self._rules = 0

    def feed(self, data: bytes) -> None:
        self._read_bytes += len(data)
        if self._read_bytes > MAX_MESSAGE_BYTES:
            raise BadWire("a map message of more than %d bytes" % MAX_MESSAGE_BYTES)
        try:
            self._cutter.feed(data)
        except MemoryError:
            self._response = Response()  # what it took is free again
            raise BadWire("a map message is more than this machine's memory takes")

    def close(self) -> Response:
        """Say that the message is whole; return what it says."""
        self._cutter.close()
        return self._response

    # --- What the cutter finds ---

    def begins(self, path: list) -> None:
        name = path[0]
        response = self._response
        if name == "PacketFilters":
            if len(path) == 1:
                response.filters = {}
            else:
                self._filter_begins(path)
        elif name == "DisplayMessages":
            response.messages = {}
        else:
            setattr(response, _LISTS[name], [])

    def value(self, path: list, value) -> None:
        try:
            self._read(path, value)
        except Fault as fault:
            below = fault.path
            raise BadWire(_where(path) + ("." if below and below[0] != "[" else "") + below + ": " + fault.reason)
        except BadWire as error:
            raise BadWire(_where(path) + ": " + str(error))

    def _filter_begins(self, path: list) -> None:
        filters = self._response.filters
        if len(path[1]) > 1024 or len(filters) >= MAX_FILTERS:
            raise BadWire("PacketFilters: more than %d filters, or a long name" % MAX_FILTERS)
        filters[path[1]] = []

    def _read(self, path: list, value) -> None:
        name, response = path[0], self._response
        if len(path) == 1:
            if value is None:
                return
            if name in _LISTS:
                raise Fault("a list is due here")
            _READERS[name](response, value)
        elif name == "Peers" or name == "PeersChanged":
            peers = getattr(response, _LISTS[name])
            if len(peers) >= MAX_PEERS:
                raise Fault("more than %d peers" % MAX_PEERS)
            peers.append(self._peers.read(value))
        elif name == "PacketFilter":
            self._add_rule(response.filter, value)
        elif name == "PacketFilters":
            if len(path) == 3:
                self._add_rule(response.filters[path[1]], value)
            elif value is not None:
                raise Fault("a list is due here")
            else:
                self._filter_begins(path)
                response.filters[path[1]] = None
        elif name == "DisplayMessages":
            if len(response.messages) >= MAX_HEALTH:
                raise Fault("more than %d messages" % MAX_HEALTH)
            response.messages[path[1]] = None if value is None else _read_message(value)
        else:
            items = getattr(response, _LISTS[name])
            if len(items) >= _LIMITS.get(name, MAX_PEERS):
                raise Fault("more than %d items" % len(items))
            item = _ITEM_READERS[name](value)
            if item is not None:
                items.append(item)

    def _add_rule(self, rules: list, value) -> None:
        fields = _RULE_NAMES.respelled(read_object(value))
        self._rules += 1
        if self._rules > MAX_FILTER_RULES:
            raise Fault("more than %d rules" % MAX_FILTER_RULES)
        if fields.get("CapGrant") or fields.get("Caps"):
            return  # grants applications what they ask for; opens nothing (control.md 8.3)
        kept = {name: fields[name] for name in _RULE_KEPT if fields.get(name) is not None}
        opened = kept.get("DstPorts")
        for entry in opened if isinstance(opened, list) else ():
            if isinstance(entry, dict):
                ports = _ENTRY_NAMES.respelled(entry).get("Ports")
                if isinstance(ports, dict):
                    _PORTS_NAMES.respelled(ports)
        text = json.dumps(read_plain(kept)).encode()
        self._filter_bytes += len(text)
        if self._filter_bytes > MAX_FILTER_BYTES:
            raise Fault("the packet filter has more than %d bytes" % MAX_FILTER_BYTES)
        rules.append(text)


def _where(path: list) -> str:
    """Return a path as people read it: "Peers[3]"."""
    text = path[0]
    for step in path[1:]:
        text += "[%d]" % step if isinstance(step, int) else "." + step[:40]
    return text


_RULE_KEPT = ("SrcIPs", "DstPorts", "IPProto", "SrcBits")
_RULE_NAMES = Names("CapGrant", "Caps", *_RULE_KEPT)
_ENTRY_NAMES = Names("IP", "Ports", "Bits")
_PORTS_NAMES = Names("First", "Last")
_PROFILE_NAMES = Names("ID", "LoginName", "DisplayName", "ProfilePicURL", "Groups", "Roles")
_MESSAGE_NAMES = Names("Title", "Text", "Severity", "ImpactsConnectivity", "PrimaryAction")
_PING_NAMES = Names("URL", "URLIsNoise", "Log", "Types", "IP", "Payload")
_DEBUG_NAMES = Names("SleepSeconds", "Exit", "DisableLogTail")


def _read_profile(value):
    """Return (user id, login name, display name); None without a usable id: no netmap is refused for want of a name."""
    fields = _PROFILE_NAMES.respelled(read_object(value))
    login, display = fields.get("LoginName"), fields.get("DisplayName")
    try:
        user = read_id(fields.get("ID"))
    except Fault:
        return None
    return (
        user,
        "" if login is None else at("LoginName", read_words, login),
        "" if display is None else at("DisplayName", read_words, display),
    )


def _read_patch(value) -> dict:
    """Return what we know of a PeerChange, its values checked once: a patch for a stranger has to be right as well."""
    fields = patch_fields(value)
    at("NodeID", read_id, fields.get("NodeID"))
    patch_node(Node(), fields)
    return fields


_ITEM_READERS = {
    "PeersRemoved": read_id,
    "PeersChangedPatch": _read_patch,
    "UserProfiles": _read_profile,
    "Health": read_words,
}


def _read_message(value) -> str:
    """Return a DisplayMessage as one text (control.md 7.3)."""
    fields = _MESSAGE_NAMES.respelled(read_object(value))
    title, text = fields.get("Title") or "", fields.get("Text") or ""
    words = at("Title", read_words, title), at("Text", read_words, text)
    return ": ".join([part for part in words if part])


def _read_flags_by_id(value) -> dict:
    """Return true or false by the peer's id; null is false to the servers of this protocol."""
    read_object(value)
    if len(value) > MAX_PEERS:
        raise Fault("%d entries" % len(value))
    return {read_integer_key(key): value[key] is not None and at(key, read_flag, value[key]) for key in value}


def _read_ping_request(value) -> dict:
    """Return a PingRequest (control.md section 9), whatever was left out."""
    fields = _PING_NAMES.respelled(read_object(value))
    request = {"URL": "", "URLIsNoise": False, "Types": "", "IP": "", "Payload": ""}
    for name, read in (("URL", read_text), ("URLIsNoise", read_flag), ("Types", read_text), ("IP", read_text)):
        if fields.get(name) is not None:
            request[name] = at(name, read, fields[name])
    if isinstance(fields.get("Payload"), str):
        request["Payload"] = fields["Payload"]
    return request


def _take_debug(response: Response, value) -> None:
    fields = _DEBUG_NAMES.respelled(read_object(value))
    sleep = fields.get("SleepSeconds")
    if sleep is None:
        sleep = 0
    if sleep is True or sleep is False or not isinstance(sleep, (int, float)):
        raise Fault("SleepSeconds is a number")
    # The stock client caps the sleep at 300 s too (control.md 7.3). `not >` refuses NaN as well.
    response.sleep_ms = 0 if not sleep > 0 else int(min(sleep, 300) * 1000)
    response.exit_asked = fields.get("Exit") is not None


def _sets(attribute: str, read):
    """Return a reader that puts what it reads into the response."""

    def take(response: Response, value) -> None:
        setattr(response, attribute, read(value))

    return take


_READERS = {
    "KeepAlive": _sets("keep_alive", read_flag),
    "PingRequest": _sets("ping_request", _read_ping_request),
    "PopBrowserURL": _sets("browse_url", read_words),
    "ControlTime": _sets("control_time_s", read_time),
    "Debug": _take_debug,
    "Node": _sets("node", read_node),
    "DERPMap": _sets("derp_map", read_object),
    "PeerSeenChange": _sets("seen", _read_flags_by_id),
    "OnlineChange": _sets("online", _read_flags_by_id),
    "DNSConfig": _sets("dns", lambda value: read_plain(read_object(value))),
    "Domain": _sets("domain", read_text),
    "PacketFilters": _sets("filters", read_object),
    "DisplayMessages": _sets("messages", read_object),
}


def read_response(payload: bytes, peers_before=None) -> Response:
    """Return what one whole message says. Raises BadWire."""
    reader = ResponseReader(peers_before)
    reader.feed(payload)
    return reader.close()
