"""What became of a revocation: which machines have dropped the revoked one. Pure: the API's objects in, words out."""

from __future__ import annotations

from collections.abc import Iterable

from services.cli.api import Json

_NAMED = 10
"""Up to so many machines are named in a sentence."""


def pending(revocation: Json, online: bool) -> list[Json]:
    """The machines that have not dropped it yet, each once: those that are online, or those that are not."""
    found = {
        machine["uuid"]: machine
        for network in revocation["networks"]
        for machine in network["pending"]
        if machine["is_online"] is online
    }
    return list(found.values())


def progress(revocation: Json) -> str:
    """How far it is, in a line: for each network how many have dropped it, of how many."""
    counts = [
        f"{network['name']} {len(network['dropped']):,} of {len(network['dropped']) + len(network['pending']):,}"
        for network in revocation["networks"]
    ]
    return "Dropped by " + ", ".join(counts) if counts else "It was in no network"


def news(before: Json | None, now: Json) -> list[str]:
    """Who has dropped it since, a line for each network."""
    known = {
        (network["mesh_network_uuid"], machine["uuid"])
        for network in (before["networks"] if before else ())
        for machine in network["dropped"]
    }
    lines = []
    for network in now["networks"]:
        fresh = [
            machine for machine in network["dropped"] if (network["mesh_network_uuid"], machine["uuid"]) not in known
        ]
        if fresh:
            lines.append(f"{network['name']}: dropped by {hostnames(fresh)}")
    return lines


def outcome(hostname: str, revocation: Json) -> str:
    """How it stands, in a sentence or two."""
    offline, online = pending(revocation, online=False), pending(revocation, online=True)
    if not revocation["networks"]:
        return f"{hostname} was in no network with others, so nobody has to drop it."
    if not online and not offline:
        return f"Every machine that was in a network with {hostname} has dropped it."
    told = []
    if not online:
        told.append(f"Every machine that is online has dropped {hostname}.")
    if offline:
        which = "which is offline: it drops" if len(offline) == 1 else "which are offline: they drop"
        told.append(
            f"Not yet: {hostnames(offline)}, {which} {hostname} on hearing from the control plane again, and until "
            "then would still talk to it."
        )
    return "\n".join(told)


def hostnames(machines: Iterable[Json]) -> str:
    """The hostnames, of many the first."""
    names = [machine["hostname"] for machine in machines]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
