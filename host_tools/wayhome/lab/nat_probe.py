"""Measure what a NAT really does: its mapping, its filtering, its ports, in the words of RFC 4787.

A *reflector* on the public side listens on two addresses with two ports each, and tells every asker from where it was
seen; on request it also answers from its other port, or from its other address and port (as RFC 5780 sections 4.3 and
4.4 do it by STUN). The *probe* runs behind the NAT:

    python -m wayhome.lab.nat_probe reflect 203.0.113.10 203.0.113.11
    python -m wayhome.lab.nat_probe measure 203.0.113.10 203.0.113.11      prints JSON

No answer is told from a lost one without a clock: the reflector sends the doubtful answer first and a sure one behind
it, and once the sure one of a second round is there as well, the doubtful one was filtered.

Datagrams: request = 8 B nonce, 1 B wish; answer = 8 B nonce, 1 B wish (of this answer), "ADDRESS PORT" as text.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .interpreter import python_environment
from .nat import Behaviour, NatKind, Ports

if TYPE_CHECKING:
    from .host import Host

# Not STUN's, so that the probe can run beside a coordinator.
PORTS = (47801, 47802)
_NONCE_BYTES = 8
# What a request asks for. The plain answer always comes last, from where the request was sent to.
_PLAIN = 0
_OTHER_PORT = 1
_OTHER_ADDRESS_AND_PORT = 2
# How long the first answer may take, on a loaded machine; nothing that is right waits so long.
_ANSWER_SECONDS = 1.0
_TRIES = 3

Endpoint = tuple[str, int]


class NoAnswer(Exception):
    """The reflector cannot be reached by UDP."""


@dataclass(frozen=True)
class Measured:
    """What was seen of a NAT. mapping and filtering are None where UDP does not pass at all."""

    udp: bool
    mapping: Behaviour | None = None
    filtering: Behaviour | None = None
    ports_preserved: bool = False
    # whether a datagram to one's own outside endpoint comes back, and from which endpoint it then seems to come
    hairpin: bool = False
    hairpin_from_outside: bool = False
    inside: Endpoint | None = None
    outside: tuple[Endpoint, ...] = ()  # as seen by each of the four destinations

    def disagreements(self, kind: NatKind) -> list[str]:
        """Return how this differs from what the kind is named for; an empty list if it does not."""
        found = []
        if not self.udp:
            return ["UDP does not pass"]
        if self.mapping is not kind.mapping:
            found.append(f"the mapping is {self.mapping and self.mapping.value}, not {kind.mapping.value}")
        if self.filtering is not kind.filtering:
            found.append(f"the filtering is {self.filtering and self.filtering.value}, not {kind.filtering.value}")
        if self.ports_preserved is not (kind.ports is Ports.PRESERVED):
            found.append(f"ports are {'kept' if self.ports_preserved else 'changed'}, not {kind.ports.value}")
        return found

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        data["mapping"] = self.mapping.value if self.mapping else None
        data["filtering"] = self.filtering.value if self.filtering else None
        return data


def from_data(data: dict[str, Any]) -> Measured:
    """Return what another process measured, from its JSON."""

    def endpoint(value: Any) -> Endpoint:
        return str(value[0]), int(value[1])

    return Measured(
        udp=data["udp"],
        mapping=Behaviour(data["mapping"]) if data["mapping"] else None,
        filtering=Behaviour(data["filtering"]) if data["filtering"] else None,
        ports_preserved=data["ports_preserved"],
        hairpin=data["hairpin"],
        hairpin_from_outside=data["hairpin_from_outside"],
        inside=endpoint(data["inside"]) if data["inside"] else None,
        outside=tuple(endpoint(one) for one in data["outside"]),
    )


def probe(behind: "Host", public: "Host", family: int = 4, local_port: int = 0) -> Measured:
    """Measure what is between two hosts of a running lab. The public one needs two addresses of the family.

    Raises LabError if either side fails.
    """
    addresses = [public.address(family=family, number=number) for number in (0, 1)]
    words = [sys.executable, "-m", __name__]
    with public.popen([*words, "reflect", *addresses], stdout=subprocess.PIPE, env=python_environment()) as reflector:
        try:
            assert reflector.stdout is not None
            reflector.stdout.readline()
            done = behind.run([*words, "measure", *addresses, str(local_port)], env=python_environment())
        finally:
            reflector.kill()
    return from_data(json.loads(done.stdout))


# -- the public side


def reflect(addresses: tuple[str, str], ready: Callable[[], None]) -> None:
    """Answer for ever on both addresses and both ports; ready is called once all four listen."""
    import selectors

    sockets: dict[Endpoint, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for address in addresses:
            for port in PORTS:
                one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
                one.bind((address, port))
                sockets[address, port] = one
                selector.register(one, selectors.EVENT_READ, (address, port))
        ready()
        while True:
            for key, _ in selector.select():
                asked_at: Endpoint = key.data
                request, source = sockets[asked_at].recvfrom(64)
                if len(request) == _NONCE_BYTES + 1:
                    _answer(sockets, addresses, asked_at, request, source)


def _answer(
    sockets: dict[Endpoint, socket.socket],
    addresses: tuple[str, str],
    asked_at: Endpoint,
    request: bytes,
    source: Endpoint,
) -> None:
    nonce, wish = request[:_NONCE_BYTES], request[_NONCE_BYTES]
    seen = f"{source[0]} {source[1]}".encode()
    other_port = PORTS[1 - PORTS.index(asked_at[1])]
    other_address = addresses[1 - addresses.index(asked_at[0])]
    if wish == _OTHER_PORT:
        sockets[asked_at[0], other_port].sendto(nonce + bytes([wish]) + seen, source)
    elif wish == _OTHER_ADDRESS_AND_PORT:
        sockets[other_address, other_port].sendto(nonce + bytes([wish]) + seen, source)
    sockets[asked_at].sendto(nonce + bytes([_PLAIN]) + seen, source)


# -- behind the NAT


def measure(addresses: tuple[str, str], local_port: int = 0) -> Measured:
    """Return what lies between here and the reflector; local_port 0 lets the system choose."""
    destinations = [(address, port) for address in addresses for port in PORTS]
    with _Client(destinations[0], local_port) as client:
        try:
            outside = tuple(client.seen_from(destination) for destination in destinations)
        except NoAnswer:
            return Measured(udp=False)
        inside = client.inside()
    with _Client(destinations[0]) as one, _Client(destinations[0]) as another:
        hairpin, hairpin_from_outside = _hairpin(one, another, destinations[0])
    return Measured(
        udp=True,
        mapping=_mapping(outside),
        filtering=_filtering(destinations[0]),
        ports_preserved=all(port == inside[1] for _, port in outside),
        hairpin=hairpin,
        hairpin_from_outside=hairpin_from_outside,
        inside=inside,
        outside=outside,
    )


def _mapping(outside: tuple[Endpoint, ...]) -> Behaviour:
    """Return the mapping's kind from the four endpoints seen (address 1 port 1, 1 2, 2 1, 2 2)."""
    if len(set(outside)) == 1:
        return Behaviour.ENDPOINT_INDEPENDENT
    if outside[0] == outside[1] and outside[2] == outside[3]:
        return Behaviour.ADDRESS_DEPENDENT
    return Behaviour.ADDRESS_AND_PORT_DEPENDENT


def _filtering(destination: Endpoint) -> Behaviour:
    """Each question has a socket of its own, so that nothing but the question has opened the way for its answer."""
    with _Client(destination) as client:
        if client.hears(destination, _OTHER_ADDRESS_AND_PORT):
            return Behaviour.ENDPOINT_INDEPENDENT
    with _Client(destination) as client:
        if client.hears(destination, _OTHER_PORT):
            return Behaviour.ADDRESS_DEPENDENT
    return Behaviour.ADDRESS_AND_PORT_DEPENDENT


def _hairpin(one: "_Client", another: "_Client", destination: Endpoint) -> tuple[bool, bool]:
    outside_one, outside_another = one.seen_from(destination), another.seen_from(destination)
    # Both speak first, so that no filtering stands in the way of the second word.
    another.socket.sendto(b"hairpin", outside_one)
    one.socket.sendto(b"hairpin", outside_another)
    another.seen_from(destination)
    for datagram, source in another.others:
        if datagram == b"hairpin":
            return True, source == outside_one
    return False, False


class _Client:
    def __init__(self, towards: Endpoint, local_port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in towards[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        # not connected: the answers that matter come from elsewhere. Bound to an address, so that inside() can tell it.
        with socket.socket(family, socket.SOCK_DGRAM) as router:
            router.connect(towards)
            own = router.getsockname()[0]
        self.socket.bind((own, local_port))
        self.others: list[tuple[bytes, Endpoint]] = []

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def inside(self) -> Endpoint:
        name = self.socket.getsockname()
        return name[0], name[1]

    def seen_from(self, destination: Endpoint) -> Endpoint:
        """Return the endpoint as which a destination sees this socket. Raises NoAnswer."""
        return self._ask(destination, _PLAIN)[0]

    def hears(self, destination: Endpoint, wish: int) -> bool:
        """Tell whether the answer that the wish asks for comes through."""
        _, heard = self._ask(destination, wish)
        # The sure answer of a second round came later than the doubtful one of the first, if that came at all.
        _, heard_again = self._ask(destination, wish)
        return heard or heard_again

    def _ask(self, destination: Endpoint, wish: int) -> tuple[Endpoint, bool]:
        heard = False
        self.socket.settimeout(_ANSWER_SECONDS)
        for _ in range(_TRIES):
            nonce = os.urandom(_NONCE_BYTES)
            try:
                self.socket.sendto(nonce + bytes([wish]), destination)
                while True:
                    datagram, source = self.socket.recvfrom(2048)
                    if datagram[:_NONCE_BYTES] != nonce:
                        # an answer that came late still tells that it came
                        heard = heard or (wish != _PLAIN and datagram[_NONCE_BYTES : _NONCE_BYTES + 1] == bytes([wish]))
                        self.others.append((datagram, (source[0], source[1])))
                        continue
                    if datagram[_NONCE_BYTES] != _PLAIN:
                        heard = True
                        continue
                    address, port = datagram[_NONCE_BYTES + 1 :].decode().split()
                    return (address, int(port)), heard
            except TimeoutError:
                continue
            except OSError:
                # an ICMP error: it is not reachable, and says so
                continue
        raise NoAnswer(f"no answer by UDP from {destination[0]} port {destination[1]}")


def main(arguments: list[str]) -> None:
    if len(arguments) < 3 or arguments[0] not in ("reflect", "measure"):
        sys.exit("usage: python -m wayhome.lab.nat_probe reflect|measure ADDRESS1 ADDRESS2 [LOCAL-PORT]")
    addresses = (arguments[1], arguments[2])
    if arguments[0] == "reflect":
        reflect(addresses, ready=lambda: print("ready", flush=True))
    else:
        local_port = int(arguments[3]) if len(arguments) > 3 else 0
        print(json.dumps(measure(addresses, local_port).as_data()))


if __name__ == "__main__":
    main(sys.argv[1:])
