"""The configuration file: what the owner of this machine wrote, from bytes to settings, with every fault in it.

    # comment                              a line of its own, or behind a value after a space
    hostname = attic
    advertise-routes = 192.168.1.0/24, fd00:1::/64
    auth-key-file = "/etc/wayhome/key # 2"  quotes, where a value has a # behind a space

Read from bytes, so that no encoding can surprise: outside comments there is printable ASCII and tabs, nothing else.
Windows' line ends and a UTF-8 byte order mark at the front are taken for what they are. All faults are found at once.
"""

from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from .ceiling import ANY, service_text
from .filter import LAST_PORT, TCP, UDP
from .prefixes import no_subnet_reason
from .prefs import MAX_MTU_BYTES, MAX_ROUTES, MIN_MTU_BYTES, Prefs, changed

# Chosen by us
MAX_FILE_BYTES = const(65_536)
MAX_LINE_BYTES = const(4_096)  # 256 prefixes of IPv4 fit
MAX_FAULTS = const(50)
MAX_SERVERS = const(8)
MAX_SERVICES = const(64)
_SHOWN = const(100)
_SHOWN_KEY = const(20)
_MAX_NAME = const(253)
_MAX_INTERFACE = const(15)

_BOM = b"\xef\xbb\xbf"
_NAMES_OF_BYTES = (
    # what editors and web pages put in place of plain characters
    (b"\xc2\xa0", "a space that must not be broken; type an ordinary one"),
    (b"\xe2\x80\x9c", 'a curly quote; type a plain one: "'),
    (b"\xe2\x80\x9d", 'a curly quote; type a plain one: "'),
    (b"\xe2\x80\x9e", 'a curly quote; type a plain one: "'),
    (b"\xe2\x80\x98", 'a curly quote; type a plain one: "'),
    (b"\xe2\x80\x99", 'a curly quote; type a plain one: "'),
    (b"\xe2\x80\x93", "a long dash; type a plain one: -"),
    (b"\xe2\x80\x94", "a long dash; type a plain one: -"),
    (b"\xe2\x80\x8b", "an invisible character; type the line anew"),
    (_BOM, "a byte order mark amid the text; type the line anew"),
    (b"\0", "a zero byte: this is no text, or a damaged file"),
    (b"\r", "a carriage return: lines end with a line feed"),
)

_PROTOCOLS = {"tcp": TCP, "udp": UDP}


class Fault:
    """What is wrong with one line: its number (0: the file as a whole), what stands there, what was expected.

    key: the setting that it concerns, "" if that can't be told.
    """

    def __init__(self, line: int, text: str, expected: str, key: str = ""):
        self.line = line
        self.text = text
        self.expected = expected
        self.key = key

    def sentence(self) -> str:
        """Return it as one line for people. No value of a secret's is in it."""
        if not self.line:
            return self.expected
        return "line %d: %s: %s" % (self.line, self.text, self.expected)


class Config:
    """One file. values: {setting: value} of the sound lines; lines: {setting: number of its line}; faults: [Fault]."""

    def __init__(self):
        self.values: dict = {}
        self.lines: dict = {}
        self.faults: list = []

    def preferences(self) -> dict:
        """Return what the file says of the settings of `wayhomectl up`, as fields of prefs.changed()."""
        return {PREFS[key]: self.values[key] for key in PREFS if key in self.values}


# --- The settings ---


class Setting:
    """One setting. read(text) gives its value or raises BadWire; write(value) gives its text back."""

    def __init__(self, name: str, read, write, example: str):
        self.name = name
        self.read = read
        self.write = write
        self.example = example


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise BadWire("yes or no is due here")
    return text == "yes"


def _only_no(what: str):
    def read(text: str) -> bool:
        if _flag(text):
            raise BadWire("this version of wayhomed " + what + "; write no, or leave the line out")
        return False

    return read


def _word(*words: str):
    def read(text: str) -> str:
        if text not in words:
            raise BadWire("one of these words is due here: " + ", ".join(words))
        return text

    return read


def _number(least: int, most: int):
    def read(text: str) -> int:
        number = _decimal(text)
        if not least <= number <= most:
            raise BadWire("a whole number from %d to %d is due here" % (least, most))
        return number

    return read


def _decimal(text: str) -> int:
    """Return the number, -1 for what is none."""
    if not 0 < len(text) <= 9:
        return -1
    for digit in text:
        if digit not in "0123456789":
            return -1
    return int(text)


def _path(text: str) -> str:
    if text[:1] != "/" or text[-1:] == "/":
        raise BadWire("the whole path of a file is due here, from / on, for example /etc/wayhome/auth.key")
    return text


def _program(text: str) -> str:
    if " " in text or "\t" in text:
        raise BadWire("one program's name or path is due here, without options")
    return text


def _interface(text: str) -> str:
    sound = 0 < len(text) <= _MAX_INTERFACE and text not in (".", "..")
    for character in text:
        sound = sound and (character.isalpha() or character.isdigit() or character in "-_.")
    if not sound:
        raise BadWire("a name of at most %d letters, digits, - _ and . is due here" % _MAX_INTERFACE)
    return text


def _pref(name: str):
    def read(text: str):
        return changed(Prefs(), {name: text}).as_json()[name]

    return read


def _items(text: str, most: int) -> list:
    items = [item.strip(" \t") for item in text.split(",")]
    if len(items) > most:
        raise BadWire("%d items; at most %d are taken" % (len(items), most))
    for item in items:
        if not item:
            raise BadWire("there is a comma too many")
        if " " in item or "\t" in item:
            raise BadWire("a comma is missing in: " + item.replace("\t", " ")[:_SHOWN])
    return items


def _prefix(text: str) -> tuple:
    try:
        return address.prefix_from_text(text)
    except BadWire:
        raise BadWire(_how_to_write(text))


def _how_to_write(text: str) -> str:
    """Say what is wrong with a prefix, and how to write it if that can be told."""
    ip_text, slash, length = text.partition("/")
    try:
        ip = address.ip_from_text(ip_text)
    except BadWire:
        return "%s is no network; one is written 192.168.1.0/24 or fd00:1::/64" % text[:_SHOWN]
    bits = _decimal(length)
    if slash and length == str(bits) and 0 <= bits <= 8 * len(ip):
        mask = ((1 << bits) - 1) << (8 * len(ip) - bits)
        network = (int.from_bytes(ip, "big") & mask).to_bytes(len(ip), "big")
        return "%s is an address in a network; the network is %s, the address alone %s" % (
            text,
            address.prefix_text((network, bits)),
            address.ip_text(ip),
        )
    return "behind the / of %s stands the length, a number from 0 to %d" % (text[:_SHOWN], 8 * len(ip))


def _routes(text: str) -> list:
    """Return the texts of the prefixes."""
    if text == "none":
        return []
    found = []
    for item in _items(text, MAX_ROUTES):
        prefix = _prefix(item)
        reason = no_subnet_reason(prefix)
        if reason:
            raise BadWire("%s can't be offered: %s" % (item, reason))
        item = address.prefix_text(prefix)
        if item not in found:
            found.append(item)
    return found


def _prefix_texts(text: str) -> list:
    """Return the texts of prefixes, each once; [] for none."""
    if text == "none":
        return []
    found = []
    for item in _items(text, MAX_ROUTES):
        item = address.prefix_text(_prefix(item))
        if item not in found:
            found.append(item)
    return found


def _prefixes_or(everything: str):
    """Return a reader of ceilings: the word for everything that is asked for, none, or prefixes (bytes, length)."""

    def read(text: str):
        if text == everything:
            return ANY
        if text == "none":
            return []
        if text in ("any", "all", "yes", "no", "*"):
            raise BadWire("%s, none, or networks like 192.168.1.0/24 are due here" % everything)
        return [_prefix(item) for item in _items(text, MAX_ROUTES)]

    def write(value) -> str:
        if value == ANY:
            return everything
        return ", ".join([address.prefix_text(prefix) for prefix in value]) or "none"

    return read, write


def _services(text: str):
    if text == "policy":
        return ANY
    if text == "none":
        return []
    return [_service(item) for item in _items(text, MAX_SERVICES)]


def _service(text: str) -> tuple:
    """Return (IP protocol, first port, last port) of tcp:22 or udp:5000-5010."""
    name, _, ports = text.partition(":")
    first_text, dash, last_text = ports.partition("-")
    first = _decimal(first_text)
    last = _decimal(last_text) if dash else first
    if name not in _PROTOCOLS or not 0 < first <= last <= LAST_PORT:
        raise BadWire("policy, none, or services like tcp:22, udp:5000-5010 are due here, not " + text[:_SHOWN])
    return _PROTOCOLS[name], first, last


def _services_text(value) -> str:
    if value == ANY:
        return "policy"
    return ", ".join([service_text(service) for service in value]) or "none"


def _servers(text: str) -> list:
    """Return host names and addresses; [] for off."""
    if text == "off":
        return []
    found = []
    for item in _items(text, MAX_SERVERS):
        try:
            address.ip_from_text(item)
        except BadWire:
            if not _is_host_name(item):
                raise BadWire("off, or names or addresses of time servers are due here, not " + item[:_SHOWN])
        found.append(item)
    return found


def _is_host_name(text: str) -> bool:
    if not 0 < len(text) <= _MAX_NAME:
        return False
    only_numbers = True
    for label in text.split("."):
        if not 0 < len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            return False
        for character in label:
            if character not in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-":
                return False
        only_numbers = only_numbers and label.isdigit()
    return not only_numbers  # 192.168.1 is half an address


def _same(value) -> str:
    return str(value)


def _yes_no(value) -> str:
    return "yes" if value else "no"


def _list_text(word: str):
    def write(value) -> str:
        return ", ".join(value) or word

    return write


def _suffixes(text: str):
    """Return DNS suffixes in lower case; [] for none but the mesh's own."""
    if text == "any":
        return ANY
    if text == "none":
        return []
    found = []
    for item in _items(text, MAX_SERVERS):
        if not _is_host_name(item) or item in ("all", "yes", "no", "mesh"):
            raise BadWire("any, none, or names like home.example are due here, not " + item[:_SHOWN])
        found.append(item.lower())
    return found


def _suffixes_text(value) -> str:
    return "any" if value == ANY else ", ".join(value) or "none"


_LANS = _prefixes_or("advertised")
_PUBLISH = _prefixes_or("lan")
_PEERS_ROUTES = _prefixes_or("any")

# MicroPython's dicts have no order, so this has.
_IN_ORDER = (
    Setting("login-server", _pref("LoginServer"), _same, "https://mesh.example.net"),
    Setting("auth-key-file", _path, _same, "/etc/wayhome/auth.key"),
    Setting("hostname", _pref("Hostname"), _same, "attic"),
    Setting("advertise-routes", _routes, _list_text("none"), "192.168.1.0/24, fd00:1::/64"),
    Setting("accept-routes", _flag, _yes_no, "yes"),
    Setting("snat", _flag, _yes_no, "no"),
    Setting("snat-except", _prefix_texts, _list_text("none"), "192.168.1.0/24"),
    Setting("lan-to-mesh", _flag, _yes_no, "yes"),
    Setting("mtu", _number(MIN_MTU_BYTES, MAX_MTU_BYTES), str, "1420"),
    Setting("lan-dns", _flag, _yes_no, "yes"),
    Setting("lan-dns-port", _number(1, LAST_PORT), str, "5353"),
    Setting("allow-lans", _LANS[0], _LANS[1], "192.168.1.0/24"),
    Setting("allow-services", _services, _services_text, "tcp:22"),
    Setting("allow-publish", _PUBLISH[0], _PUBLISH[1], "192.168.1.0/24"),
    Setting("allow-peers-routes", _PEERS_ROUTES[0], _PEERS_ROUTES[1], "10.0.0.0/8"),
    Setting("allow-names", _suffixes, _suffixes_text, "home.example"),
    Setting("allow-dns", _only_no("leaves this machine's DNS alone"), _yes_no, "no"),
    Setting("allow-exit", _only_no("neither is an exit node nor uses one"), _yes_no, "no"),
    Setting("ntp-servers", _servers, _list_text("off"), "192.168.1.1"),
    Setting("wireguard", _word("auto", "kernel", "userspace"), _same, "kernel"),
    Setting("wireguard-go", _program, _same, "/usr/bin/wireguard-go"),
    Setting("interface", _interface, _same, "wayhome0"),
    Setting("port", _number(1, LAST_PORT), _same, "41641"),
    Setting("log-level", _word("error", "warning", "info", "debug"), _same, "warning"),
    Setting("system-log", _flag, _yes_no, "yes"),
)
SETTINGS = {setting.name: setting for setting in _IN_ORDER}
NAMES = tuple([setting.name for setting in _IN_ORDER])
PREFS = {
    "login-server": "LoginServer",
    "hostname": "Hostname",
    "advertise-routes": "AdvertiseRoutes",
    "accept-routes": "AcceptRoutes",
    "snat": "SNAT",
    "snat-except": "SNATExcept",
    "lan-to-mesh": "LANToMesh",
    "mtu": "MTU",
    "lan-dns": "LANDNS",
    "lan-dns-port": "LANDNSPort",
}
_SECRET_WORDS = ("key", "secret", "password", "token")


# --- Reading ---


def parse(data: bytes) -> Config:
    """Return what a file says. Never raises: whatever the bytes are, what is wrong with them is in `faults`."""
    config = Config()
    problem = _no_text(data)
    if problem:
        config.faults.append(Fault(0, "", problem))
        return config
    if data[:3] == _BOM:
        data = data[3:]
    faults = 0
    number = 0
    for line in data.split(b"\n"):
        number += 1
        fault = _read_line(config, number, line)
        if fault is not None:
            faults += 1
            if faults <= MAX_FAULTS:
                config.faults.append(fault)
    _check_together(config)
    if faults > MAX_FAULTS:
        config.faults.append(Fault(0, "", "and %d more faults" % (faults - MAX_FAULTS)))
    for fault in config.faults:
        if fault.key in config.values:
            del config.values[fault.key]
            del config.lines[fault.key]
    return config


def _no_text(data: bytes) -> str:
    """Say why the file as a whole is no text of ours, or ""."""
    if len(data) > MAX_FILE_BYTES:
        return "the file has more than %d bytes; is it the right one?" % MAX_FILE_BYTES
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "the file is UTF-16, as some Windows editors write it; save it as UTF-8"
    return ""


def _read_line(config: Config, number: int, line: bytes):
    """Take one line in; return its Fault, or None."""
    if line[-1:] == b"\r":
        line = line[:-1]
    if len(line) > MAX_LINE_BYTES:
        return Fault(number, _shown(line), "a line of %d bytes; at most %d are taken" % (len(line), MAX_LINE_BYTES))
    line = line.strip(b" \t")
    if not line or line[:1] == b"#":
        return None
    key_bytes, equals, value_bytes = line.partition(b"=")
    key = _ascii(key_bytes.strip(b" \t"))
    known = key if key in SETTINGS else _known_in(key, bool(equals))
    value_bytes, problem = _value_of(value_bytes.strip(b" \t"))
    problem = _strange_byte(key_bytes) or (problem if equals else "")
    shown = _shown_safely(key if equals else "", line)
    if problem:
        return Fault(number, shown, problem, known)
    if not equals:
        return Fault(number, shown, _without_equals(key, known), known)
    if key not in SETTINGS:
        return Fault(number, shown, _unknown_key(key, known), known)
    if key in config.lines:
        return Fault(number, shown, "%s is set already, in line %d" % (key, config.lines[key]), key)
    value = str(value_bytes, "utf-8")
    setting = SETTINGS[key]
    config.lines[key] = number
    if not value:
        return Fault(number, shown, "there is no value; for example: %s = %s" % (key, setting.example), key)
    try:
        config.values[key] = setting.read(value)
    except BadWire as error:
        return Fault(number, shown, str(error), key)
    return None


def _value_of(data: bytes) -> tuple:
    """Return (value without comment and quotes, what is wrong or "")."""
    quote = data[:1]
    if quote in (b'"', b"'"):
        end = data.find(quote, 1)
        if end < 0:
            return b"", "the quote that opens the value is not closed"
        rest = data[end + 1 :].strip(b" \t")
        if rest and rest[:1] != b"#":
            return b"", "behind the closing quote nothing but a # comment may stand"
        value = data[1:end]
    else:
        value = _without_comment(data)
        if b'"' in value:
            return value, "a quote stands amid the value; put the whole value into quotes, or none of it"
    return value, _strange_byte(value)


def _without_comment(data: bytes) -> bytes:
    if data[:1] == b"#":
        return b""
    for space in (b" #", b"\t#"):
        at = data.find(space)
        if at >= 0:
            data = data[:at]
    return data.strip(b" \t")


def _strange_byte(data: bytes) -> str:
    """Say which character does not belong there, or ""."""
    for index in range(len(data)):
        byte = data[index]
        if 0x20 <= byte < 0x7F or byte == 9:
            continue
        for sequence, words in _NAMES_OF_BYTES:
            if data[index : index + len(sequence)] == sequence:
                return "there is " + words
        if byte < 0x20 or byte == 0x7F:
            return "there is a control character (0x%02x); type the line anew" % byte
        return "there is a character that is no plain letter, digit or sign (byte 0x%02x)" % byte
    return ""


def _without_equals(key: str, known: str) -> str:
    if key[:1] == "[":
        return "there are no sections here, only lines like: hostname = attic"
    if key[:1] == ";" or key[:2] == "//":
        return "a comment begins with #"
    if known:
        return "the = is missing; for example: %s = %s" % (known, SETTINGS[known].example)
    return "a setting is written like: hostname = attic"


def _unknown_key(key: str, known: str) -> str:
    if not key:
        return "there is nothing in front of the ="
    if key in ("auth-key", "authkey", "auth_key"):
        return "keep the key in a file that only root may read, and name that: auth-key-file = /etc/wayhome/auth.key"
    if known and key.lower() == known:
        return "settings are written in small letters: " + known
    if known:
        return "there is no such setting; did you mean %s?" % known
    return "there is no such setting"


def _known_in(text: str, is_key: bool) -> str:
    """Return the setting that a text which is none most likely means, or ""."""
    if not is_key:  # "hostname: attic", "hostname attic"
        for end in (" ", "\t", ":"):
            text = text.partition(end)[0]
    lower = text.lower().replace("_", "-").replace(" ", "-")
    if lower in SETTINGS:
        return lower
    if not is_key:
        return ""
    best, best_distance = "", 3
    for name in NAMES:
        if abs(len(name) - len(lower)) < best_distance:
            distance = _distance(lower, name)
            if distance < best_distance:
                best, best_distance = name, distance
    return best


def _distance(a: str, b: str) -> int:
    """Return how many letters have to be put in, left out or changed (two that changed places count as one)."""
    before: list = []
    row = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        older, before, row = before, row, [i]
        for j in range(1, len(b) + 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _check_together(config: Config) -> None:
    """Find what two sound lines say against each other."""
    allowed = config.values.get("allow-lans", ANY)
    if allowed == ANY:
        return
    for text in config.values.get("advertise-routes", ()):
        prefix = address.prefix_from_text(text)
        if not [one for one in allowed if address.overlaps(one, prefix)]:
            config.faults.append(
                Fault(
                    config.lines["advertise-routes"],
                    "advertise-routes",
                    "%s is offered here, and allow-lans in line %d leaves nothing of it"
                    % (text, config.lines["allow-lans"]),
                    "advertise-routes",
                )
            )
            return


def _shown_safely(key: str, line: bytes) -> str:
    """Return a line to be shown and logged; of one that may hold a secret only its beginning."""
    lower = _ascii(line).lower()
    for word in _SECRET_WORDS:
        if word in lower:
            return key[:_SHOWN_KEY] + " ... (not shown: it may hold a key)"
    return _shown(line)


def _shown(line: bytes) -> str:
    text = _ascii(line[: _SHOWN + 1])
    return text[:_SHOWN] + "..." if len(text) > _SHOWN else text


def _ascii(data: bytes) -> str:
    """Return text of one character a byte, with ? for what is not printable ASCII."""
    return "".join([chr(byte) if 0x20 <= byte < 0x7F else " " if byte == 9 else "?" for byte in data])


# --- Writing ---


def encode(values: dict) -> bytes:
    """Return a file that says these values."""
    lines = []
    for name in NAMES:
        if name in values:
            text = SETTINGS[name].write(values[name])
            lines.append("%s = %s\n" % (name, _quoted(text)))
    return "".join(lines).encode()


def _quoted(text: str) -> str:
    if text[:1] not in ('"', "'", "#") and '"' not in text and " #" not in text and "\t#" not in text:
        if text == text.strip(" \t"):
            return text
    quote = "'" if '"' in text else '"'
    return quote + text + quote
