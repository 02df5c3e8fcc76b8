"""Published devices: addresses in the mesh that this board answers for, each mapped 1:1 to a device on its LAN.

They reach the board in its own Node's capability map, under KEY:
    [{"Name": "nas", "Address4": "100.64.0.50", "Target4": "192.168.1.10", "Address6": ..., "Target6": ...,
      "Ports": ["tcp:80", "udp:5000-5010"]}]
Without Ports every port is the policy's business alone. An entry that we can't read in full publishes nothing.
"""

from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

KEY = "wayhome:published"
MAX_PUBLISHED = const(1024)
MAX_PORTS = const(64)
_MAX_NAME = const(63)
_PROTOCOLS = {"tcp": const(6), "udp": const(17)}


class Published:
    """name; pairs: [(mesh address, LAN address)], one a family; ports: None or [(IP protocol, first, last)]."""

    def __init__(self, name: str, pairs: list, ports):
        self.name = name
        self.pairs = pairs
        self.ports = ports


def read_published(cap_map: dict) -> tuple:
    """Return ([Published], [sentences about entries that were refused])."""
    entries = cap_map.get(KEY)
    if not entries:
        return [], []
    if not isinstance(entries, list) or len(entries) > MAX_PUBLISHED:
        return [], ["the list of published devices is no list of at most %d; none is published" % MAX_PUBLISHED]
    found = []
    problems = []
    taken = set()
    for index, entry in enumerate(entries):
        try:
            device = _read(entry)
            for mesh_ip, _target in device.pairs:
                if mesh_ip in taken:
                    raise BadWire("its address is another's already")
        except BadWire as error:
            problems.append("published device %d is refused: %s" % (index, error))
            continue
        taken.update([mesh_ip for mesh_ip, _target in device.pairs])
        found.append(device)
    return found, problems


def _read(entry) -> Published:
    if not isinstance(entry, dict):
        raise BadWire("it is not an object")
    name = entry.get("Name")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
        raise BadWire("it has no name")
    pairs = []
    for mesh_key, target_key, length in (("Address4", "Target4", 4), ("Address6", "Target6", 16)):
        mesh_text = entry.get(mesh_key)
        target_text = entry.get(target_key)
        # An address of a family in which the device has none is no fault: the name may still show it.
        if not mesh_text or not target_text:
            continue
        mesh_ip = address.ip_from_text(mesh_text)
        target = address.ip_from_text(target_text)
        if len(mesh_ip) != length or len(target) != length:
            raise BadWire(mesh_key + " or " + target_key + " is of the other family")
        pairs.append((mesh_ip, target))
    if not pairs:
        raise BadWire("it has no address with a target")
    ports = entry.get("Ports")
    return Published(name, pairs, None if ports is None else _read_ports(ports))


def _read_ports(texts) -> list:
    if not isinstance(texts, list) or len(texts) > MAX_PORTS:
        raise BadWire("Ports is no list of at most %d" % MAX_PORTS)
    return [_read_port(text) for text in texts]


def _read_port(text) -> tuple:
    """Return (IP protocol, first, last) of "tcp:80" or "udp:5000-5010"."""
    if not isinstance(text, str) or text.find(":") < 0:
        raise BadWire("a port is written tcp:80 or udp:5000-5010")
    protocol, _, numbers = text.partition(":")
    if protocol not in _PROTOCOLS:
        raise BadWire("a port's protocol is tcp or udp")
    first, dash, last = numbers.partition("-")
    low = _number(first)
    high = _number(last) if dash else low
    if low > high:
        raise BadWire("a range of ports that does not go upwards")
    return _PROTOCOLS[protocol], low, high


def _number(text: str) -> int:
    if not 0 < len(text) <= 5:
        raise BadWire("a port is a number from 1 to 65535")
    for digit in text:
        if digit not in "0123456789":
            raise BadWire("a port is a number from 1 to 65535")
    number = int(text)
    if not 0 < number <= 65535:
        raise BadWire("a port is a number from 1 to 65535")
    return number
