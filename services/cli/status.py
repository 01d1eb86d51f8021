"""`wireloom status` and `wireloom version`: is it well, and what is it."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Annotated

import typer

from events.errors import UnavailableError
from services.cli.api import Api, Json
from services.cli.lookup import MACHINES, NETWORKS
from services.cli.session import AsJson, Url, opened
from services.cli.tables import settings_table

PARTS = {"bus": "Message bus", "allocator": "Allocator", "mirror": "Topology"}
"""The parts that the gateway tells about, as people know them."""


def status(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """Show whether the control plane is well: its parts, and how many networks and machines there are."""
    with opened(context, url, as_json) as session:
        ready, parts = session.api.ready()
        counts = _counts(session.api) if ready else {}
        if as_json:
            session.json({"url": session.api.url} | parts | counts)
        else:
            session.table(
                settings_table(
                    ("Gateway", session.api.url),
                    *((PARTS[name], "ready" if parts.get(name) else "NOT READY") for name in PARTS),
                    *((name.replace("_", " ").capitalize(), f"{count:,}") for name, count in counts.items()),
                )
            )
    if not ready:
        raise UnavailableError("The control plane is not ready.", hint="See the log of `wireloom up`.")


def _counts(api: Api) -> Json:
    return {
        "networks": api.get(NETWORKS, limit=1)["total"],
        "machines": api.get(MACHINES, limit=1)["total"],
        "machines_online": api.get(MACHINES, limit=1, is_online=True)["total"],
    }


def version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Show which version of Wireloom this is."""
    number = version_of("wireloom")
    typer.echo(f'{{"version": "{number}"}}' if as_json else f"wireloom {number}")
