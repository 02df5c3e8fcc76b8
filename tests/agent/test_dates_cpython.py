"""Certificates' dates on boards that know the time, know it better than their clock, or do not know it."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.clocks import NOW_S, FakeMachine
from agent.fakes import until, world
from wayhomed.agent import control_session
from wayhomed.agent.certificates import date_problem, tls_by_authorities
from wayhomed.agent.clock import Settings as ClockSettings
from wayhomed.agent.control_session import Phase
from wayhomed.agent.version import BUILD_S
from wayhomed.core.times import text_from_seconds
from wayhomed.port import net, net_cpython

DAY_S = 86_400
TODAY_S = int(datetime.now(UTC).timestamp())  # what OpenSSL goes by
GOOD = (TODAY_S - 30 * DAY_S, TODAY_S + 300 * DAY_S)


class Authority:
    """One that this machine believes, and the certificates it signs for localhost."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), (0, 4_000_000_000), is_authority=True)
        self.path = folder / "ca.crt"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name, public_key, dates, is_authority=False):
        builder = x509.CertificateBuilder(
            self.name,
            name,
            public_key,
            x509.random_serial_number(),
            *(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=each) for each in dates),
        )
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def context(self, dates) -> ssl.SSLContext:
        """Return what a server of these dates needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([]), key.public_key(), dates)
        path = self.folder / "server.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture
def authority(tmp_path, monkeypatch):
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path))
    monkeypatch.setattr(net_cpython, "_contexts", {})
    return made


class Time:
    """What the daemon knows of the time."""

    def __init__(self, trusted_s=0, floor_s=BUILD_S, right=False):
        self._trusted_s, self._floor_s, self._right = trusted_s, floor_s, right

    def is_right(self):
        return self._right

    def trusted_now_s(self):
        return self._trusted_s

    def floor_s(self):
        return self._floor_s


@asynccontextmanager
async def serving(context):
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def outcome(context, time) -> str:
    """Return "in" if the certificate was taken, else why not."""
    async with serving(context) as port:
        stream = await net.connect_tcp(bytes((127, 0, 0, 1)), port, 5_000, 0)
        try:
            await tls_by_authorities(stream, "localhost", "", time)
        except net.TlsRefused as refusal:
            return str(refusal)
        finally:
            stream.close()
    return "in"


async def test_with_a_right_clock_tls_judges_all_dates(authority):
    right = Time(TODAY_S, right=True)
    assert await outcome(authority.context(GOOD), right) == "in"
    assert "expired" in await outcome(authority.context((GOOD[0], TODAY_S - DAY_S)), right)
    assert "not yet valid" in await outcome(authority.context((TODAY_S + DAY_S, GOOD[1])), right)


async def test_with_a_wrong_clock_and_a_trusted_time_that_time_judges(authority):
    later = TODAY_S + 500 * DAY_S
    valid_then = (later - DAY_S, later + DAY_S)
    assert await outcome(authority.context(valid_then), Time(later)) == "in"
    assert "it expired on" in await outcome(authority.context(GOOD), Time(later))
    assert "it is not valid before" in await outcome(authority.context(valid_then), Time(TODAY_S))


async def test_without_any_time_only_what_expired_before_the_floor_is_refused(authority):
    assert await outcome(authority.context(GOOD), Time()) == "in"
    assert await outcome(authority.context((TODAY_S + 900 * DAY_S, TODAY_S + 999 * DAY_S)), Time()) == "in"
    old = (BUILD_S - 90 * DAY_S, BUILD_S - DAY_S)
    assert "it expired on " + text_from_seconds(old[1])[:10] in await outcome(authority.context(old), Time())
    assert "it expired on" in await outcome(authority.context(GOOD), Time(floor_s=GOOD[1] + DAY_S))


async def test_without_any_time_the_chain_and_the_name_are_checked_as_ever(authority, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    assert "not trusted" in await outcome(stranger.context(GOOD), Time())
    async with serving(authority.context(GOOD)) as port:
        stream = await net.connect_tcp(bytes((127, 0, 0, 1)), port, 5_000, 0)
        with pytest.raises(net.TlsRefused):
            await tls_by_authorities(stream, "elsewhere.example", "", Time())
        stream.close()


def test_a_certificate_that_is_none_is_a_problem():
    assert date_problem(b"", 0, BUILD_S)


# --- The first join of a board that knows no time ---


@asynccontextmanager
async def first_join(tmp_path, authority, dates, control_time_s, monkeypatch, machine_s=0):
    monkeypatch.setattr(control_session, "_TIME_MS", 50)
    async with world(tmp_path, clock=ClockSettings([], machine=FakeMachine(machine_s))) as w:
        await w.coordinator.stop()
        w.coordinator.context = authority.context(dates)
        w.coordinator.first_fields = {"ControlTime": text_from_seconds(control_time_s)} if control_time_s else {}
        await w.coordinator.start()
        w.up("let-me-in")
        yield w


async def test_it_joins_and_looks_at_the_certificate_again_once_the_time_is_known(tmp_path, authority, monkeypatch):
    async with first_join(tmp_path, authority, GOOD, 0, monkeypatch) as w:
        await until(w.board.is_up)
        assert w.state.key_undated
        w.coordinator.tell({"KeepAlive": True, "ControlTime": text_from_seconds(TODAY_S)})
        await until(lambda: not w.state.key_undated)
        assert w.board.is_up() and w.board.session.phase == Phase.RUNNING


async def test_a_coordinator_whose_certificate_has_expired_is_left_with_all_that_it_said(
    tmp_path, authority, monkeypatch
):
    expired = (BUILD_S - DAY_S, BUILD_S + DAY_S)
    async with first_join(tmp_path, authority, expired, 0, monkeypatch) as w:
        await until(w.board.is_up)
        key = w.node_key
        w.coordinator.tell({"KeepAlive": True, "ControlTime": text_from_seconds(NOW_S)})
        refused = "not at the right coordinator: the certificate of localhost is not trusted"
        await until(lambda: refused in w.board.session.error)
        assert not w.state.registered
        assert w.board.netmap.node is None and w.node_key != key and w.state.server_key is None
        assert not (tmp_path / "state" / "netmap.json").exists()


async def test_one_whose_certificate_expired_before_the_floor_is_never_joined(tmp_path, authority, monkeypatch):
    async with first_join(tmp_path, authority, (BUILD_S - 90 * DAY_S, BUILD_S - 1), 0, monkeypatch) as w:
        await until(lambda: "it expired on" in w.board.session.error)
        assert not w.state.registered and w.coordinator.registered == []


async def test_the_second_look_survives_a_restart(tmp_path, authority, monkeypatch):
    async with first_join(tmp_path, authority, GOOD, 0, monkeypatch) as w:
        await until(w.board.is_up)
        await w.stop_board()
        await w.start_board()
        await until(lambda: w.board.session.connected)
        assert w.state.key_undated
        w.coordinator.tell({"KeepAlive": True, "ControlTime": text_from_seconds(TODAY_S)})
        await until(lambda: not w.state.key_undated)


async def test_relays_whose_dates_nobody_looked_at_are_entered_anew_once_the_time_is_known(
    tmp_path, authority, monkeypatch
):
    async with world(tmp_path, clock=ClockSettings([], machine=FakeMachine(0)), plain_relays=False) as w:
        await w.relay.stop()
        w.relay._context = authority.context(GOOD)
        await w.relay.start()
        w.coordinator.relay_fields = {"HostName": "localhost"}
        await w.joined("let-me-in")
        first = w.relay.clients[w.node_key]
        w.coordinator.tell({"KeepAlive": True, "ControlTime": text_from_seconds(TODAY_S)})
        await until(lambda: w.relay.clients.get(w.node_key) not in (None, first))
        await until(w.board.is_up)
