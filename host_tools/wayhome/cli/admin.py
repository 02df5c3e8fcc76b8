"""The commands that speak to a running coordinator: who is in the mesh, with which rights, and what it reaches."""

import typer

from . import dns, key, node, publish, route, status, user


def register(app: typer.Typer) -> None:
    for commands in (status, user, key, node, route, publish, dns):
        commands.register(app)
