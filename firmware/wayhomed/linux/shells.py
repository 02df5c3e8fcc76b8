"""Who is logged in to this machine from elsewhere, as far as its TCP connections tell. Source: proc(5), /proc/net/tcp.

A signal has no sender's address, and `sudo` forgets the SSH session that it runs in; the connection stands.
"""

import sys

from wayhomed.port import const, runtime

SSH_PORT = const(22)
_MOST_BYTES = const(1_048_576)  # some 7,000 connections; what stands behind is not looked at
_ESTABLISHED = b"01"
_MAPPED = bytes(10) + b"\xff\xff"


def logged_in_from() -> list:
    """Return the addresses (4 or 16 bytes) that hold a connection to this machine's SSH server. Never fails."""
    found: list = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        rest = b""
        try:
            for piece in runtime.read_pieces(path, _MOST_BYTES) or ():
                lines = (rest + piece).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    ip = client_of(line)
                    if ip is not None and ip not in found:
                        found.append(ip)
        except OSError:
            pass  # no IPv6, or a table beyond the limit
    return found


def client_of(line: bytes):
    """Return the other end's address if a line of the table is a connection to our SSH server, else None."""
    fields = line.split()
    if len(fields) < 4 or fields[3] != _ESTABLISHED:
        return None
    local, remote = fields[1].split(b":"), fields[2].split(b":")
    try:
        if len(local) != 2 or int(local[1], 16) != SSH_PORT:
            return None
        return _address(remote[0])
    except ValueError:
        return None


def _address(text: bytes):
    """Return the bytes of an address, which the kernel writes as words of its own byte order (little-endian here)."""
    if len(text) not in (8, 32):
        return None
    ip = b""
    for at in range(0, len(text), 8):
        ip += int(text[at : at + 8], 16).to_bytes(4, sys.byteorder)
    return ip[12:] if ip[:12] == _MAPPED else ip
