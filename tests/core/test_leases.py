"""Leases of dnsmasq, OpenWrt and ISC's dhcpd."""

from wayhomed.core import leases

DNSMASQ = """1764000000 00:11:32:aa:bb:cc 192.168.1.20 nas 01:00:11:32:aa:bb:cc
1764000001 52:54:00:00:00:01 192.168.1.21 * *
duid 00:01:00:01:2f
1764000002 7 fd00:1::20 nas 00:01
broken
1764000003 52:54:00:00:00:02 192.168.1.999 x *
"""
ISC = """# The format of this file is documented in the dhcpd.leases(5) manual page.
lease 192.168.1.30 {
  starts 2 2026/11/24 08:00:00;
  ends 2 2026/11/24 09:00:00;
  binding state active;
  hardware ethernet 00:11:32:aa:bb:cc;
  client-hostname "old";
}
lease 192.168.1.30 {
  binding state active;
  hardware ethernet 00:11:32:aa:bb:cc;
  client-hostname "camera";
}
lease 192.168.1.31 {
  binding state free;
  hardware ethernet 00:11:32:aa:bb:cd;
}
lease 192.168.1.32 {
  binding state active;
}
"""


def told(text):
    return [(lease.ip, lease.mac, lease.name) for lease in leases.read_leases(text)]


def test_dnsmasqs_leases_are_read():
    assert told(DNSMASQ) == [
        (b"\xc0\xa8\x01\x14", b"\x00\x11\x32\xaa\xbb\xcc", "nas"),
        (b"\xc0\xa8\x01\x15", b"\x52\x54\x00\x00\x00\x01", ""),
    ]


def test_of_iscs_leases_the_newest_that_is_active_counts():
    assert told(ISC) == [(b"\xc0\xa8\x01\x1e", b"\x00\x11\x32\xaa\xbb\xcc", "camera")]


def test_what_is_no_file_of_leases_holds_none():
    for text in (
        "",
        "\n\n",
        "lease {",
        "}",
        "lease x {\nhardware ethernet y\n}\n",
        "hardware ethernet a;",
        "\0\x1b[2J",
    ):
        assert told(text) == []


def test_more_leases_than_may_be_are_left_out():
    line = "1 02:00:00:00:00:01 10.0.{}.{} x *"
    block = "lease 10.0.{}.{} {{\nhardware ethernet 02:00:00:00:00:01;\n}}"
    for form in (line, block):
        text = "\n".join([form.format(n >> 8, n & 255) for n in range(5000)])
        assert len(told(text)) == leases.MAX_LEASES
