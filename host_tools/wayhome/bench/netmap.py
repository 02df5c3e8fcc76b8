"""How the board's daemon takes in a netmap, beside the whole message read into plain dicts on the same Python."""

import json
import struct
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from h2.config import H2Configuration
from h2.connection import H2Connection

from wayhomed.wire.control import encode_map_frame
from wayhomed.wire.http2 import Http2Client
from wayhomed.wire.noise import Session

from ..images import micropython
from ..images.apt_root import NoDebianMirror
from .metric import Metric

SUMMARY = "1,000 and 2,500 peers on an 8 MB heap, then one difference: time and peak memory, on both Pythons"

ROUNDS = 3
SIZES = (1000, 2500)
_ROOT = Path(__file__).parents[3]
_TIMED = Path(__file__).with_name("_netmap_timed.py")
_FRAME_BYTES = 16_384
_ALTERNATIVE = "json.loads of the whole message into plain dicts, in the same run"
_FIGURES = (("ms", "ms"), ("heap_kb", "KiB"), ("rss_kb", "KiB"), ("delta_us", "us"))


def peer(number: int) -> dict[str, object]:
    """Return a peer as stock coordinators describe one: much of it is of no use to a board."""
    high, low = number >> 8, number & 255
    addresses = [f"100.64.{high}.{low}/32", f"fd7a:115c:a1e0::{number:x}/128"]
    routes = [f"10.{high}.{low}.0/24"] if number % 10 == 0 else []
    return {
        "ID": 1_000_000 + number,
        "StableID": f"n{number}CNTRL",
        "Name": f"machine-{number}.tail12ab.example.net.",
        "User": 2_147_455_555 - number % 50,
        "Key": f"nodekey:{number:064x}",
        "KeyExpiry": "2027-05-01T00:00:00Z",
        "Machine": f"mkey:{number + 7:064x}",
        "DiscoKey": f"discokey:{number + 9:064x}",
        "Addresses": addresses,
        "AllowedIPs": addresses + routes,
        "Endpoints": [f"203.0.{high}.{low}:41641", f"192.168.1.{low}:41641", f"[2001:db8::{number:x}]:41641"],
        "HomeDERP": number % 20 + 1,
        "Hostinfo": {
            "OS": "linux",
            "OSVersion": "6.12.20-amd64",
            "Hostname": f"machine-{number}",
            "Services": [{"Proto": "peerapi4", "Port": 47_123}, {"Proto": "peerapi6", "Port": 47_123}],
            "RoutableIPs": routes,
        },
        "Created": "2026-10-01T09:00:00.123456789Z",
        "Cap": 130,
        "PrimaryRoutes": routes or None,
        "LastSeen": "2026-11-20T12:00:00Z",
        "Online": number % 3 != 0,
        "MachineAuthorized": True,
        "CapMap": {"https://tailscale.com/cap/file-sharing": None},
        "ComputedName": f"machine-{number}",
    }


def first_message(peers: int) -> bytes:
    """Return the first message of a stream."""
    regions = {
        str(region): {
            "RegionID": region,
            "RegionCode": f"r{region}",
            "RegionName": f"Region {region}",
            "Nodes": [
                {"Name": f"{region}{letter}", "RegionID": region, "HostName": f"relay{region}{letter}.example.net"}
                for letter in "abc"
            ],
        }
        for region in range(1, 21)
    }
    rule = {"SrcIPs": ["100.64.0.0/10"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65_535}}]}
    response = {
        "Node": {**peer(0), "ID": 1, "Key": "nodekey:" + "ab" * 32},
        "DERPMap": {"Regions": regions, "omitDefaultRegions": True},
        "Peers": [peer(number) for number in range(1, peers + 1)],
        "DNSConfig": {"Domains": ["tail12ab.example.net"], "Proxied": True},
        "Domain": "example.net",
        "PacketFilters": {"base": [rule]},
        "UserProfiles": [{"ID": 2_147_455_555 - n, "LoginName": f"user{n}@example.net"} for n in range(50)],
        "SSHPolicy": {"rules": [{"principals": [{"any": True}], "action": {"accept": True}}] * 50},
    }
    return json.dumps(response, separators=(",", ":")).encode()


def stream_of(messages: list[bytes]) -> bytes:
    """Return what a coordinator sends behind its handshake to answer the poll with these messages."""
    client = Http2Client(paced=True)
    number = client.request("POST", "wayhome.example", "/machine/map", [], b"{}")
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    server.send_headers(number, [(":status", "200"), ("content-type", "application/json")])
    # By hand from here: the h2 library would wait for the client's windows, which the client opens as it reads on.
    out = bytearray(server.data_to_send())
    body = b"".join(encode_map_frame(message) for message in messages)
    for at in range(0, len(body), _FRAME_BYTES):
        part = body[at : at + _FRAME_BYTES]
        out += struct.pack(">BHBBI", len(part) >> 16, len(part) & 0xFFFF, 0, 0, number) + part
    return Session(bytes([2]) * 32, bytes([1]) * 32, b"").seal(bytes(out))


def run() -> list[Metric]:
    """Measure each side in a process of its own, in turn."""
    pythons = {"cpython": [sys.executable]}
    try:
        pythons["micropython"] = micropython.command(micropython.fetch(_ROOT / "build"))
    except NoDebianMirror as error:
        print(error, file=sys.stderr)
    delta = {"PeersChanged": [{**peer(5), "Name": "renamed.tail12ab.example.net."}]}
    metrics = []
    with tempfile.TemporaryDirectory() as folder:
        for peers in SIZES:
            stream = Path(folder) / str(peers)
            stream.write_bytes(stream_of([first_message(peers), json.dumps(delta).encode()]))
            for name, words in pythons.items():
                metrics += _measured(peers, name, words, stream)
    return metrics


def _measured(peers: int, python: str, words: list[str], stream: Path) -> list[Metric]:
    sides: dict[str, dict[str, list[float]]] = {"ours": defaultdict(list), "whole": defaultdict(list)}
    failure = ""
    for _ in range(ROUNDS):
        for side, figures in sides.items():
            command = [*words, str(_TIMED), str(_ROOT / "firmware"), str(stream), side]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            word, _, rest = done.stdout.partition(" ")
            if word != "taken":
                failure = rest.strip()
                continue
            for (figure, _unit), value in zip(_FIGURES, rest.split(), strict=False):
                figures[figure].append(float(value))
    if not sides["ours"]:
        raise RuntimeError(f"{python} could not take in {peers} peers: {failure}")
    metrics = []
    for figure, unit in _FIGURES:
        if figure == "heap_kb" and python == "cpython":
            continue  # it has no count of its own; rss_kb tells
        against = median(sides["whole"][figure]) if sides["whole"] else None
        text = _ALTERNATIVE if against is not None else f"{_ALTERNATIVE}: FAILS ({failure})"
        name = f"{peers}_peers_{python}_{figure}"
        metrics.append(Metric(name, median(sides["ours"][figure]), against, text, unit, ROUNDS))
    return metrics
