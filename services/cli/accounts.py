"""`wireloom account …`: people and programs, and the API tokens that speak for them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from events.commands import Lifetime
from events.fields import AccountRole
from services.cli.api import Api, Json
from services.cli.resolve import choose_account, choose_by_id
from services.cli.session import AsJson, DryRun, Session, Url, Yes, opened
from services.cli.tables import accounts_table, api_tokens_table, end_of

ACCOUNTS = "/api/v1/accounts"
TOKENS = "/api/v1/tokens"
NEVER = "never"

app = typer.Typer(no_args_is_help=True, help="Accounts of people and programs, and their API tokens.")
tokens = typer.Typer(no_args_is_help=True, help="API tokens: what a person or program signs in with.")
app.add_typer(tokens, name="token")

Name = Annotated[str, typer.Argument(metavar="NAME|UUID", help="The account.")]


@app.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other account has.")],
    role: Annotated[AccountRole, typer.Option(help="What it may do: look; change things; manage accounts too.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create an account. It signs in with an API token: see `wireloom account token create`."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        account = session.api.change("POST", ACCOUNTS, {"name": name, "role": role})
        session.say(
            f"Created account {name} with the role {role}. Give it a token: wireloom account token create "
            f"--account {name}"
        )
        if as_json:
            session.json(account)


@app.command("list")
def list_accounts(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """List the accounts."""
    with opened(context, url, as_json) as session:
        accounts = session.api.all(ACCOUNTS)
        if as_json:
            session.json({"items": accounts, "total": len(accounts)})
        else:
            session.table(accounts_table(accounts, session.wide))


@app.command("role")
def set_role(
    context: typer.Context,
    *,
    account: Name,
    role: Annotated[AccountRole, typer.Argument(help="What it may do from now on.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give an account another role. Its tokens never may do more than it."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = _account_named(session.api, account)
        changed = session.api.change("PATCH", f"{ACCOUNTS}/{found['uuid']}", {"role": role})
        session.say(f"Account {found['name']} has the role {role}; it was {found['role']}.")
        if as_json:
            session.json(changed)


@app.command()
def delete(
    context: typer.Context,
    *,
    account: Name,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete an account with its tokens. What it did stays in the log."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = _account_named(session.api, account)
        session.agree(
            f"This deletes account {found['name']} ({found['role']}): all its tokens stop counting at once.", yes
        )
        session.api.change("DELETE", f"{ACCOUNTS}/{found['uuid']}")
        session.say(f"Deleted account {found['name']} and its tokens.")
        if as_json:
            session.json(found)


@tokens.command("create")
def create_token(
    context: typer.Context,
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME|UUID", help="Whose it is.", show_default="yourself")
    ] = None,
    name: Annotated[str, typer.Option(help="What tells it apart, for example the program that will have it.")] = "api",
    role: Annotated[
        AccountRole | None, typer.Option(help="What it may do, at most.", show_default="the account's")
    ] = None,
    lifetime: Annotated[Literal[Lifetime, "never"], typer.Option(help="When it expires.")] = "90d",
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an API token. It is shown this once."""
    body: Json = {"name": name, "lifetime": None if lifetime == NEVER else lifetime}
    if role is not None:
        body["role"] = role
    with opened(context, url, as_json, dry_run=dry_run) as session:
        if account is not None:
            body["account_uuid"] = _account_named(session.api, account)["uuid"]
        made = session.api.create(TOKENS, body)
        if as_json:
            session.json(made)
        elif not session.is_tried:
            _show(session, made)


@tokens.command("list")
def list_tokens(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """List the API tokens and browser sessions: an admin's list has everybody's, others' their own."""
    with opened(context, url, as_json) as session:
        found = session.api.all(TOKENS)
        if as_json:
            session.json({"items": found, "total": len(found)})
        else:
            session.table(api_tokens_table(found, session.wide))


@tokens.command("revoke")
def revoke_token(
    context: typer.Context,
    *,
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id or how it begins; never the token.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have an API token speak for nobody any more."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = choose_by_id(token, session.api.all(TOKENS), "API token", "wireloom account token list")
        session.api.change("DELETE", f"{TOKENS}/{found['uuid']}")
        session.say(f"Revoked token {found['name']} of {found['account_name']}: it speaks for nobody any more.")
        if as_json:
            session.json(found)


def _account_named(api: Api, text: str) -> Json:
    return choose_account(text, api.all(ACCOUNTS))


def _show(session: Session, token: Json) -> None:
    """The token stands alone on the standard output."""
    session.err.print(
        f"This speaks for {token['account_name']} with the role {token['role']}, {end_of(token['expires_at'])}. "
        "It is shown this once:\n",
        soft_wrap=True,
    )
    session.say(token["token"])
