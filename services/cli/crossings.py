"""`wireloom machine gateway` and `wireloom network reflectors`: machines with a special part in routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from events.errors import InvalidInputError
from services.cli.lookup import MACHINES, NETWORKS, hostnames, machine_named, machines_named, network_named
from services.cli.routes import separated, uuids_of
from services.cli.session import AsJson, DryRun, Url, opened


def gateway(
    context: typer.Context,
    *,
    machine: Annotated[str, typer.Argument(metavar="HOSTNAME|UUID", help="The machine.")],
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[NETWORK NETWORK...]", help="Two networks at least that it is in.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Have it be no gateway.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have a machine let routes and traffic cross between networks, as policy allows; or show between which it does."""
    named = separated(networks)
    if none and named:
        raise InvalidInputError("Both networks and --none were given.", hint="Give one of them.")
    with opened(context, url, as_json, looks_back=not (named or none), dry_run=dry_run) as session:
        found = machine_named(session.api, machine)
        path = f"{MACHINES}/{found['uuid']}/gateway"
        if named or none:
            chosen = [network_named(session.api, text) for text in named]
            state = session.api.change("PUT", path, {"network_uuids": uuids_of(chosen)})
            names = {network["uuid"]: network["name"] for network in chosen}
        else:
            state = session.api.get(path)
            known = {network["uuid"]: network["name"] for network in session.api.all(NETWORKS)}
            names = {uuid: known.get(uuid, uuid[:8]) for uuid in state["network_uuids"]}
        inside = {place["mesh_network_uuid"] for place in found["memberships"]}
        left = [name for uuid, name in names.items() if uuid not in inside]
        session.say(gateway_text(found["hostname"], list(names.values()), left))
        if as_json:
            session.json(state)


def gateway_text(hostname: str, networks: Sequence[str], left: Sequence[str]) -> str:
    """Between which networks a machine is a gateway, in words; it is not in those `left` any more."""
    if not networks:
        return f"{hostname} is no gateway."
    if len(networks) == 1:
        return f"{hostname} was a gateway, of whose networks {networks[0]} alone is left: nothing crosses there."
    text = f"{hostname} is a gateway between {' and '.join(networks)}"
    return f"{text}, but it is not in {' and '.join(left)} now." if left else f"{text}."


def reflectors(
    context: typer.Context,
    *,
    network: Annotated[str, typer.Argument(metavar="NAME|UUID", help="The network.")],
    machines: Annotated[
        list[str] | None, typer.Argument(metavar="[MACHINE MACHINE...]", help="Two machines at least that are in it.")
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Have them chosen.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Pin machines as a network's route reflectors, or have them chosen; or show which are pinned.

    They are in use while the network's route reflector mode is on: see `wireloom network set-route-reflector`.
    """
    named = separated(machines)
    if auto and named:
        raise InvalidInputError("Both machines and --auto were given.", hint="Give one of them.")
    with opened(context, url, as_json, looks_back=not (named or auto), dry_run=dry_run) as session:
        found = network_named(session.api, network)
        path = f"{NETWORKS}/{found['uuid']}/reflectors"
        if named or auto:
            chosen = machines_named(session.api, named) if named else []
            state = session.api.change("PUT", path, {"machine_uuids": uuids_of(chosen)})
            names = [machine["hostname"] for machine in chosen]
        else:
            state = session.api.get(path)
            names = list(hostnames(session.api, state["machine_uuids"]).values())
        pinned = f"pinned to {', '.join(names)}" if names else "chosen for reachability and stability"
        session.say(f"The route reflectors of {found['name']} are {pinned}.")
        if as_json:
            session.json(state)
