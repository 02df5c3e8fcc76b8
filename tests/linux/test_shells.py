"""Who is logged in over SSH, from the kernel's table of TCP connections."""

from wayhomed.linux.shells import client_of, logged_in_from
from wayhomed.wire.address import ip_from_text

# As this kernel prints them: local, remote, state; the rest does not matter.
HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"


def line(local, remote, state=b"01"):
    return b"   0: " + local + b" " + remote + b" " + state + b" 00000000:00000000 00:00000000 00000000     0"


def test_a_connection_to_the_ssh_server_has_its_clients_address():
    assert client_of(line(b"0100A8C0:0016", b"0A004064:D431")) == ip_from_text("100.64.0.10")
    six = b"5C117AFD0000E0A10000000001000000"
    assert client_of(line(b"0" * 32 + b":0016", six + b":D431")) == ip_from_text("fd7a:115c:a1e0::1")


def test_an_ipv4_client_of_an_ipv6_socket_is_one_of_ipv4():
    mapped = b"0000000000000000FFFF00000A004064"
    assert client_of(line(b"0" * 32 + b":0016", mapped + b":D431")) == ip_from_text("100.64.0.10")


def test_other_ports_other_states_and_other_lines_are_nobody():
    for bad in (
        HEAD,
        b"",
        b"   0: x",
        line(b"0100A8C0:0050", b"0A004064:D431"),
        line(b"0100A8C0:0016", b"0A004064:D431", b"0A"),
        line(b"0100A8C0", b"0A004064:D431"),
        line(b"0100A8C0:0016:1", b"0A004064:D431"),
        line(b"0100A8C0:0016", b"0A0040:D431"),
        line(b"0100A8C0:0016", b"0A00406x:D431"),
        line(b"0100A8C0:zz", b"0A004064:D431"),
    ):
        assert client_of(bad) is None, bad


def test_this_machines_own_table_can_be_read():
    assert isinstance(logged_in_from(), list)
