"""DHCP servers' files of leases: who got which address under which name.

    dnsmasq, OpenWrt   1764000000 00:11:32:aa:bb:cc 192.168.1.20 nas 01:00:11:32:aa:bb:cc
    ISC dhcpd          lease 192.168.1.20 { ends 2 2026/11/24 09:00:00; hardware ethernet 00:11:32:aa:bb:cc;
                       client-hostname "nas"; binding state active; }

A name is what the device called itself. What can't be read is passed over: the file is another program's.
Source: dnsmasq(8), dhcpd.leases(5).
"""

from wayhomed.port import const
from wayhomed.wire import address, lan_frames
from wayhomed.wire.errors import BadWire

# Chosen by us: where Debian, OpenWrt and Pi-hole keep them
PATHS = (
    "/tmp/dhcp.leases",
    "/var/lib/misc/dnsmasq.leases",
    "/var/lib/dnsmasq/dnsmasq.leases",
    "/etc/pihole/dhcp.leases",
    "/var/lib/dhcp/dhcpd.leases",
)
MAX_BYTES = const(1_048_576)
MAX_LEASES = const(4096)
_UNNAMED = "*"


class Lease:
    """ip (IPv4 bytes), mac, name ("" where it told none)."""

    def __init__(self, ip: bytes, mac: bytes, name: str):
        self.ip = ip
        self.mac = mac
        self.name = name


def read_leases(text: str) -> list:
    """Return the Leases of a file of either kind, MAX_LEASES at most; of an address that stands twice the later."""
    by_ip: dict = {}
    for lease in _isc(text) if "lease " in text and "{" in text else _dnsmasq(text):
        if len(by_ip) >= MAX_LEASES and lease.ip not in by_ip:
            break
        by_ip[lease.ip] = lease
    return list(by_ip.values())


def _dnsmasq(text: str) -> list:
    found: list = []
    for line in text.split("\n", MAX_LEASES)[:MAX_LEASES]:
        words = line.split(None, 4)
        if len(words) >= 4:
            _add(found, words[2], words[1], "" if words[3] == _UNNAMED else words[3])
    return found


def _isc(text: str) -> list:
    found: list = []
    ip = mac = name = ""
    is_free = False
    for line in text.split("\n"):
        words = line.strip().rstrip(";").split()
        if len(words) == 3 and words[0] == "lease":
            ip, mac, name, is_free = words[1], "", "", False
        elif words[:2] == ["hardware", "ethernet"] and len(words) == 3:
            mac = words[2]
        elif words[:1] == ["client-hostname"] and len(words) == 2:
            name = words[1].strip('"')
        elif words[:2] == ["binding", "state"]:
            is_free = words[2:] != ["active"]
        elif words == ["}"] and ip:
            if not is_free:
                _add(found, ip, mac, name)
            ip = ""
    return found


def _add(found: list, ip_text: str, mac_text: str, name: str) -> None:
    try:
        ip, mac = address.ip_from_text(ip_text), lan_frames.mac_from_text(mac_text)
    except BadWire:
        return  # DHCPv6's lines too, which bear no MAC
    if len(ip) == address.IPV4_BYTES:
        found.append(Lease(ip, mac, name))
