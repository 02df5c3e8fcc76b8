"""`wayhome serve`: coordinator, relay, STUN and pages in one process."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HostError
from ..state_directory import default_state_directory
from .admin_options import examples


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "wayhome serve",
            "wayhome serve --url http://192.168.1.5:8080",
            "wayhome serve --url https://mesh.example.net --listen :443 --cert fullchain.pem --key privkey.pem",
            "wayhome serve --url https://192.0.2.1:8443 --listen :8443 --own-ca --state ./state",
        )
    )(serve)


def serve(
    url: Annotated[
        str | None,
        typer.Option(
            help="Where clients reach this server: http(s)://host[:port]. "
            "[default: as at the last start; at the first, http on this machine's address, port 8080]"
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Directory of everything that is kept. [default: $WAYHOME_STATE, else /var/lib/wayhome for root]",
            readable=False,  # tried when something is written there, with a better sentence
        ),
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(help="Address to listen on (may be repeated). [default: the URL's port]")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="TLS certificate chain (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
    own_ca: Annotated[
        bool, typer.Option("--own-ca", help="TLS by an own test CA in the state directory; clients need its ca.crt.")
    ] = False,
    suffix: Annotated[str | None, typer.Option(help="DNS suffix of the mesh. [default: wayhome.internal]")] = None,
    no_relay: Annotated[bool, typer.Option("--no-relay", help="Neither relay nor STUN.")] = False,
    relay_listen: Annotated[
        list[str] | None,
        typer.Option(help="Where the relay listens with its own certificate, if the URL is http. [default: :8443]"),
    ] = None,
    relay_address: Annotated[
        list[str] | None,
        typer.Option(
            help="Where clients find the relay, if not at the URL's host: a name, or an address; again for the other "
            "family's."
        ),
    ] = None,
    stun_listen: Annotated[
        list[str] | None, typer.Option(help="UDP address for STUN (may be repeated). [default: :3478]")
    ] = None,
    other_relay: Annotated[
        list[str] | None,
        typer.Option(help="A relay elsewhere that clients may use too, as `wayhome relay` prints it; repeatable."),
    ] = None,
) -> None:
    """Run the server: coordinator, relay, STUN and pages, with everything it keeps in one directory."""
    # the rest of the command line needs none of this, and it takes a moment to load
    import asyncio

    import uvloop

    from .. import own_url
    from ..derp_map import other_relay_from_text
    from ..serve import ServeSettings, Service, parse_url, serve_until_told

    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    directory = (state or default_state_directory(os.environ, os.getuid())).absolute()
    kept = own_url.remembered(directory)
    guess = None if url or kept else own_url.guessed()
    chosen = (url or kept or guess or "").rstrip("/")
    port = parse_url(chosen).port
    settings = ServeSettings(
        state=directory,
        url=chosen,
        listen=_addresses(listen or [f":{port}"], "--listen"),
        certificate=cert,
        key=key,
        own_ca=own_ca,
        suffix=suffix,
        relay=not no_relay,
        relay_listen=_addresses(relay_listen or [":8443"], "--relay-listen"),
        relay_address=tuple(relay_address or ()),
        stun_listen=_addresses(stun_listen or [":3478"], "--stun-listen"),
        other_relays=tuple(other_relay_from_text(text) for text in other_relay or ()),
    )

    def started(service: Service) -> None:
        alone = guess is not None and own_url.serves_this_machine_alone(guess)
        if not alone:
            own_url.remember(settings.state, settings.url)
        _tell(service.made, settings.state, settings.url)
        if alone:
            # not kept: the next start may find a network
            print("No network was found: that URL serves this machine alone. Name a better one with --url.")
        elif guess is not None:
            print(
                "That URL is a guess, good within this network; clients keep it, so name a better one now with --url."
            )
        sys.stdout.flush()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_told(settings, started))


def _tell(made: list[str], state: Path, url: str) -> None:
    if made:
        print("First start. Made:")
        for line in made:
            print(f"  {line}")
        option = "" if state == default_state_directory(os.environ, os.getuid()) else f" --state {state}"
        print("Next, in another terminal:")
        print(f"  wayhome user create anna{option}")
        print(f"  wayhome key create --user anna{option}")
        print(f"and on a device: tailscale up --login-server {url} --auth-key KEY")
    print(f"Serving {url} (state in {state}). Stop with Ctrl-C.")


def _addresses(texts: list[str], option: str) -> tuple[tuple[str, int], ...]:
    return tuple(_address(text, option) for text in texts)


def _address(text: str, option: str) -> tuple[str, int]:
    """Read ":8080" (all addresses), "8080", "192.0.2.1:8080" or "[::1]:8080"."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise HostError(f"{option} {text} is no address with a port; write it as :8080, 192.0.2.1:8080 or [::1]:8080")
    return host, int(port)
