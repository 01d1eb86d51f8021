"""`wireloom machine revoke` and `rotate-key`: changes that are done only once machines have followed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import typer

from events.errors import NotFoundError, UnavailableError
from services.cli import receipts
from services.cli.api import Api, Json
from services.cli.lookup import MACHINES, machine_named, network_named
from services.cli.session import AsJson, DryRun, Session, Url, Yes, opened
from services.cli.tables import networks_of, receipts_table

_POLL = 0.25

Machine = Annotated[str, typer.Argument(metavar="HOSTNAME|UUID", help="The machine.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the machines.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the machines.")]


def revoke(
    context: typer.Context,
    *,
    machine: Machine,
    yes: Yes = False,
    timeout: Timeout = 30,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a machine for good, and wait until the others have dropped it.

    It leaves all its networks, its connection to the bus is closed, and the others drop its key.

    Exit code 0 says that all that are online have. For a machine that is revoked already, this shows how it stands.
    """
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = machine_named(session.api, machine)
        if found.get("state") != "revoked":
            session.agree(_consequence(found), yes)
            changed = session.api.change("POST", f"{MACHINES}/{found['uuid']}/revoke")
            session.say(f"Revoked machine {found['hostname']}.")
        else:
            changed = found
            session.say(f"Machine {found['hostname']} is revoked already.")
        if no_wait or session.is_tried:
            if as_json:
                session.json(changed)
            return
        _show_receipts(session, found, timeout)


def rotate_key(
    context: typer.Context,
    *,
    machine: Machine,
    network: Annotated[
        str | None,
        typer.Option("--network", "-n", metavar="NAME|UUID", help="Only in this network.", show_default="all it is in"),
    ] = None,
    timeout: Timeout = 30,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have a machine make itself new WireGuard keys, and wait until they are in use."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        target = network_named(session.api, network) if network is not None else None
        found = machine_named(session.api, machine)
        body = {"mesh_network_uuid": target["uuid"]} if target else {}
        changed = session.api.change("POST", f"{MACHINES}/{found['uuid']}/rotate-key", body)
        old = {place["mesh_network_uuid"]: place["public_key"] for place in found["memberships"]}
        concerned = [target["uuid"]] if target else list(old)
        session.say(f"Asked {found['hostname']} for new keys.")
        if session.is_tried:
            return
        if not no_wait and concerned and found["is_online"]:
            changed = _rotated(session, found, {uuid: old.get(uuid) for uuid in concerned}, timeout)
        elif not found["is_online"]:
            session.say("It is offline, and makes them when it is back.")
        if as_json:
            session.json(changed)


def _consequence(machine: Json) -> str:
    places = networks_of(machine, ", ")
    leaves = f"leaves its networks ({places})" if places else "is in no network"
    return (
        f"This revokes machine {machine['hostname']} for good: it {leaves}, its connection to the control plane is "
        "closed, and all others drop its key. It can come back only as another machine, with a new identity. It cannot "
        "be undone."
    )


def _show_receipts(session: Session, machine: Json, timeout: float) -> None:
    path = f"{MACHINES}/{machine['uuid']}/revocation"
    heard: list[Json] = []

    def look() -> Json | None:
        now = _found(session.api, path)
        if now is None:
            return None
        tell(receipts.progress(now))
        for line in receipts.news(heard[-1] if heard else None, now):
            if not session.as_json:
                session.err.print(line, soft_wrap=True)
        heard.append(now)
        return now if not receipts.pending(now, online=True) else None

    with session.working("Waiting for the machines") as tell:
        _poll(session, look, timeout)
    if not heard:
        raise UnavailableError(
            "The gateway does not show yet what became of it.", hint="Look again: the same command waits on."
        )
    last = heard[-1]
    if session.as_json:
        session.json(last)
    else:
        if last["networks"]:
            session.say("")
            session.table(receipts_table(last))
            session.say("")
        session.say(receipts.outcome(machine["hostname"], last))
    if late := receipts.pending(last, online=True):
        raise UnavailableError(
            f"After {timeout:g} s these machines, which are online, have not dropped {machine['hostname']} yet: "
            f"{receipts.hostnames(late)}.",
            hint="Look again: the same command waits on.",
        )


def _rotated(session: Session, machine: Json, old: Json, timeout: float) -> Json:
    """The machine once none of its `old` keys, by network, is in use any more. Raises `UnavailableError`."""

    def look() -> Json | None:
        now = session.api.get(f"{MACHINES}/{machine['uuid']}")
        keys = {place["mesh_network_uuid"]: place["public_key"] for place in now["memberships"]}
        return now if all(keys.get(uuid) != key for uuid, key in old.items() if uuid in keys) else None

    with session.working(f"Waiting for {machine['hostname']}"):
        changed = _poll(session, look, timeout)
    if changed is None:
        raise UnavailableError(
            f"{machine['hostname']} has not changed its keys within {timeout:g} s; the request stands.",
            hint=f"Look with: wireloom machine show {machine['hostname']}",
        )
    session.say(f"{machine['hostname']} has new keys.")
    return changed


def _found(api: Api, path: str) -> Json | None:
    try:
        return api.get(path)
    except NotFoundError:  # the gateway does not show the revocation yet
        return None


def _poll(session: Session, look: Callable[[], Json | None], timeout: float) -> Json | None:
    """What `look` gives as soon as it gives something; None after `timeout` seconds."""
    for _ in range(math.ceil(timeout / _POLL)):
        found = look()
        if found is not None:
            return found
        session.pause(_POLL)
    return look()
