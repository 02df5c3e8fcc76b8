"""Keys and packets that the relay's tests share."""

from dataclasses import dataclass, field

from wayhome.relay.core import RelayCore, Session, State
from wayhome.relay.settings import RelaySettings
from wayhomed.wire import derp
from wayhomed.wire.keys import new_private, public_of

SERVER_PRIVATE = new_private(b"\x88" * 32)
SERVER_PUBLIC = public_of(SERVER_PRIVATE)
NONCE = bytes(24)
WIREGUARD = b"\x04\0\0\0" + bytes(28)


def wireguard(number: int, size: int = 64) -> bytes:
    """Return a WireGuard data packet that carries a number."""
    return b"\x04\0\0\0" + number.to_bytes(4, "big") + bytes(size - 8)


def disco(number: int, size: int = 110) -> bytes:
    """Return what looks like a disco message and carries a number."""
    return b"TS\xf0\x9f\x92\xac" + bytes(32) + number.to_bytes(4, "big") + bytes(size - 42)


def number_of(packet: bytes) -> int:
    return int.from_bytes(packet[38:42] if packet.startswith(b"TS") else packet[4:8], "big")


class Person:
    """A key pair by name."""

    def __init__(self, name: str) -> None:
        self.private = new_private(name.encode().ljust(32, b"."))
        self.public = public_of(self.private)
        self.hello = derp.encode_client_info(self.private, SERVER_PUBLIC, NONCE)


ANNE, BERT, CARL, DORA = (Person(name) for name in ("anne", "bert", "carl", "dora"))


@dataclass
class Table:
    """A RelayCore with a clock of its own, and what its clients were sent."""

    settings: RelaySettings = field(default_factory=RelaySettings)
    now: float = 1000.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.core = RelayCore(self.settings, SERVER_PRIVATE, SERVER_PUBLIC, lambda n: bytes(n), lambda: self.jitter)

    def arrive(self, source: str = "192.0.2.1") -> Session:
        return self.core.connected(source, None, self.now)

    def join(self, person: Person, mesh: str = "home", source: str = "192.0.2.1") -> Session:
        """Bring a client in, and forget what the handshake sent it."""
        session = self.arrive(source)
        self.core.received(session, person.hello, self.now)
        assert session.state is State.ASKING
        assert session.key == person.public
        self.core.admitted(session, mesh, self.now)
        self.core.received(session, b"", self.now)
        self.sent_to(session)
        return session

    def send(self, session: Session, data: bytes) -> None:
        """Let bytes arrive, writing to everybody who takes bytes as often as the core asks for it."""
        more = self.core.received(session, data, self.now)
        while more:
            more = self.core.received(session, b"", self.now)

    def send_packet(self, session: Session, to: Person, packet: bytes) -> None:
        self.send(session, derp.encode_send_packet(to.public, packet))

    def sent_to(self, session: Session) -> list[tuple[int, bytes]]:
        """Take and cut what waits for a session."""
        self.core.ready.discard(session)
        return derp.DerpDecoder().feed(self.core.take(session, 1 << 30))

    def wait(self, seconds: float) -> None:
        """Let time pass, a timer at a time."""
        end = self.now + seconds
        while (at := self.core.next_timer()) is not None and at <= end:
            self.now = at
            self.core.timer_fired(at)
        self.now = end
