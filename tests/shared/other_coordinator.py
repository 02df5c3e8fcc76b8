"""A coordinator that shares nothing with ours but the protocol, and does all it may do otherwise. CPython only.

What it is made of: h2 for HTTP/2, the server's half of `wayhomed.wire.noise`, and the text of the protocol. It
  - redirects /key, answers it in chunks behind an early hint, and spells its headers in lower case;
  - writes what follows the upgrade byte by byte, with empty records, the early payload in three, every other
    connection without one;
  - pads and cuts its HTTP/2 frames, sends unknown ones and pings, and keeps its windows at 65,535 bytes;
  - holds to the newer contract: what a streaming request says of us it forgets, only updates count;
  - sends every field of every object, null where it has nothing to say, and many that nobody knows;
  - begins with a map without peers, and names them later by PeersChanged and patches alone.
"""

import asyncio
import contextlib
import json
import secrets
import struct

import h2.config
import h2.connection
import h2.events

from wayhomed.wire import control, keys, noise

_SILENT = "0001-01-01T00:00:00Z"
_BIG_ID = 4_611_686_018_427_387_905  # above 2^53 and above what a 31-bit or 53-bit reader holds


def odd_node(number: int, key: bytes, disco_key: str, **fields) -> dict:
    """Return a node as a server writes it that leaves nothing out."""
    made = {
        "ID": _BIG_ID + number, "StableID": f"nABC{number}CNTRL", "Name": f"odd-{number}.tail-net.ts.example.",
        "User": 2147455555, "Sharer": 0, "Key": keys.key_text(keys.NODE, key), "KeyExpiry": _SILENT,
        "KeySignature": None, "Machine": "mkey:" + "0" * 64, "DiscoKey": disco_key,
        "Addresses": [f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number:x}/128"], "AllowedIPs": None,
        "Endpoints": None, "DERP": "127.3.3.40:900", "HomeDERP": 0,
        "Hostinfo": {"OS": "windows", "Hostname": f"ODD {number}", "Services": None, "RoutableIPs": None,
                     "NetInfo": None, "Userspace": None, "Location": {"Country": "x", "Priority": 5}},
        "Created": "2026-10-01T09:00:00.123456789+02:00", "Cap": 145, "Tags": None, "PrimaryRoutes": None,
        "LastSeen": None, "Online": None, "MachineAuthorized": True, "Capabilities": None,
        "CapMap": {"https://tailscale.com/cap/is-owner": None, "funnel": ["x" * 3000],
                   "odd": [{"deep": [[[[[[[[[1]]]]]]]]]}]},
        "UnsignedPeerAPIOnly": False, "DataPlaneAuditLogID": "", "Expired": False, "IsWireGuardOnly": False,
        "SelfNodeV4MasqAddrForThisPeer": None, "IsJailed": False, "ExitNodeDNSResolvers": None, "ComputedName": "",
        "FieldOfTheFuture": {"a": [1, 2, {"b": '}]"\\'}]},
    }  # fmt: skip
    made.update(fields)
    return made


class OtherCoordinator:
    """The server. register(request) may be replaced; what came is in registered, polls, updates, heads and posts."""

    def __init__(self):
        self.noise_private = keys.new_private(secrets.token_bytes(32))
        self.relay_port = 0
        self.register = self._interactive
        self.let_in = asyncio.Event()
        self.registered, self.polls, self.updates, self.heads, self.posts = [], [], [], [], []
        self.busy = []  # headers of answers with status 429 to give first
        self.port = 0
        self.lower_case = False  # names in the map in lower case
        self.close_without_a_word = False  # when a handshake is not for our key
        self._connections = 0
        self._links: list[_Link] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mesh/"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self.drop()

    def drop(self) -> None:
        for link in self._links:
            link.writer.close()
        self._links = []

    async def tell(self, message: dict) -> None:
        for link in self._links:
            await link.tell(message)

    def _interactive(self, request: dict) -> dict | None:
        if self.let_in.is_set() or (request.get("Auth") or {}).get("AuthKey"):
            return self.answer()
        return self.answer(AuthURL=f"https://odd.example/a/{len(self.registered)}", MachineAuthorized=False)

    @staticmethod
    def answer(**fields) -> dict:
        person = {"ID": 0, "DisplayName": "", "LoginName": "", "ProfilePicURL": "", "Created": _SILENT, "Provider": ""}
        made = {"User": person, "Login": person, "NodeKeyExpired": False, "MachineAuthorized": True, "AuthURL": ""}
        return {**made, "NodeKeySignature": None, "Error": "", "Extra": [None], **fields}

    def relays(self) -> dict:
        regions = {
            str(number): {
                "RegionID": number, "RegionCode": f"r{number}", "RegionName": "Far away", "Latitude": 1.5,
                "Longitude": -7, "Avoid": True, "NoMeasureNoHome": True,
                "Nodes": [{"Name": f"{number}{x}", "RegionID": number, "HostName": f"{x}{number}.example.",
                           "IPv4": "192.0.2.1", "IPv6": "2001:db8::1", "CanPort80": True} for x in "abc"],
            }
            for number in range(1, 28)
        }  # fmt: skip
        own = {"Name": "900a", "RegionID": 900, "HostName": "127.0.0.1", "IPv4": "127.0.0.1",
               "IPv6": "none", "STUNPort": -1, "DERPPort": self.relay_port or 1, "STUNTestIP": "",
               "InsecureForTests": False}  # fmt: skip
        regions["900"] = {"RegionID": 900, "RegionCode": "own", "RegionName": "", "Nodes": [own]}
        regions["28"] = None
        return {"HomeParams": None, "Regions": regions, "omitDefaultRegions": True}

    def first(self, node_key: str) -> dict:
        own = odd_node(1, keys.key_from_text(keys.NODE, node_key), keys.DISCO + "0" * 64)
        names = (
            "MapSessionHandle", "Seq", "PingRequest", "PopBrowserURL", "Peers", "PeersChanged", "PeersRemoved",
            "PeersChangedPatch", "PeerSeenChange", "OnlineChange", "Health", "SSHPolicy", "TKAInfo", "ClientVersion",
            "ControlDialPlan", "DefaultAutoUpdate", "PacketFilters", "DomainDataPlaneAuditLogID",
        )  # fmt: skip
        filter_rules = [
            {"SrcIPs": ["*"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"x": [{"y": "z" * 2000}]}}]},
            {"SrcIPs": ["100.64.0.2"], "SrcBits": None, "IPProto": None, "DstPorts": [
                {"IP": "192.168.1.0/24", "Bits": None, "Ports": {"First": 0, "Last": 65535}}]},
        ]  # fmt: skip
        return {
            **dict.fromkeys(names), "KeepAlive": False, "Node": own, "DERPMap": self.relays(), "DNSConfig": {},
            "Domain": "ts.example", "CollectServices": None, "PacketFilter": filter_rules,
            "Debug": {"DisableLogTail": True},
            "UserProfiles": [{"ID": 2147455555, "LoginName": "tagged-devices", "DisplayName": None, "Groups": None}],
            "ControlTime": "2026-11-23T02:00:00.5Z",
            "DisplayMessages": {"m": {"Title": "Update", "Text": "there is one"}},
        }  # fmt: skip

    async def _serve(self, reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader, writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _version = head.split("\r\n")[0].split(" ")
        if method == "HEAD":
            self.heads.append(target)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
        elif target == "/mesh/key?v=120":
            writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /moved/key?v=120\r\ncontent-length: 0\r\n\r\n")
        elif target == "/moved/key?v=120":
            key = keys.key_text(keys.MACHINE, keys.public_of(self.noise_private))
            body = json.dumps({"legacyPublicKey": keys.MACHINE + "0" * 64, "publicKey": key, "more": None}).encode()
            writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n")
            for start in range(0, len(body), 50):
                writer.write(b"%x;ext=1\r\n" % len(body[start : start + 50]) + body[start : start + 50] + b"\r\n")
            writer.write(b"0\r\ntrailer: 1\r\n\r\n")
        elif target == "/ts2021":
            await self._upgrade(head, reader, writer)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async def _upgrade(self, head: str, reader, writer) -> None:
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nserver: odd\r\nconnection: Upgrade\r\n")
        writer.write(b"upgrade: Tailscale-Control-Protocol\r\ndate: today\r\n\r\n")
        message1 = control.decode_handshake_header(headers["x-tailscale-handshake"])
        try:
            responded = noise.respond(message1, self.noise_private, keys.new_private(secrets.token_bytes(32)))
        except Exception:
            if not self.close_without_a_word:
                writer.write(noise.encode_error("decrypting: no"))
            return
        self._connections += 1
        link = _Link(self, reader, writer, responded.session)
        self._links.append(link)
        await link.write(responded.message)
        await link.run(self._connections % 2 == 1)


class _Link:
    """One Noise connection's server half."""

    def __init__(self, server, reader, writer, session):
        self._server, self._reader, self.writer, self._session = server, reader, writer, session
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._requests: dict[int, list] = {}
        self._polls: list[int] = []
        self._tasks: set[asyncio.Task] = set()
        self._one_writer = asyncio.Lock()
        self._one_message = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), 7):
            self.writer.write(data[at : at + 7])
            await asyncio.sleep(0)
        await self.writer.drain()

    async def run(self, with_early_payload: bool) -> None:
        if with_early_payload:
            payload = control.encode_early_payload(secrets.token_bytes(32))
            for part in (payload[:5], b"", payload[5:9], payload[9:]):
                await self._seal(part)
        self._http.initiate_connection()
        await self._flush()
        await self._seal(struct.pack(">BHBBI", 0, 3, 0xBE, 0, 0) + b"odd")  # a frame of a type that nobody knows
        self._http.ping(b"are you?")
        await self._flush()
        try:
            while data := await self._reader.read(65536):
                for event in self._http.receive_data(self._session.feed(data)):
                    self._happened(event)
                await self._flush()
        finally:
            for task in self._tasks:
                task.cancel()

    async def tell(self, message: dict) -> None:
        for stream in self._polls:
            await self._message(stream, message)

    async def _seal(self, data: bytes) -> None:
        # An empty record says nothing, and may come at any time; seal() makes none of no bytes.
        async with self._one_writer:
            await self.write(self._session.seal(data) if data else self._empty_record())

    def _empty_record(self) -> bytes:
        session = self._session
        sealed = noise.aead_seal(session._seal_key, noise._record_nonce(session._sealed), b"", b"")
        session._sealed += 1
        return struct.pack(noise.HEADER, noise.RECORD, len(sealed)) + sealed

    async def _flush(self) -> None:
        async with self._one_writer:
            if data := self._http.data_to_send():
                await self.write(self._session.seal(data))

    def _happened(self, event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            self._requests[event.stream_id] = [headers[":method"], headers[":path"], b""]
        elif isinstance(event, h2.events.DataReceived):
            self._requests[event.stream_id][2] += event.data
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            task = asyncio.create_task(self._request(event.stream_id, *self._requests.pop(event.stream_id)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(event, h2.events.StreamReset) and event.stream_id in self._polls:
            self._polls.remove(event.stream_id)

    async def _request(self, stream: int, method: str, path: str, body: bytes) -> None:
        server = self._server
        if server.busy:
            self._http.send_headers(stream, [(":status", "429"), *server.busy.pop(0)], end_stream=True)
            await self._flush()
            return
        if path == "/machine/register":
            request = json.loads(body)
            server.registered.append(request)
            if request["Followup"]:
                await server.let_in.wait()
            await self._body(stream, json.dumps(server.register(request)).encode(), True)
        elif path == "/machine/map" and json.loads(body).get("Stream"):
            request = json.loads(body)
            server.polls.append(request)
            await self._body(stream, b"", False)
            self._polls.append(stream)
            await self._message(stream, server.first(request["NodeKey"]))
            await self._message(stream, {"KeepAlive": True})
        elif path == "/machine/map":
            server.updates.append(json.loads(body))
            await self._body(stream, control.encode_map_frame(b'{"KeepAlive":true}'), True)
        elif path.startswith("/odd/"):
            server.posts.append((method, path, body))
            self._http.send_headers(stream, [(":status", "200"), ("content-length", "77")], end_stream=method == "HEAD")
            if method != "HEAD":
                self._http.send_data(stream, b"x" * 77, end_stream=True)
            await self._flush()
        else:
            self._http.send_headers(stream, [(":status", "501")])
            await self._body(stream, b"Not implemented yet", True, with_headers=False)

    async def _message(self, stream: int, message: dict) -> None:
        if self._server.lower_case:
            message = _lowered(message)
        payload = control.encode_map_frame(json.dumps(message, indent=1).encode())
        async with self._one_message:
            await self._body(stream, payload, False, with_headers=False)

    async def _body(self, stream: int, body: bytes, end: bool, with_headers: bool = True) -> None:
        if with_headers:
            self._http.send_headers(stream, [(":status", "200"), ("content-type", "application/json"), ("x-odd", "")])
        at, size = 0, 1
        while at < len(body):
            room = min(self._http.local_flow_control_window(stream) - 20, size)
            if room > 0:
                self._http.send_data(stream, body[at : at + room], pad_length=5)
                at, size = at + room, size * 2 % 3001
            await self._flush()
            await asyncio.sleep(0)
        if end:
            self._http.end_stream(stream)
        await self._flush()


def _lowered(value):
    """Return a message with the names of its fields in lower case; those of a map's keys are numbers or free."""
    if isinstance(value, dict):
        return {name.lower(): _lowered(item) for name, item in value.items()}
    return [_lowered(item) for item in value] if isinstance(value, list) else value
