"""`wireloom machine …`: machines, and which networks they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated

import typer

from events.errors import InvalidInputError
from services.cli.api import Api, Json
from services.cli.lookup import (
    MACHINES,
    NETWORKS,
    all_machines,
    machine_named,
    machines_named,
    network_named,
)
from services.cli.moments import moment_of
from services.cli.networks import machines_text
from services.cli.path_tables import peers_table
from services.cli.revoke import Machine, revoke, rotate_key
from services.cli.session import AsJson, DryRun, Url, Yes, opened
from services.cli.tables import TRANSIT, machine_table, machines_table, memberships_table, networks_of
from services.cli.tunnels import tunnels

BATCH = 10_000
"""How many machines the gateway assigns at once."""

app = typer.Typer(no_args_is_help=True, help="Machines: look at them, assign them to networks, revoke or delete them.")


class Transit(StrEnum):
    """Whether others' traffic may go through a machine."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


InNetwork = Annotated[str, typer.Option("--network", "-n", metavar="NAME|UUID", help="The network.")]


@app.command("list")
def list_machines(
    context: typer.Context,
    *,
    network: Annotated[
        str | None, typer.Option("--network", "-n", metavar="NAME|UUID", help="Only those in this network.")
    ] = None,
    online: Annotated[bool | None, typer.Option("--online/--offline", help="Only those that are.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the machines."""
    if online is not None and moment_of(context) is not None:
        raise InvalidInputError("Who was online is not recorded.", hint="Leave out --online and --offline, or --at.")
    with opened(context, url, as_json, looks_back=True) as session:
        uuid = network_named(session.api, network)["uuid"] if network else None
        machines = session.api.all(MACHINES, mesh_network_uuid=uuid, is_online=online)
        if as_json:
            session.json({"items": machines, "total": len(machines)})
        elif machines:
            separator = "\n" if session.out.is_terminal else ", "
            session.table(machines_table(machines, session.wide, separator))
        else:
            session.none(
                "There are no such machines. A machine appears once it has joined: see `wireloom token create`."
            )


@app.command()
def show(context: typer.Context, machine: Machine, url: Url = None, as_json: AsJson = False) -> None:
    """Show everything about a machine, its peers and how it reaches them."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = machine_named(session.api, machine)
        peers = _peers(session.api, found)
        if as_json:
            session.json(found | {"peers": peers})
            return
        session.table(machine_table(found))
        if found["memberships"]:
            session.say("")
            session.table(memberships_table(found, session.wide))
        if peers:
            session.say("")
            session.table(peers_table(peers, session.wide))


@app.command()
def assign(
    context: typer.Context,
    *,
    network: InNetwork,
    machines: Annotated[list[str] | None, typer.Argument(metavar="HOSTNAME|UUID...", help="The machines.")] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ask for this address, for one machine.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All machines that there are.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Assign machines to a network, each at the next available address.

    Machines that are in the network already stay as they are. Up to 10,000 are assigned at once, all or none.
    """
    texts = machines or []
    if every == bool(texts):
        raise InvalidInputError("Say which machines to assign.", hint="Give hostnames or uuids, or --all.")
    if address is not None and len(texts) != 1:
        raise InvalidInputError("An address can be asked for one machine only.", hint="Name one machine.")
    with opened(context, url, as_json, dry_run=dry_run) as session:
        with session.working("Looking up machines") as tell:
            target = network_named(session.api, network)
            chosen = all_machines(session.api, tell) if every else machines_named(session.api, texts, tell)
            assigned = _assign(session.api, target, chosen, address, tell)
        if as_json:
            session.json({"items": assigned, "total": len(assigned)})
        else:
            session.say(_assigned_text(target, chosen, assigned))


@app.command()
def unassign(
    context: typer.Context,
    *,
    machine: Machine,
    network: InNetwork,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take a machine out of a network; its address is free again."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        source = network_named(session.api, network)
        found = machine_named(session.api, machine)
        answer = session.api.change("DELETE", f"{NETWORKS}/{source['uuid']}/machines/{found['uuid']}")
        session.say(f"Took {found['hostname']} out of {source['name']}.")
        if as_json:
            session.json(answer)


@app.command()
def rename(
    context: typer.Context,
    *,
    machine: Machine,
    hostname: Annotated[str, typer.Argument(metavar="NEW-HOSTNAME", help="Its hostname from now on.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a machine another hostname."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = machine_named(session.api, machine)
        changed = session.api.change("PATCH", f"{MACHINES}/{found['uuid']}", {"hostname": hostname})
        session.say(f"Machine {found['hostname']} is now {hostname}.")
        if as_json:
            session.json(changed)


@app.command()
def transit(
    context: typer.Context,
    *,
    machine: Machine,
    mode: Annotated[Transit, typer.Argument(metavar="auto|always|never", help="Whether it is.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say whether others' traffic may go through a machine, where they have no direct path.

    With auto it does where that is the shortest way, with always rather than through other machines. What goes through
    a machine is encrypted from end to end.
    """
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = machine_named(session.api, machine)
        changed = session.api.change("PATCH", f"{MACHINES}/{found['uuid']}", {"transit": mode.value})
        session.say(f"Transit through {found['hostname']} is now {TRANSIT[mode.value]}.")
        if as_json:
            session.json(changed)


@app.command()
def delete(
    context: typer.Context,
    *,
    machine: Machine,
    force: Annotated[bool, typer.Option("--force", help="Also if it is in networks: take it out.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a machine for good; with --force also one that is in networks."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = machine_named(session.api, machine)
        if force and found["memberships"]:
            places = networks_of(found, ", ")
            session.agree(
                f"This deletes machine {found['hostname']} and takes it out of its networks ({places}). Its identity "
                "is spent: it cannot come back as the same machine.",
                yes,
            )
        session.api.change("DELETE", f"{MACHINES}/{found['uuid']}", force="true" if force else None)
        session.say(f"Deleted machine {found['hostname']}.")
        if as_json:
            session.json(found)


app.command()(revoke)
app.command()(rotate_key)
app.command()(tunnels)


def _peers(api: Api, machine: Json) -> list[Json]:
    """The machine's peers in all its networks, by network and address."""
    return sorted(api.all(f"{MACHINES}/{machine['uuid']}/peers"), key=lambda peer: peer["mesh_network_name"])


def _assign(
    api: Api, network: Json, machines: Sequence[Json], address: str | None, tell: Callable[[str], None]
) -> list[Json]:
    """Assign machines and return their assignments, as far as the gateway shows them yet."""
    path = f"{NETWORKS}/{network['uuid']}/machines"
    if not machines:
        raise InvalidInputError("There are no machines to assign.", hint="Start wireloom-agent on a machine first.")
    if api.is_dry and len(machines) > BATCH:
        raise InvalidInputError(f"A dry run assigns {BATCH:,} machines at most.", hint="Name fewer machines.")
    if len(machines) == 1:
        body = {"machine_uuid": machines[0]["uuid"]} | ({"wg_ip_address": address} if address else {})
        answer = api.change("POST", path, body)
        return [answer] if answer else []
    assigned: list[Json] = []
    for start in range(0, len(machines), BATCH):
        batch = machines[start : start + BATCH]
        tell(f"Assigning machines to {network['name']}: {start + len(batch):,} of {len(machines):,}")
        body = {"machine_uuids": [machine["uuid"] for machine in batch]}
        assigned += api.change("POST", f"{path}/batch", body).get("items", [])
    return assigned


def _assigned_text(network: Json, machines: Sequence[Json], assigned: Sequence[Json]) -> str:
    """Who has which address, in a sentence: of many machines the lowest and the highest."""
    who = machines[0]["hostname"] if len(machines) == 1 else machines_text(len(machines))
    if len(assigned) < len(machines):
        return f"Assigned {who} to {network['name']}; the gateway does not show all of it yet."
    addresses = sorted(IPv4Address(item["wg_ip_address"]) for item in assigned)
    if len(addresses) == 1:
        return f"{who} is in {network['name']} as {addresses[0]}."
    return f"{who} are in {network['name']}, from {addresses[0]} to {addresses[-1]}."
