"""`wireloom token …`: the bootstrap tokens that let machines in."""

from __future__ import annotations

from typing import Annotated

import typer

from events.commands import MAX_USES, Lifetime
from events.errors import InvalidInputError
from services.cli.api import Api, Json
from services.cli.lookup import NETWORKS, network_named
from services.cli.resolve import choose_by_id
from services.cli.session import AsJson, DryRun, Session, Url, opened
from services.cli.tables import bootstrap_tokens_table, local_time

TOKENS = "/api/v1/bootstrap-tokens"
UNLIMITED = "unlimited"

app = typer.Typer(no_args_is_help=True, help="Bootstrap tokens: let machines join with one pasted line.")


@app.command()
def create(
    context: typer.Context,
    *,
    lifetime: Annotated[Lifetime, typer.Option(help="How long it lets machines in.")] = "10m",
    uses: Annotated[str, typer.Option(metavar=f"N|{UNLIMITED}", help="How many machines it lets in.")] = "1",
    network: Annotated[
        str | None,
        typer.Option(
            "--network", "-n", metavar="NAME|UUID", help="The network that they join.", show_default="the default one"
        ),
    ] = None,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a token, and print the line to paste on a machine. It is shown this once."""
    body: Json = {"lifetime": lifetime, "uses": _uses(uses)}
    with opened(context, url, as_json, dry_run=dry_run) as session:
        target = network_named(session.api, network) if network is not None else None
        if target is not None:
            body["mesh_network_uuid"] = target["uuid"]
        made = session.api.create(TOKENS, body)
        if as_json:
            session.json(made)
        elif not session.is_tried:
            _show(session, made, target)


@app.command("list")
def list_tokens(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """List the tokens, also those that let nobody in any more."""
    with opened(context, url, as_json) as session:
        tokens = session.api.all(TOKENS)
        if as_json:
            session.json({"items": tokens, "total": len(tokens)})
        elif tokens:
            session.table(bootstrap_tokens_table(tokens, _network_names(session.api, tokens), session.wide))
        else:
            session.say("There are no bootstrap tokens. Make one: wireloom token create")


@app.command()
def revoke(
    context: typer.Context,
    *,
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id or how it begins; never the token.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have a token let nobody in any more. Machines that have joined with it stay."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = choose_by_id(token, session.api.all(TOKENS), "bootstrap token", "wireloom token list")
        session.api.change("DELETE", f"{TOKENS}/{found['uuid']}")
        session.say(f"Revoked bootstrap token {found['uuid']}: it lets nobody in any more.")
        if as_json:
            session.json(found)


def _uses(text: str) -> int | None:
    if text.lower() == UNLIMITED:
        return None
    if text.isascii() and text.isdigit() and 1 <= len(text) < 10 and 1 <= int(text) <= MAX_USES:
        return int(text)
    raise InvalidInputError(
        f"{text!r} is not a number of machines.", hint=f"Give a number from 1 to {MAX_USES:,}, or {UNLIMITED}."
    )


def _show(session: Session, token: Json, network: Json | None) -> None:
    """The line to paste stands alone, whole, on the standard output."""
    uses = token["uses"]
    who = "any number of machines" if uses is None else "one machine" if uses == 1 else f"{uses:,} machines"
    where = f" to {network['name']}" if network else ""
    session.err.print(
        f"This lets in {who}{where} until {local_time(token['expires_at'])}. Paste it on the machine:\n", soft_wrap=True
    )
    session.say(token["join_command"])


def _network_names(api: Api, tokens: list[Json]) -> dict[str, str]:
    if not any(token["mesh_network_uuid"] for token in tokens):
        return {}
    return {network["uuid"]: network["name"] for network in api.all(NETWORKS)}
