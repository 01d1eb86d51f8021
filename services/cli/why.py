"""`wireloom why`: why things are as they are, or were."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Any

import typer

from events.errors import InvalidInputError
from services.cli.former import machine_ever, network_ever
from services.cli.session import AsJson, Session, Url, opened
from services.cli.why_trees import why_tree

WHY = "/api/v1/why"

app = typer.Typer(
    help="Why something is so: what it follows from, to the command and who gave it. With wireloom --at: why it was.",
    no_args_is_help=True,
)

Network = Annotated[
    str | None,
    typer.Option("--network", "-n", metavar="NAME|UUID", help="In this network.", show_default="all that are meant"),
]
Machine = Annotated[str, typer.Argument(metavar="MACHINE", help="A hostname or uuid.")]
Peer = Annotated[str, typer.Argument(metavar="PEER", help="The other's hostname or uuid.")]


@app.command()
def peer(
    context: typer.Context,
    *,
    machine: Machine,
    peer: Peer,
    network: Network = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Why PEER is a peer of MACHINE, with this address, name, key and endpoints; or why it is not."""
    with opened(context, url, as_json, looks_back=True) as session:
        _pair(session, "peer", machine, peer, network)


@app.command()
def path(
    context: typer.Context,
    *,
    machine: Machine,
    peer: Peer,
    network: Network = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Why MACHINE reaches PEER directly, through others, or not at all."""
    with opened(context, url, as_json, looks_back=True) as session:
        _pair(session, "path", machine, peer, network)


@app.command()
def address(
    context: typer.Context,
    *,
    address: Annotated[str, typer.Argument(metavar="ADDRESS|MACHINE", help="An address, or whose addresses.")],
    network: Network = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Why an address is a machine's, or nobody's; or why a machine has the addresses that it has."""
    with opened(context, url, as_json, looks_back=True) as session:
        is_address = not address.strip("0123456789.")
        asked = {"address": address} if is_address else {"machine": machine_ever(session, address)}
        _explain(session, "address", network, **asked)


@app.command()
def route(
    context: typer.Context,
    *,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Such as 10.20.0.0/16, or a virtual IP.")],
    machine: Annotated[
        str | None,
        typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="Why this machine has a route to it, or none."),
    ] = None,
    network: Network = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Why a prefix is announced, or is not; with --machine, why that machine has a route to it, or none."""
    with opened(context, url, as_json, looks_back=True) as session:
        asked = {"prefix": _prefix(prefix)}
        if machine is not None:
            asked["machine"] = machine_ever(session, machine)
        _explain(session, "route", network, **asked)


def _prefix(text: str) -> str:
    """A prefix as it was given, or a virtual IP as a prefix. Raises `InvalidInputError` for what is neither."""
    if "/" in text:
        return text
    try:
        return f"{IPv4Address(text)}/32"
    except AddressValueError:
        raise InvalidInputError(
            f"{text!r} is neither a prefix nor a virtual IP.",
            hint="Give one such as 10.20.0.0/16: `wireloom route list` and `wireloom vip list` show them.",
            field="prefix",
        ) from None


def _pair(session: Session, what: str, machine: str, peer: str, network: str | None) -> None:
    one, other = machine_ever(session, machine), machine_ever(session, peer)
    _explain(session, what, network, machine=one, peer=other)


def _explain(session: Session, what: str, network: str | None, **asked: Any) -> None:
    if network is not None:
        asked["network"] = network_ever(session, network)
    why = session.api.get(f"{WHY}/{what}", **asked)
    if session.as_json:
        session.json(why)
        return
    for number, item in enumerate(why["items"]):
        if number:
            session.say("")
        session.table(why_tree(item, session.out.width))
