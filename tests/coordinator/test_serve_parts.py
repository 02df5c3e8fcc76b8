"""What `wayhome serve` is put together from: the relay map, the own CA, the URL, key files, and a full disk."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from wayhome import own_ca
from wayhome.bench.control_client import ControlClient
from wayhome.cli.admin_client import AdminClient
from wayhome.derp_map import MAX_NODES, OtherRelay, RelayPlace, derp_map, other_relay_from_text, other_relay_text
from wayhome.errors import HostError
from wayhome.key_file import load_or_make_key
from wayhome.serve import ServerUrl, ServeSettings, Service, everywhere, is_private, other_family, parse_url
from wayhomed.core.derp_map import DerpMap, read_derp_map
from wayhomed.core.netcheck import stun_servers
from wayhomed.wire.keys import MACHINE, key_from_text


def nodes(*stun: tuple[str, int], **place: Any) -> list[dict[str, Any]]:
    made = derp_map(RelayPlace(**{"host": "203.0.113.10", "port": 8443, **place}), stun)
    return list(made["Regions"]["900"]["Nodes"])


def test_the_relay_map_names_addresses_where_they_are_known():
    (node,) = nodes(("0.0.0.0", 3478), pin="sha256-raw:00")
    assert node["HostName"] == node["IPv4"] == "203.0.113.10" and node["IPv6"] == "none"
    assert (node["DERPPort"], node["STUNPort"], node["CertName"]) == (8443, 3478, "sha256-raw:00")
    (six,) = nodes(("::", 3478), host="2001:db8::1")
    assert (six["IPv4"], six["IPv6"]) == ("none", "2001:db8::1")
    (named,) = nodes(("0.0.0.0", 3478), host="derp.example.net")
    assert "IPv4" not in named and "CertName" not in named


def test_each_further_stun_address_is_a_node_of_its_own():
    first, second, third = nodes(("203.0.113.10", 3478), ("203.0.113.11", 3478), ("203.0.113.10", 3479))
    assert "STUNOnly" not in first
    assert (second["HostName"], second["STUNPort"], second["STUNOnly"]) == ("203.0.113.11", 3478, True)
    assert (third["HostName"], third["STUNPort"]) == ("203.0.113.10", 3479)
    assert len({node["Name"] for node in (first, second, third)}) == 3


def test_stun_listening_on_one_port_of_each_family_is_one_node_with_both_addresses():
    first, second = nodes(
        ("203.0.113.10", 3478),
        ("203.0.113.11", 3478),
        ("2001:db8::10", 3478),
        ("2001:db8::11", 3478),
        also=("2001:db8::10",),
    )
    assert (first["IPv4"], first["IPv6"], first["STUNPort"]) == ("203.0.113.10", "2001:db8::10", 3478)
    assert (second["IPv4"], second["IPv6"], second["STUNPort"]) == ("203.0.113.11", "2001:db8::11", 3478)
    assert second["STUNOnly"] and "STUNOnly" not in first


def test_stun_on_ipv6_is_offered_where_the_relay_itself_is_known_by_ipv4_alone():
    first, second, third = nodes(
        ("203.0.113.10", 3478), ("203.0.113.11", 3478), ("2001:db8::10", 3478), ("2001:db8::11", 3478)
    )
    assert (first["IPv4"], first["IPv6"]) == ("203.0.113.10", "none")
    assert (second["IPv4"], second["IPv6"]) == ("203.0.113.11", "2001:db8::10")
    assert (third["HostName"], third["IPv4"], third["IPv6"]) == ("2001:db8::11", "none", "2001:db8::11")


def test_two_ipv6_addresses_are_both_offered_by_a_server_without_ipv4():
    first, second = nodes(("2001:db8::10", 3478), ("2001:db8::11", 3478), host="2001:db8::10")
    assert (first["HostName"], first["IPv4"], first["IPv6"]) == ("2001:db8::10", "none", "2001:db8::10")
    assert (second["HostName"], second["IPv4"], second["IPv6"]) == ("2001:db8::11", "none", "2001:db8::11")


def test_two_ports_of_the_wildcards_are_two_nodes_with_all_that_the_relay_has():
    both = nodes(
        *((host, port) for port in (3478, 3479) for host in ("0.0.0.0", "::")),
        also=("2001:db8::10",),
    )
    assert [(node["IPv4"], node["IPv6"], node["STUNPort"]) for node in both] == [
        ("203.0.113.10", "2001:db8::10", 3478),
        ("203.0.113.10", "2001:db8::10", 3479),
    ]
    named = nodes(*((host, port) for port in (3478, 3479) for host in ("0.0.0.0", "::")), host="derp.example.net")
    assert [(node["HostName"], node["STUNPort"], "IPv4" in node, "IPv6" in node) for node in named] == [
        ("derp.example.net", 3478, False, False),
        ("derp.example.net", 3479, False, False),
    ]
    (_, ipv4_alone) = nodes(("0.0.0.0", 3478), ("0.0.0.0", 3479), host="derp.example.net")
    assert "IPv4" not in ipv4_alone and ipv4_alone["IPv6"] == "none"


def test_behind_a_name_the_first_stun_address_is_taken_to_be_the_names():
    first, second = nodes(("10.0.0.5", 3478), ("203.0.113.11", 3478), host="derp.example.net")
    assert (first["HostName"], first["STUNPort"], "IPv4" in first) == ("derp.example.net", 3478, False)
    assert (second["HostName"], second["STUNPort"]) == ("203.0.113.11", 3478)


def test_a_relay_map_has_no_more_nodes_than_a_board_takes():
    crowd = [(f"203.0.113.{number}", 3478) for number in range(10, 110)]
    made = derp_map(RelayPlace("203.0.113.10", 8443), crowd)
    assert len(made["Regions"]["900"]["Nodes"]) == MAX_NODES
    taken = read_derp_map(made, DerpMap()).regions[900]
    assert len(taken.nodes) == MAX_NODES
    assert len(stun_servers(read_derp_map(made, DerpMap()), {})) == MAX_NODES


def test_a_server_that_listens_on_an_address_of_each_family_is_found_at_both():
    listening = (("203.0.113.10", 8443), ("2001:db8::10", 8443))
    assert other_family("203.0.113.10", listening) == ["2001:db8::10"]
    assert other_family("2001:db8::10", listening) == ["203.0.113.10"]
    assert other_family("mesh.example.net", listening) == []
    for useless in ("", "::", "::1", "fe80::1", "localhost"):
        assert other_family("203.0.113.10", ((useless, 8443),)) == []
    assert other_family("127.0.0.1", (("::1", 8443),)) == ["::1"]


def test_the_wildcards_of_both_families_are_one_address_to_clients():
    assert len(nodes(("0.0.0.0", 3478), ("::", 3478))) == 1


def test_without_stun_clients_are_told_not_to_try():
    assert nodes()[0]["STUNPort"] == -1


PIN = "sha256-raw:" + "0f" * 32


def test_relays_that_run_elsewhere_have_regions_of_their_own():
    others = [other_relay_from_text(f"relay.example.net:8443,stun=3479,pin={PIN}"), other_relay_from_text("[::1]:443")]
    regions = derp_map(RelayPlace("203.0.113.10", 8443), [], others)["Regions"]
    assert [(key, region["RegionID"]) for key, region in regions.items()] == [("900", 900), ("901", 901), ("902", 902)]
    (node,) = regions["901"]["Nodes"]
    assert (node["HostName"], node["DERPPort"], node["STUNPort"]) == ("relay.example.net", 8443, 3479)
    assert (node["RegionID"], node["Name"], node["CertName"]) == (901, "901a", PIN)
    (last,) = regions["902"]["Nodes"]
    assert (last["IPv6"], last["DERPPort"], last["STUNPort"]) == ("::1", 443, 3478) and "CertName" not in last
    assert list(derp_map(None, [], others[:1])["Regions"]) == ["901"]


@pytest.mark.parametrize(
    "relay",
    [
        OtherRelay(RelayPlace("relay.example.net", 8443, PIN), 3478),
        OtherRelay(RelayPlace("2001:db8::1", 443), None),
    ],
)
def test_another_relays_text_reads_as_it_was_written(relay: OtherRelay):
    assert other_relay_from_text(other_relay_text(relay)) == relay


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relay",
        "relay:0",
        "relay:65536",
        "relay:1,stun=0",
        "relay:1,pin=1",
        f"relay:1,{PIN}",
        "relay:1,x=1",
        "::1:1",
    ],
)
def test_what_names_no_relay_is_refused_with_what_to_write(text: str):
    with pytest.raises(HostError, match="`wayhome relay` prints"):
        other_relay_from_text(text)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("192.168.1.5", True),
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("localhost", True),
        ("203.0.113.10", False),
        ("100.64.0.1", False),
        ("2001:db8::1", False),
        ("mesh.example.net", False),
    ],
)
def test_hosts_to_which_clients_speak_plain_http_for_good(host: str, private: bool):
    assert is_private(host) is private


def test_all_addresses_means_both_families():
    assert everywhere([("", 80), ("192.0.2.1", 81)])[0] == ("0.0.0.0", 80)
    assert everywhere([("192.0.2.1", 81)]) == [("192.0.2.1", 81)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://mesh.example.net", ("https", "mesh.example.net", 443)),
        ("http://192.0.2.1:8080/", ("http", "192.0.2.1", 8080)),
        ("https://[2001:db8::1]:8443", ("https", "2001:db8::1", 8443)),
    ],
)
def test_a_url_is_taken_apart(text: str, parts: tuple[str, str, int]):
    assert parse_url(text) == ServerUrl(*parts)


@pytest.mark.parametrize(
    "text", ["", "mesh.example.net", "ftp://h", "http://", "http://h:99999", "http://h/x", "http://u@h"]
)
def test_what_is_no_servers_url_is_refused(text: str):
    with pytest.raises(HostError, match="--url"):
        parse_url(text)


def test_a_private_key_is_made_once_and_for_its_owner_alone(tmp_path: Path):
    key, made = load_or_make_key(tmp_path / "k", os.urandom)
    assert made and load_or_make_key(tmp_path / "k", os.urandom) == (key, False)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    (tmp_path / "k").write_text("privkey:nonsense\n")
    with pytest.raises(HostError, match="holds no private key"):
        load_or_make_key(tmp_path / "k", os.urandom)


def test_the_own_ca_makes_a_certificate_that_its_clients_accept(tmp_path: Path):
    made = own_ca.prepare(tmp_path, "203.0.113.10")
    assert made.made and (tmp_path / "ca.key").stat().st_mode & 0o777 == made.key.stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(made.authority.read_bytes())
    certificate.verify_directly_issued_by(authority)
    ssl.create_default_context(cafile=str(made.authority))
    again = own_ca.prepare(tmp_path, "203.0.113.10")
    assert not again.made and x509.load_pem_x509_certificate(again.certificate.read_bytes()) == certificate


def test_the_own_ca_renews_the_certificate_for_a_new_host_and_before_its_end(tmp_path: Path):
    first = own_ca.prepare(tmp_path, "a.example").certificate.read_bytes()
    second = own_ca.prepare(tmp_path, "b.example").certificate.read_bytes()
    later = own_ca.prepare(tmp_path, "b.example", datetime.now(UTC) + timedelta(days=790)).certificate.read_bytes()
    assert len({first, second, later}) == 3
    assert own_ca.prepare(tmp_path, "b.example").authority.exists()


async def test_the_whole_server_starts_and_stops_within_a_process(tmp_path: Path):
    settings = ServeSettings(
        state=tmp_path / "state",
        url="http://127.0.0.1:1",
        listen=(("127.0.0.1", 0),),
        relay_listen=(("127.0.0.1", 0),),
        stun_listen=(("127.0.0.1", 0),),
    )
    for turn in range(2):
        service = await Service.start(settings)
        assert bool(service.made) is (turn == 0)
        relay_map = service.registry.world.derp_map["Regions"]["900"]["Nodes"]
        assert relay_map[0]["CertName"].startswith("sha256-raw:") and relay_map[0]["STUNPort"] > 0
        status: Any = await asyncio.to_thread(AdminClient(settings.state / "wayhome.sock").get, "status")
        assert status["url"] == settings.url and status["relay"]["clients"] == 0
        await service.stop()


async def test_a_server_that_cannot_start_leaves_nothing_running(tmp_path: Path):
    blocker = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = blocker.sockets[0].getsockname()
    bad = ServeSettings(tmp_path, "http://127.0.0.1:1", listen=(("127.0.0.1", 0), taken), relay=False)
    with pytest.raises(HostError, match="cannot listen"):
        await Service.start(bad)
    good = ServeSettings(tmp_path, "http://127.0.0.1:1", listen=(("127.0.0.1", 0),), relay=False)
    await (await Service.start(good)).stop()
    blocker.close()


async def test_a_state_directory_that_cannot_be_written_is_said_in_words(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="state directory"):
        await Service.start(ServeSettings(tmp_path / "file" / "state", "http://127.0.0.1:1"))


@pytest.mark.lab
async def test_a_full_disk_refuses_what_is_new_in_words_and_disturbs_nothing_else(tmp_path: Path):
    # its socket is reached through /proc/PID/root, and no unix socket's path is longer than 107 bytes
    state = Path(tempfile.mkdtemp(prefix="wayhome-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    serve = f"from wayhome.cli.main import main; main()' serve --state {state} --url {url} --listen 127.0.0.1:{port}"
    script = f"mount -t tmpfs -o size=3m none {state} && exec '{sys.executable}' -c '{serve} --no-relay"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 (it outlives this statement)
            ["unshare", "--mount", "sh", "-c", script],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    inside = Path(f"/proc/{process.pid}/root{state}")
    try:
        admin = AdminClient(inside / "wayhome.sock")
        deadline = time.monotonic() + 30
        while True:
            try:
                await asyncio.to_thread(admin.get, "status")
                break
            except HostError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                await asyncio.sleep(0.05)
        admin.post("users", body={"name": "anna", "display_name": ""})
        made: Any = admin.post("keys", body={"user": "anna", "tags": [], "reusable": True, "ephemeral": False})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /key?v=130 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        server_key = key_from_text(MACHINE, answer[answer.index('"publicKey":"') + 13 :][:69])
        friend = await ControlClient.connect("127.0.0.1", port, server_key)
        await friend.register(auth_key=made["key"])
        stream = friend.poll()
        await stream.message()
        await friend.update(Endpoints=["192.0.2.1:1"])

        fill(inside / "ballast")
        refused = None
        for number in range(50):
            client = await ControlClient.connect("127.0.0.1", port, server_key)
            answered = await client.register(auth_key=made["key"], hostname=f"late-{number}")
            client.close()
            if answered["Error"]:
                refused = answered["Error"]
                break
        assert refused and "Traceback" not in refused, refused
        assert not stream.ended
        (inside / "ballast").unlink()
        client = await ControlClient.connect("127.0.0.1", port, server_key)
        assert (await client.register(auth_key=made["key"], hostname="after"))["MachineAuthorized"]
        assert (await friend.update(Endpoints=["192.0.2.2:2"])).status == 200
        client.close()
        friend.close()
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        state.rmdir()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
