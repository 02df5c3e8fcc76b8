"""What the daemon talks to, played by the tests: a coordinator, a relay, the kernel. CPython only.

All of it is made of the servers' halves of `wayhomed.wire` and of the h2 library, and does what a test's script says.
"""

import asyncio
import json
import secrets
import ssl
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events

from shared import places
from wayhomed.agent import configuration, daemon
from wayhomed.agent import log as logging
from wayhomed.agent import state as states
from wayhomed.core import dataplane
from wayhomed.wire import control, derp, disco, keys, noise

NODE_PREFIX, DISCO_PREFIX = keys.NODE, keys.DISCO


def private() -> bytes:
    return keys.new_private(secrets.token_bytes(32))


async def until(condition, seconds: float = 60) -> None:
    """Wait until a condition holds; the limit only ends a test that has failed anyway."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Peer:
    """Another node, as the coordinator describes it and the relay knows it."""

    def __init__(self, node_id: int, name: str):
        self.id, self.name = node_id, name
        self.private, self.disco_private = private(), private()
        self.key, self.disco_key = keys.public_of(self.private), keys.public_of(self.disco_private)

    def as_json(self, **fields) -> dict:
        addresses = [f"100.64.0.{self.id}/32", f"fd7a:115c:a1e0::{self.id:x}/128"]
        return {
            "ID": self.id,
            "StableID": f"n{self.id}",
            "Name": f"{self.name}.tail.example.",
            "User": 7,
            "Key": keys.key_text(NODE_PREFIX, self.key),
            "DiscoKey": keys.key_text(DISCO_PREFIX, self.disco_key),
            "Addresses": addresses,
            "AllowedIPs": addresses,
            "HomeDERP": 900,
            "Online": True,
            "MachineAuthorized": True,
            **fields,
        }

    def seal(self, to_disco_key: bytes, plaintext: bytes) -> bytes:
        shared = disco.shared_key(to_disco_key, self.disco_private)
        return disco.seal_message(shared, self.disco_key, secrets.token_bytes(24), plaintext)

    def open(self, datagram: bytes):
        shared = disco.shared_key(disco.sender_of(datagram), self.disco_private)
        return disco.decode_message(disco.open_message(shared, datagram))


class FakeCoordinator:
    """A coordinator that lets everybody in, unless `register` says otherwise.

    register(request) returns the answer's fields; polls are answered with `first` and then what tell() is given.
    """

    def __init__(self):
        self.noise_private = private()
        self.named_key = None  # what /key says, if not the truth
        self.relay_port = 0
        self.relay_fields = {}
        self.peers = []
        self.register = lambda request: {"MachineAuthorized": True}
        self.first_fields = {}
        self.registered, self.updates, self.polls, self.requests = [], [], [], []
        self.truncate_at = None  # close each connection after sending this many bytes
        self.garbage = b""  # sent instead of every answer
        self.port = 0
        self.context = None  # of TLS
        self._server = None
        self._links = []

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.context else f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self.drop()
        await self._server.wait_closed()

    def drop(self) -> None:
        """Cut every connection."""
        for link in self._links:
            link.close()
        self._links = []

    def tell(self, message: dict | bytes) -> None:
        """Send a message to every running poll: fields, or a payload as it is."""
        for link in self._links:
            link.tell(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def pour(self, pieces) -> None:
        """Send the bytes of `pieces` to every running poll, as fast as the board takes them or until it hangs up."""
        for piece in pieces:
            for link in list(self._links):
                await link.pour(piece)

    def derp_map(self) -> dict:
        node = {
            "Name": "900a",
            "RegionID": 900,
            "HostName": "127.0.0.1",
            "IPv4": "127.0.0.1",
            "IPv6": "none",
            "STUNPort": -1,
            "DERPPort": self.relay_port or 1,
            **self.relay_fields,
        }
        return {"Regions": {"900": {"RegionID": 900, "RegionCode": "home", "RegionName": "Home", "Nodes": [node]}}}

    def first(self, node_key: str) -> dict:
        own = {**Peer(1, "board").as_json(), "Key": node_key}
        return {
            "Node": own,
            "DERPMap": self.derp_map(),
            "Peers": [peer.as_json() for peer in self.peers],
            "Domain": "example",
            "PacketFilters": {"base": []},
            **self.first_fields,
        }

    async def _serve(self, reader, writer) -> None:
        writer = _Short(writer, self.truncate_at)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader, writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if self.garbage:
            writer.write(self.garbage)
            await writer.drain()
            return
        if head.startswith("GET /key?v="):
            key = self.named_key or keys.public_of(self.noise_private)
            body = json.dumps({"publicKey": keys.key_text(keys.MACHINE, key)}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            return
        assert head.startswith("POST /ts2021 "), head
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        message1 = control.decode_handshake_header(headers["X-Tailscale-Handshake"])
        writer.write(control.UPGRADE_RESPONSE)
        try:
            responded = noise.respond(message1, self.noise_private, private())
        except Exception as error:
            writer.write(noise.encode_error(str(error)))
            await writer.drain()
            return
        writer.write(responded.message)
        link = _ControlLink(self, reader, writer, responded.session)
        self._links.append(link)
        try:
            await link.run()
        finally:
            if link in self._links:
                self._links.remove(link)


class _Short:
    """A writer that closes after so many bytes, if told to."""

    def __init__(self, writer, limit):
        self._writer, self._left = writer, limit

    def write(self, data: bytes) -> None:
        if self._left is None:
            self._writer.write(data)
            return
        self._writer.write(data[: self._left])
        self._left = max(0, self._left - len(data))
        if not self._left:
            self._writer.close()
            raise ConnectionResetError

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    def is_closing(self) -> bool:
        return self._writer.is_closing()


class _ControlLink:
    """One Noise connection's server half."""

    def __init__(self, server, reader, writer, session):
        self._server, self._reader, self._writer, self._session = server, reader, writer, session
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._requests, self._polls = {}, []
        self._out = bytearray()

    async def run(self) -> None:
        self._send_plain(control.encode_early_payload(secrets.token_bytes(32)))
        self._http.initiate_connection()
        self._flush()
        while data := await self._reader.read(65536):
            for event in self._http.receive_data(self._session.feed(data)):
                self._happened(event)
            self._flush()

    def close(self) -> None:
        self._writer.close()

    def tell(self, payload: bytes) -> None:
        for stream in self._polls:
            self._send_body(stream, control.encode_map_frame(payload), False)
        self._flush()

    async def pour(self, data: bytes) -> None:
        """Send bytes of a poll's body, waiting for the board's windows."""
        for stream in list(self._polls):
            at = 0
            while at < len(data) and stream in self._polls and not self._writer.is_closing():
                room = min(16_384, len(data) - at, self._http.local_flow_control_window(stream))
                if room <= 0:
                    await asyncio.sleep(0.002)
                    continue
                self._http.send_data(stream, data[at : at + room])
                at += room
                self._flush()
                try:
                    await self._writer.drain()
                except ConnectionError:
                    return

    def _send_plain(self, data: bytes) -> None:
        self._writer.write(self._session.seal(data))

    def _flush(self) -> None:
        data = self._http.data_to_send()
        if data:
            self._send_plain(data)

    def _happened(self, event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            self._requests[event.stream_id] = [headers[":method"], headers[":path"], b""]
        elif isinstance(event, h2.events.DataReceived):
            self._requests[event.stream_id][2] += event.data
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            method, path, body = self._requests.pop(event.stream_id)
            self._request(event.stream_id, method, path, body)
        elif isinstance(event, h2.events.StreamReset) and event.stream_id in self._polls:
            self._polls.remove(event.stream_id)

    def _request(self, stream: int, method: str, path: str, body: bytes) -> None:
        server = self._server
        fields = json.loads(body) if body else {}
        server.requests.append((method, path, fields))
        if path == "/machine/register":
            server.registered.append(fields)
            answer = server.register(fields)
            if answer is not None:
                self.answer(stream, answer)
        elif path == "/machine/map" and fields["Stream"]:
            server.polls.append(fields)
            self._http.send_headers(stream, [(":status", "200")])
            self._polls.append(stream)
            first = json.dumps(server.first(fields["NodeKey"])).encode()
            self._send_body(stream, control.encode_map_frame(first), False)
        elif path == "/machine/map":
            server.updates.append(fields)
            self._http.send_headers(stream, [(":status", "200")], end_stream=True)
        else:
            self._http.send_headers(stream, [(":status", "200")], end_stream=True)

    def answer(self, stream: int, answer: dict | int | bytes) -> None:
        """Send JSON fields, a bare status, or bytes."""
        if isinstance(answer, int):
            self._http.send_headers(stream, [(":status", str(answer))])
            self._send_body(stream, b"no", True)
            return
        self._http.send_headers(stream, [(":status", "200")])
        self._send_body(stream, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), True)

    def _send_body(self, stream: int, body: bytes, end: bool) -> None:
        # The tests' messages fit into the windows that the board opens.
        for start in range(0, len(body), 16_384):
            self._http.send_data(stream, body[start : start + 16_384])
        if end:
            self._http.end_stream(stream)


class FakeRelay:
    """A relay that takes everybody and carries packets between them.

    misbehave: None, "silent" (takes the connection and says nothing), "garbage", "refuse" (closes after ClientInfo),
    "stuck" (stops reading once a client is in).
    """

    def __init__(self, context: ssl.SSLContext | None = None):
        self.private = private()
        self.misbehave = None
        self.clients = {}
        self.preferred = []
        self.packets = []
        self.port = 0
        self._context = context
        self._server = None
        self._writers = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self.drop()
        await self._server.wait_closed()

    def drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers, self.clients = [], {}

    def deliver(self, to: bytes, source: bytes, packet: bytes) -> None:
        self.clients[to].write(derp.encode_recv_packet(source, packet))

    async def _serve(self, reader, writer) -> None:
        self._writers.append(writer)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if self.misbehave == "garbage":
            writer.write(secrets.token_bytes(3000))
            await writer.drain()
            return
        public = keys.public_of(self.private)
        writer.write(derp.encode_upgrade_response(public))
        if self.misbehave == "silent":
            await asyncio.sleep(3600)
        writer.write(derp.encode_server_key(public))
        decoder = derp.DerpDecoder()
        key = None
        while data := await reader.read(65536):
            for kind, payload in decoder.feed(data):
                if kind == derp.CLIENT_INFO:
                    key, _info = derp.decode_client_info(payload, self.private)
                    if self.misbehave == "refuse":
                        return
                    writer.write(derp.encode_server_info(self.private, key, secrets.token_bytes(24)))
                    self.clients[key] = writer
                    if self.misbehave == "stuck":
                        await asyncio.sleep(3600)
                elif kind == derp.NOTE_PREFERRED:
                    self.preferred.append((key, derp.decode_note_preferred(payload)))
                elif kind == derp.SEND_PACKET:
                    to, packet = derp.decode_packet(payload)
                    self.packets.append((key, to, packet))
                    if to in self.clients:
                        self.deliver(to, key, packet)


class FakeSharedPort:
    """The UDP port that is shared with WireGuard. sent: (endpoint, datagram); failures: endpoint -> OSError."""

    def __init__(self):
        self.port = 41641
        self.sent, self.failures = [], {}
        self._arrived = asyncio.Queue()

    def arrive(self, source: tuple, datagram: bytes | OSError) -> None:
        self._arrived.put_nowait((source, datagram))

    async def receive(self) -> tuple:
        source, datagram = await self._arrived.get()
        if isinstance(datagram, OSError):
            raise datagram
        return source, datagram

    def send(self, endpoint: tuple, datagram: bytes) -> None:
        if endpoint in self.failures:
            raise self.failures[endpoint]
        self.sent.append((endpoint, datagram))


class _NoForeignRules:
    """An nftables in which nobody but us has rules, and nobody changes any."""

    def base_chains(self) -> list:
        return []

    def names(self) -> set:
        return set()

    def now(self) -> list:
        return []

    async def changes(self) -> list:
        await asyncio.Event().wait()
        return []

    def close(self) -> None:
        pass


class FakeDataPlane:
    """The kernel, as far as the daemon asks it. uplinks: of its Facts; counters: what traffic() gives."""

    def __init__(self):
        self.private_key = None
        self.plans, self.injected = [], []
        self.standing = False
        self.stops = self.clean_ups = 0
        self.outlives = self.adopted = False
        self.direct: dict = {}
        self.shown = {}
        self.outgoing = asyncio.Queue()
        self.end = asyncio.Event()
        self.news = asyncio.Event()
        self.failure = None
        self.shared_port = FakeSharedPort()
        self.uplinks, self.own = [], [bytes((192, 168, 1, 2))]
        self.counters, self.paths_set, self.held = {}, [], {}
        self.polls = 0
        self.uplink_changes = 0

    async def clean_up(self) -> None:
        self.clean_ups += 1
        if self.failure:
            raise self.failure

    async def start(self, private_key: bytes) -> None:
        if self.failure:
            raise self.failure
        self.private_key = private_key
        self.standing = True

    def facts(self, remotes: list, now_s: int = 0):
        self.remotes = remotes
        found = dataplane.Facts()
        found.own, found.uplinks = list(self.own), list(self.uplinks)
        return found

    def own_addresses(self) -> list:
        return list(self.own)

    async def set_paths(self, changes: list) -> None:
        self.paths_set.extend(changes)

    def hold(self, endpoints: dict) -> None:
        self.held = dict(endpoints)

    async def carry_held(self) -> None:
        await asyncio.Event().wait()

    async def traffic(self) -> dict:
        self.polls += 1
        return dict(self.counters)

    interface = ("wayhome0", 5)
    port = 41641

    def nft_news(self) -> _NoForeignRules:
        return _NoForeignRules()

    def foreign_rules(self) -> _NoForeignRules:
        return _NoForeignRules()

    def make_news(self) -> None:
        pass

    def own_name(self) -> str:
        return "wayhomed"

    def way_to(self, ip: bytes) -> None:
        return None

    async def uplink_changed(self) -> None:
        self.uplink_changes += 1

    def direct_peers(self) -> dict:
        return dict(self.direct)

    async def leave(self) -> bool:
        if not self.outlives:
            await self.stop()
        return self.outlives

    async def apply(self, plan) -> None:
        self.plans.append(plan)

    async def set_private_key(self, private_key: bytes) -> None:
        self.private_key = private_key

    async def status(self) -> dict:
        nothing = {name: [] for name in ("problems", "addresses", "routes", "refused", "published")}
        return {"peers": {}, **nothing, **self.shown}

    async def changed(self) -> None:
        await self.news.wait()
        self.news.clear()

    async def ended(self) -> str:
        await self.end.wait()
        return "wireguard-go ended with code 1"

    async def receive(self) -> tuple:
        return await self.outgoing.get()

    def inject(self, public_key: bytes, datagram: bytes) -> bool:
        self.injected.append((public_key, datagram))
        return True

    async def stop(self) -> None:
        self.standing = False
        self.stops += 1


class World:
    """A board in the midst of its fakes. log: the texts it logged; file: its configuration file, once configure()d."""

    def __init__(self, directory):
        self.directory = directory
        self.coordinator = FakeCoordinator()
        self.relay = FakeRelay()
        self.data_plane = FakeDataPlane()
        self.log = []
        self.place = places.current()
        self.settings = daemon.Settings()
        self.settings.mark = 0
        self.settings.plain_relays = True
        self.board = None
        self._task = None
        self.file = directory / "wayhomed.conf"
        self.configured = ""

    def configure(self, *lines: str) -> None:
        """Write the configuration file; a board that starts then reads it, one that runs is to be asked to."""
        self.file.write_text("".join(line + "\n" for line in lines))
        self.configured = "yes"

    async def start_board(self) -> None:
        module = self.place.module
        log = module(logging).Log(lambda _severity, text: self.log.append(text), lambda: 1_795_400_071, logging.DEBUG)
        self.state = module(states).State(str(self.directory / "state"))
        self.state.open()
        file = self.configured and str(self.file)
        config = module(configuration).Configuration(file, str(self.directory / "state" / "last.conf"))
        config.read()
        self.board = module(daemon).Board(self.settings, self.state, log, lambda: self.data_plane, config)
        self._task = asyncio.create_task(self.board.run())

    async def stop_board(self) -> None:
        self.board.stop()
        await self._task
        self.state.close()

    def up(self, auth_key: str = "", **fields) -> None:
        """Do what `wayhomectl up` has the daemon do."""
        self.board.change_prefs({"LoginServer": self.coordinator.url, "WantRunning": True, **fields})
        self.board.session.login(auth_key, False, False, False)

    async def joined(self, auth_key: str = "key") -> None:
        self.up(auth_key)
        await until(self.board.is_up)

    @property
    def node_key(self) -> bytes:
        return keys.public_of(self.state.node_private)


@asynccontextmanager
async def world(directory, **settings):
    """Give a World with coordinator, relay and board running, and end it all. settings: of the daemon."""
    made = World(directory)
    made.settings.__dict__.update(settings)
    made.place.attach()
    await made.relay.start()
    made.coordinator.relay_port = made.relay.port
    await made.coordinator.start()
    await made.start_board()
    try:
        yield made
    finally:
        await made.stop_board()
        await made.coordinator.stop()
        await made.relay.stop()
        made.place.detach()
