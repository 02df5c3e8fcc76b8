"""wayhome relay: a relay without a coordinator in the same process."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wayhomed.wire.address import endpoint_from_text, ip_text
from wayhomed.wire.errors import BadWire

from ..errors import HostError
from ..state_directory import default_state_directory
from .terminal import print_fields, print_json, print_table

if TYPE_CHECKING:
    from ..relay.standalone import Address, StandaloneRelay

# The relay itself is imported where it runs: every other `wayhome` command would wait a fifth of a second for it.

relay = typer.Typer(name="relay", help="Run a relay (DERP and STUN) on its own, or look at one that runs.")

State = Annotated[
    Path | None, typer.Option("--state", help="Where its keys are kept.", show_default="as for serve", readable=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    app.add_typer(relay)


@relay.callback(
    invoke_without_command=True,
    epilog="Example: wayhome relay --verify-url https://mesh.example.net/verify --name relay.example.net",
)
def run(
    context: typer.Context,
    state: State = None,
    listen: Annotated[list[str], typer.Option(help="ADDRESS:PORT for DERP; may be repeated.")] = ["0.0.0.0:8443"],  # noqa: B006
    stun_listen: Annotated[list[str], typer.Option(help="UDP ADDRESS:PORT for STUN; may be repeated.")] = [  # noqa: B006
        "0.0.0.0:3478"
    ],
    name: Annotated[
        list[str] | None, typer.Option(help="DNS name or address of this relay, for its own certificate; repeatable.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="Use this certificate (PEM) instead of an own, pinned one.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="No TLS: for labs, or behind a TLS proxy.")] = False,
    verify_url: Annotated[str | None, typer.Option(help="The coordinator's /verify, asked about each client.")] = None,
    allow_keys: Annotated[Path | None, typer.Option(help="A file of nodekey:... lines that may come in.")] = None,
    admit_everybody: Annotated[
        bool, typer.Option("--admit-everybody", help="Let in whoever comes: for labs only.")
    ] = False,
    rate: Annotated[int, typer.Option(help="Bytes a second that one client may send; 0 = no limit.")] = 25_000_000,
    as_json: AsJson = False,
) -> None:
    """Run a relay that is no part of a coordinator, until it is told to stop."""
    if context.invoked_subcommand is not None:
        return
    import uvloop

    from ..relay import standalone
    from ..relay.settings import RelaySettings

    if rate < 0:
        raise HostError("--rate is a number of bytes a second, or 0 for no limit")
    burst = max(rate // 10, RelaySettings().client_burst_bytes)
    options = standalone.StandaloneOptions(
        state=_state(state),
        listen=_addresses("--listen", listen),
        stun_listen=_addresses("--stun-listen", stun_listen),
        names=tuple(name or ()),
        certificate=cert,
        key=key,
        plain_http=plain_http,
        verify_url=verify_url,
        allow_keys=allow_keys,
        admit_everybody=admit_everybody,
        settings=RelaySettings(client_bytes_per_second=rate, client_burst_bytes=burst),
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    def started(one: "StandaloneRelay") -> None:
        facts = one.facts()
        if as_json:
            print(json.dumps(facts), flush=True)
        else:
            _show_facts(facts)

    uvloop.run(standalone.run_until_told(options, started))


@relay.command(epilog="Example: wayhome relay status --json")
def status(state: State = None, as_json: AsJson = False) -> None:
    """Show who uses a running relay, and what it has carried and dropped."""
    from ..relay import standalone

    answer = standalone.ask_status(_state(state))
    if as_json:
        print_json(answer)
        return
    _show_facts(answer)
    counters = answer["relay"]
    drops = ", ".join(f"{count} {reason}" for reason, count in counters["drops"].items())
    print_fields(
        [
            ("carried", f"{counters['packets_out']} packets, {counters['bytes_out']} bytes"),
            ("dropped", drops or "none"),
            ("STUN answers", str(answer["stun_requests"]["answered"])),
        ]
    )
    rows = [
        (
            one["node_key"][8:20],
            one["source"],
            f"{one['connected_s']:.0f} s",
            str(one["bytes_in"]),
            str(one["bytes_out"]),
        )
        for one in answer["clients"]
    ]
    print_table(("node key", "from", "for", "bytes in", "bytes out"), rows, "Nobody is connected.")


def _show_facts(facts: dict[str, Any]) -> None:
    from ..relay.standalone import addresses_text

    fields = [
        ("DERP", addresses_text([tuple(one) for one in facts["listen"]]) + ("" if facts["tls"] else " (no TLS)")),
        ("STUN", addresses_text([tuple(one) for one in facts["stun"]])),
    ]
    if facts["pin"]:
        fields.append(("CertName", facts["pin"]))
    if facts["other_relay"]:
        fields.append(("for the map", f"wayhome serve ... --other-relay {facts['other_relay']}"))
    if facts["note"]:
        fields.append(("note", facts["note"]))
    print_fields(fields)


def _state(state: Path | None) -> Path:
    return state or default_state_directory(os.environ, os.getuid())


def _addresses(option: str, texts: list[str]) -> "tuple[Address, ...]":
    addresses = []
    for text in texts:
        try:
            ip, port = endpoint_from_text(text)
        except BadWire as error:
            raise HostError(f"{option} {text}: {error}; write it as 0.0.0.0:8443 or [::]:8443") from None
        addresses.append((ip_text(ip), port))
    return tuple(addresses)
