"""DNS forwarding and nothing else: what `bench lan` measures, and tests drive without a Board."""

from wayhomed.port.tasks import run_all
from wayhomed.wire import dns

from .dns_listener import TcpListener, UdpListener
from .upstreams import Upstreams


async def forward(place: tuple, upstreams: list) -> None:
    """Answer DNS at (ip, port), by UDP and TCP, with what the upstreams [(ip, port)] answer, until cancelled.

    Raises OSError if the port is taken. Whoever can reach the place is served: for labs alone.
    """
    asking = Upstreams()

    def send(client: tuple, query: dns.Query, reply) -> None:
        listener, source = client
        listener.send(source, query, None if reply is None else dns.for_client(reply, query))

    def asked(listener, query: dns.Query, source) -> None:
        if not asking.ask(query, (listener, source), source, upstreams, send):
            listener.send(source, query, None)

    listeners: list = []
    try:
        for kind in (UdpListener, TcpListener):
            listeners.append(kind(place[0], place[1], lambda _ip: True, asked))
        await run_all(*[listener.run() for listener in listeners])
    finally:
        asking.close()
        for listener in listeners:
            listener.close()
