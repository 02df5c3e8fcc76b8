"""wayhome lab: networks out of namespaces, to try things in."""

import json
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import HostError
from ..lab import plan as plans
from ..lab import record
from ..lab.lab import Lab, plan_of

lab = typer.Typer(
    name="lab",
    help="Build whole networks (homes, carriers, cafes and their NATs) on this machine, out of namespaces.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    app.add_typer(lab)


@lab.command("list", epilog="Example: wayhome lab list")
def list_labs(as_json: AsJson = False) -> None:
    """List the networks that can be built, and the labs that are running."""
    if os.geteuid() == 0:
        record.remove_orphans()
    shipped = [plans.load(name) for name in plans.shipped()]
    running = [one for one in record.load_all() if one.is_running()]
    if as_json:
        document = {
            "plans": [{"name": one.name, "title": one.title} for one in shipped],
            "running": [
                {"name": one.name, "plan": one.plan, "keeper": one.keeper.pid} for one in running if one.keeper
            ],
        }
        print(json.dumps(document, indent=2))
        return
    console = Console()
    table = Table("plan", "what it is", box=None, header_style="bold")
    for one in shipped:
        table.add_row(one.name, one.title)
    console.print(table)
    console.print()
    if not running:
        console.print("No lab is running; `wayhome lab up story` starts one.")
        return
    table = Table("running lab", "plan", "hosts", box=None, header_style="bold")
    for found in running:
        table.add_row(found.name, found.plan, ", ".join(name for name in found.hosts if not name.startswith("(")))
    console.print(table)


@lab.command(epilog="Example: wayhome lab up story --name home")
def up(
    plan: Annotated[str, typer.Argument(help="A plan's name (see `wayhome lab list`) or the path of a TOML file.")],
    name: Annotated[str | None, typer.Option(help="What to call the lab; made up if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build a lab and leave it running."""
    made = Lab.up(plan, name=name)
    made.leave_running()
    if as_json:
        print(json.dumps({"name": made.name, "plan": made.plan.name, "hosts": list(made.plan.hosts)}))
        return
    first = next(iter(made.plan.hosts))
    print(f"The lab {made.name} is up.")
    print(f"  a shell in one of its hosts:  wayhome lab run {made.name} {first} bash")
    print(f"  its picture:                  wayhome lab show {made.name}")
    print(f"  take it down:                 wayhome lab down {made.name}")


@lab.command(epilog="Example: wayhome lab down story-1a2b3c   (or: wayhome lab down --all)")
def down(
    names: Annotated[list[str] | None, typer.Argument(help="The labs' names.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every lab that was left running.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take labs down with all that runs in them."""
    if not names and not everything:
        raise HostError("which lab? Give names (see `wayhome lab list`), or --all")
    removed = record.remove_orphans() if os.geteuid() == 0 else []
    wanted = list(names or [])
    if everything:
        # a lab with an owner belongs to a test or demo that is running now
        wanted += [one.name for one in record.load_all() if one.owner is None and one.name not in wanted]
    for name in wanted:
        if name not in removed:
            Lab.attach(name).down()
            removed.append(name)
    if as_json:
        print(json.dumps({"removed": removed}))
    elif removed:
        print(f"Down: {', '.join(removed)}")
    else:
        print("There was nothing to take down.")


@lab.command(
    epilog="Example: wayhome lab run story-1a2b3c traveller curl http://wayhome.example/",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def run(
    name: Annotated[str, typer.Argument(help="The lab's name.")],
    host: Annotated[str, typer.Argument(help="The host to run it on.")],
    words: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
) -> None:
    """Run a command inside a host of a running lab, on this terminal."""
    sys.exit(Lab.attach(name).host(host).run_on_terminal(words[1:] if words[0] == "--" else words))


@lab.command(epilog="Example: wayhome lab show story")
def show(
    name: Annotated[str, typer.Argument(help="A plan, the path of a TOML file, or a running lab.")],
    as_json: AsJson = False,
) -> None:
    """Draw a network in the terminal."""
    from ..lab import drawing

    running = record.load(name)
    # A plan may be called like a lab: what runs goes first, and a lab that has ended does not hide its plan.
    plan = plan_of(running) if running is not None and running.is_running() else plans.load(name)
    if as_json:
        print(json.dumps(drawing.as_data(plan), indent=2))
    else:
        Console().print(drawing.picture(plan))
