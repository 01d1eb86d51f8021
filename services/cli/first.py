"""The first admin, and another token for one who lost his: made on the control plane's own machine, over the bus.

Whoever can read the identity's folder may do this. The token is made here, its hash alone leaves this process.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from nacl.utils import random

from events import bus, state
from events.client import BusClient
from events.commands import Command, CreateFirstAccount, IssueApiToken, Outcome
from events.errors import UnavailableError
from events.identity import Identity
from events.records import AccountRecord
from events.subjects import STATE_PREFIX
from events.trust import tokens
from services.cli.datadir import default_data_dir
from services.cli.embedded import told_url
from services.cli.plan import DEFAULT_BUS

FIRST_NAME = "admin"
"""What the first account is called."""

_PATIENCE = 10.0
_ACCOUNTS = f"{STATE_PREFIX}.access.account."

Execute = Callable[[Command], Awaitable[Outcome]]

DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="WIRELOOM_DATA_DIR",
        show_default="/var/lib/wireloom for root, else ~/.local/share/wireloom",
        help="Where `wireloom up` keeps its data.",
    ),
]
IdentityDir = Annotated[
    Path | None,
    typer.Option(
        envvar="WIRELOOM_IDENTITY", show_default="identity in the data directory", help="The control plane's identity."
    ),
]
BusUrl = Annotated[
    str, typer.Option(envvar="NATS_URL", show_default="the bus of `wireloom up`", help="The control plane's bus.")
]


def recover(*, data_dir: DataDir = None, identity: IdentityDir = None, nats_url: BusUrl = "") -> None:
    """Make and show a new token of an admin, on the control plane's own machine.

    For who lost theirs, or never saw the first. It needs the identity's folder and a running control plane.
    """
    directory, found = located(data_dir, identity, os.environ)
    url = nats_url or told_url(directory / "bus") or DEFAULT_BUS
    name, token = asyncio.run(_recover(url, found))
    typer.echo(f"A new token of the account {name}, shown this once:\n\n  {token}\n")


def located(data_dir: Path | None, identity: Path | None, environment: Mapping[str, str]) -> tuple[Path, Identity]:
    """The data directory and the identity that a command on the control plane's own machine works with.

    Raises `IdentityError` where there is no identity.
    """
    directory = (data_dir or default_data_dir(environment, os.geteuid() == 0)).absolute()
    found = Identity((identity or directory / "identity").absolute())
    _ = found.public  # says what is wrong with the folder before anything is done
    return directory, found


def new_token() -> str:
    """A fresh API token: 256 random bits."""
    return tokens.make(random(32), "api", uuid4())


async def make_first_admin(execute: Execute) -> str | None:
    """The token of the first account, an admin, made just now; None where there is an account already.

    Raises `UnavailableError` when nobody decides.
    """
    token = new_token()
    outcome = await execute(
        CreateFirstAccount(
            command_id=uuid4(),
            actor=actor(),
            account_id=uuid4(),
            name=FIRST_NAME,
            token_id=uuid4(),
            secret_hash=tokens.hashed(token),
        )
    )
    return token if outcome.changed else None


def insisting(client: BusClient, patience: float = _PATIENCE) -> Execute:
    """Has commands executed: each asked for again until it is decided, for so many seconds."""

    async def execute(command: Command) -> Outcome:
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            try:
                return await bus.execute(client, command, timeout=5)
            except UnavailableError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    return execute


def actor() -> str:
    """Who acts through the control plane's own machine, as events name it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = f"uid-{os.getuid()}"
    return "console:" + "".join(c if "!" <= c <= "~" else "_" for c in user)[:190]


async def _recover(url: str, identity: Identity) -> tuple[str, str]:
    client = await reached(url, identity.credentials("console"))
    try:
        execute = insisting(client)
        if (token := await make_first_admin(execute)) is not None:
            return FIRST_NAME, token
        account, token = await _first_admin(url, identity), new_token()
        await execute(
            IssueApiToken(
                command_id=uuid4(),
                actor=actor(),
                token_id=uuid4(),
                account_id=account.account_id,
                name="recovered",
                role="admin",
                secret_hash=tokens.hashed(token),
            )
        )
        return account.name, token
    finally:
        await client.close()


async def _first_admin(url: str, identity: Identity) -> AccountRecord:
    """The oldest admin's account. Only the topology service's credentials, of all that are here, read records."""
    client = await reached(url, identity.credentials("topology"))
    try:
        dump = await state.load(client)
    finally:
        await client.close()
    bodies = [state.decode_record(payload).body for subject, payload in dump.entries if subject.startswith(_ACCOUNTS)]
    admins = [body for body in bodies if isinstance(body, AccountRecord) and body.role == "admin"]
    if not admins:
        raise UnavailableError("The accounts are not derived from the log yet.", hint="Try again in a moment.")
    return min(admins, key=lambda account: account.created_at)


async def reached(url: str, credentials: bus.Credentials) -> BusClient:
    """A connection to the control plane's bus. Raises `UnavailableError` if none answers soon."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await bus.connect(url, "wireloom console", credentials)
    except TimeoutError as error:
        raise UnavailableError(
            f"No message bus of this control plane answers at {url}.",
            hint="Start it with `wireloom up`, or say where it is with --nats-url.",
        ) from error
