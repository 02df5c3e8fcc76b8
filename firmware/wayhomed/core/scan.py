"""The devices of a LAN, put together from what was heard of them.

    ARP and IPv6 echoes, the kernel's table   who has which address: the only thing that makes a device
    DHCP leases                               a name; a device that sleeps, too
    mDNS, SSDP                                names and services, told by the device's own address about itself

Whatever a device says about another one's address is passed over, and what comes from an address that two devices
claim. Names are strangers' texts: whoever prints them makes them visible. The number of devices, of their addresses,
services and of what is read from each is limited; of those beyond there is only a number.
"""

from binascii import crc32

from wayhomed.port import const
from wayhomed.wire import address, dns, lan_frames, mdns, ssdp
from wayhomed.wire.errors import BadWire

# Chosen by us
MAX_DEVICES = const(1024)  # a /22 full of them
MAX_ADDRESSES = const(8)  # of a device; IPv6 with private addresses makes some
MAX_SERVICES = const(16)
MAX_KINDS = const(48)  # of service that are asked for
MAX_NAME = const(63)
_MAX_ANSWERS = const(64)  # read from one device
_BITS = const(131_072)  # to count those left out: 16 KB count 10,000 with an error of 4 %
_FIRST_KINDS = (
    "_http._tcp",
    "_https._tcp",
    "_ssh._tcp",
    "_smb._tcp",
    "_ipp._tcp",
    "_ipps._tcp",
    "_printer._tcp",
    "_pdl-datastream._tcp",
    "_rtsp._tcp",
    "_nfs._tcp",
    "_home-assistant._tcp",
    "_workstation._tcp",
)

NOW = "now"  # it answered during this scan
TABLE = "table"  # the kernel knows it from before
LEASE = "lease"  # only its lease is there: off, asleep, or away


class Device:
    """One device: mac; interface's name; seen: NOW, TABLE or LEASE; addresses: ips, IPv4 first; names by where they
    come from: mdns, dhcp; model: what SSDP tells of it; services: {(kind, port)}; is_disputed: somebody else claims one
    of its addresses too; more_addresses: how many are left out.
    """

    def __init__(self, mac: bytes, interface: str, seen: str):
        self.mac = mac
        self.interface = interface
        self.seen = seen
        self.addresses: list = []
        self.more_addresses = 0
        self.names: dict = {}
        self.model = ""
        self.services: set = set()
        self.is_disputed = False
        self.answers = 0

    def name(self) -> str:
        """Return the best name there is, "" if there is none."""
        return self.names.get("mdns") or self.names.get("dhcp") or ""

    def as_json(self) -> dict:
        return {
            "name": self.name(),
            "names": self.names,
            "model": self.model,
            "mac": lan_frames.mac_text(self.mac),
            "interface": self.interface,
            "addresses": [address.ip_text(ip) for ip in self.addresses],
            "more_addresses": self.more_addresses,
            "services": [{"kind": kind, "port": port} for kind, port in sorted(self.services)],
            "ports": suggested_ports(self.services),
            "seen": self.seen,
            "disputed": self.is_disputed,
            "publish_as": publish_name(self),
        }


class Scan:
    """One scan. own: this machine's MACs, which are no devices."""

    def __init__(self, own: set):
        self._own = own
        self._by_mac: dict = {}
        self._by_ip: dict = {}  # (interface, ip) -> Device, None where two claim it
        self._left_out = bytearray(_BITS // 8)
        self.left_out = 0
        self._kinds = list(_FIRST_KINDS)
        self._asked = 0

    def seen(self, interface: str, mac: bytes, ip: bytes, how: str) -> None:
        """Somebody with this MAC has this address. What answers now has the word over what is only remembered."""
        if mac in self._own or not lan_frames.is_device(mac):
            return
        holder = self._by_ip.get((interface, ip), False)
        if holder is None:
            return
        if holder and holder.mac != mac:
            if how == NOW and holder.seen == NOW:
                holder.is_disputed = True
                other = self._device(interface, mac, how)
                if other is not None:
                    other.is_disputed = True
                    _add_address(other, ip)
                self._by_ip[(interface, ip)] = None
                return
            if how != NOW:
                return
            holder.addresses = [one for one in holder.addresses if one != ip]
        device = self._device(interface, mac, how)
        if device is None:
            return
        if how == NOW:
            device.seen = NOW
        if _add_address(device, ip):
            self._by_ip[(interface, ip)] = device

    def _device(self, interface: str, mac: bytes, how: str):
        device = self._by_mac.get(mac)
        if device is None:
            if len(self._by_mac) >= MAX_DEVICES:
                self._leave_out(mac)
                return None
            device = self._by_mac[mac] = Device(mac, interface, how)
        return device

    def _leave_out(self, mac: bytes) -> None:
        bit = crc32(mac) % _BITS
        if not self._left_out[bit >> 3] & 1 << (bit & 7):
            self._left_out[bit >> 3] |= 1 << (bit & 7)
            self.left_out += 1

    def lease_read(self, interface: str, lease) -> None:
        """A DHCP server of this machine gave a core.leases.Lease for a network of this interface."""
        self.seen(interface, lease.mac, lease.ip, LEASE)
        device = self._by_mac.get(lease.mac)
        if device is not None and lease.name and lease.ip in device.addresses:
            device.names["dhcp"] = _name(lease.name)

    def mdns_questions(self) -> list:
        """Return the datagrams that ask for services not asked for yet: the usual kinds, then what answers named."""
        wanted = [mdns.service_name(kind) for kind in self._kinds[self._asked :]]
        if not self._asked:
            wanted.insert(0, mdns.all_services())
        self._asked = len(self._kinds)
        return _datagrams(wanted)

    def name_questions(self, interface: str) -> list:
        """Return the datagrams that ask mDNS for the names of addresses whose devices have told none."""
        wanted = [
            mdns.reverse_name(ip)
            for (where, ip), device in self._by_ip.items()
            if where == interface and device is not None and len(ip) == 4 and "mdns" not in device.names
        ]
        return _datagrams(wanted)

    def mdns_received(self, interface: str, source: bytes, datagram: bytes) -> None:
        """An mDNS answer came from an address. Raises BadWire."""
        device = self._teller(interface, source)
        answers = mdns.decode_answers(datagram)
        for labels, target in answers.pointers:
            if labels == mdns.all_services():
                kind = mdns.service_kind(target)
                if kind and kind not in self._kinds and len(self._kinds) < MAX_KINDS:
                    self._kinds.append(kind)
        if device is None:
            return
        hosts = [labels for labels, ip in answers.addresses if ip == source]
        hosts += [target for labels, target in answers.pointers if _folded(labels) == mdns.reverse_name(source)]
        own_hosts = [_folded(labels) for labels in hosts]
        foreign = [_folded(labels) for labels, ip in answers.addresses if ip != source]
        for host in hosts:
            if len(host) == 2 and host[1].lower() == b"local":
                device.names.setdefault("mdns", _name_of_label(host[0]))
        for labels, port, host in answers.services:
            kind = mdns.service_kind(labels[1:])
            # Of a host that has only other addresses here (a reflector tells of many) it is another's service.
            is_foreign = _folded(host) in foreign and _folded(host) not in own_hosts
            if kind and port and not is_foreign and len(device.services) < MAX_SERVICES:
                device.services.add((kind, port))

    def ssdp_received(self, interface: str, source: bytes, datagram: bytes) -> None:
        """An SSDP answer came from an address. Raises BadWire."""
        device = self._teller(interface, source)
        server = ssdp.decode_answer(datagram)["server"]
        if device is not None and server and not device.model:
            device.model = server[:MAX_NAME]

    def _teller(self, interface: str, source: bytes):
        """Return the Device that an answer comes from, None for nobody we know. Raises BadWire after too many."""
        device = self._by_ip.get((interface, source))
        if device is not None:
            device.answers += 1
            if device.answers > _MAX_ANSWERS:
                raise BadWire("more answers than one device has to give")
        return device

    def devices(self) -> list:
        """Return the Devices, by interface and address."""
        found = [device for device in self._by_mac.values() if device.addresses]
        return sorted(found, key=lambda device: (device.interface, len(device.addresses[0]), device.addresses[0]))

    def find(self, name: str) -> list:
        """Return the Devices that bear this name."""
        wanted = name.lower()
        return [
            device
            for device in self._by_mac.values()
            if wanted in [one.lower() for one in device.names.values()] + [publish_name(device)]
        ]


def suggested_ports(services: set) -> list:
    """Return ["tcp:443", ...]: the ports of the services, as `wayhome publish --port` takes them."""
    found = set()
    for kind, port in services:
        found.add((kind.rpartition("._")[2], port))
    # Announced to say only that the machine is there; discard's port is nobody's service.
    return ["%s:%d" % one for one in sorted(found) if one[1] != 9]


def publish_name(device: Device) -> str:
    """Return a name that a published device may bear: the device's own made fit, or one by its address."""
    made = ""
    for letter in device.name().lower():
        if letter in "abcdefghijklmnopqrstuvwxyz0123456789":
            made += letter
        elif made and made[-1] != "-":
            made += "-"
    made = made[:MAX_NAME].strip("-")
    if made and made != "list":
        return made
    return "device-" + (str(device.addresses[0][-1]) if device.addresses and len(device.addresses[0]) == 4 else "x")


def _add_address(device: Device, ip: bytes) -> bool:
    if ip in device.addresses:
        return True
    if len(device.addresses) >= MAX_ADDRESSES:
        device.more_addresses += 1
        return False
    device.addresses = sorted(device.addresses + [ip], key=lambda one: (len(one), one[:2] == b"\xfe\x80", one))
    return True


def _datagrams(names: list) -> list:
    most = mdns.MAX_QUESTIONS
    return [mdns.encode_questions(names[start : start + most]) for start in range(0, len(names), most)]


def _folded(labels: tuple) -> tuple:
    return tuple([label.lower() for label in labels])


def _name_of_label(label: bytes) -> str:
    try:
        return _name(str(label, "utf-8"))
    except ValueError:
        return _name(dns.name_text((label,)))


def _name(text: str) -> str:
    return text[:MAX_NAME]
