"""`wayhome user`: the people whose devices make up the mesh."""

from typing import Annotated

import typer

from .admin_options import AsJson, Socket, State, Yes, connect, examples, make_sure
from .answers import User, read
from .terminal import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="People: each owns devices, and a device reaches its owner's others.")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="user")


@app.command(epilog=examples("wayhome user create anna", "wayhome user create anna --display-name 'Anna Berg'"))
def create(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, dots and dashes.")],
    display_name: Annotated[str, typer.Option(help="The name as people write it.")] = "",
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Add a person."""
    answer = connect(state, socket).post("users", body={"name": name, "display_name": display_name})
    if as_json:
        print_json(answer)
        return
    user = read(answer, User)
    say(f"{user.name} is a user now. To let a device in: `wayhome key create --user {user.name}`")


@app.command("list", epilog=examples("wayhome user list", "wayhome user list --json"))
def list_users(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show everyone."""
    answer = connect(state, socket).get("users")
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "DISPLAY NAME", "DEVICES", "SINCE"),
        (
            (user.name, user.display_name, str(user.nodes), f"{user.created:%Y-%m-%d}")
            for user in read(answer, list[User])
        ),
        "there are no users yet; `wayhome user create NAME` makes the first",
    )


@app.command(epilog=examples("wayhome user delete anna", "wayhome user delete anna --yes"))
def delete(name: str, yes: Yes = False, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Remove a person and their auth keys. Their devices have to be deleted first."""
    client = connect(state, socket)
    user = read(client.get("users", name), User)
    if not user.nodes:
        # with devices the server refuses and says what to do; there is nothing to be sure about
        make_sure(f"Delete {user.name} and the auth keys of that name?", yes)
    answer = client.delete("users", user.name)
    if as_json:
        print_json(answer)
        return
    say(f"{user.name} is gone, and the auth keys of that name let nobody in any more")
