"""What deleting a network would do, for the one who is about to. Pure: the time is an argument.

It follows what the allocator does: members leave with their addresses; route policies, gateways and pinned reflectors
name the network no more; a bootstrap token for it is refused; routes and virtual IPs stay, but not in this network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from events.records import NetworkRecord
from services.gateway.mirror import Mirror, Network
from services.gateway.naming import count, listed


@dataclass(frozen=True, slots=True)
class End:
    """What deleting a network does."""

    name: str
    machine_count: int
    effects: tuple[str, ...]
    """In sentences, the gravest first."""


def end_of(mirror: Mirror, network_id: UUID, now: datetime) -> End:
    """What deleting this network would do. Raises `NotFoundError`."""
    network, record = mirror.network(network_id)
    effects = (
        *_members(mirror, network_id, network),
        *_default(record),
        *_routing(mirror, network_id, network),
        *_reflectors(record),
        *_tokens(mirror, network_id, now),
        f"{record.network_cidr} is free for another network.",
    )
    return End(record.name, len(network.members), effects)


def _members(mirror: Mirror, network_id: UUID, network: Network) -> Iterator[str]:
    if not network.members:
        yield "No machine is assigned to it, so no connection ends."
        return
    size = len(network.members)
    names = listed(sorted(mirror.name_of(each) or str(each) for each in network.members))
    lose = "leaves and loses its address" if size == 1 else "leave, lose their addresses and no longer reach each other"
    yield f"{count(size, 'machine')} {lose} here: {names}."
    alone = sum(1 for each in network.members if set(mirror.networks_of(each)) == {network_id})
    if alone:
        some = f"{alone:,} of them {'is' if alone == 1 else 'are'}"
        who = "It is" if alone == size == 1 else "All are" if alone == size else some
        yield f"{who} then in no mesh network; the agents keep running."


def _default(record: NetworkRecord) -> Iterator[str]:
    if record.is_default:
        yield "There is no default network until you choose another: newly bootstrapped machines join none."


def _routing(mirror: Mirror, network_id: UUID, network: Network) -> Iterator[str]:
    routing = mirror.routing
    announced = [each.name for each in routing.routes.values() if each.enabled and _touches(each.machine_ids, network)]
    if announced:
        yield f"Routes stay, and are announced here no more: {listed(sorted(announced))}."
    answered = [each.name for each in routing.vips.values() if each.enabled and _touches(each.machine_ids, network)]
    if answered:
        yield f"Virtual IPs stay, and answer here no more: {listed(sorted(answered))}."
    policies = [each.name for each in routing.policies.values() if network_id in each.network_ids]
    if policies:
        yield f"Route policies name it no more: {listed(sorted(policies))}."
    gateways = [item for item, each in routing.gateways.items() if network_id in each.network_ids]
    if gateways:
        names = sorted(mirror.name_of(each) or str(each) for each in gateways)
        yield f"Gateways let nothing cross between it and other networks any more: {listed(names)}."


def _touches(machine_ids: Iterable[UUID], network: Network) -> bool:
    return any(each in network.members for each in machine_ids)


def _reflectors(record: NetworkRecord) -> Iterator[str]:
    if record.reflectors:
        yield f"The choice of its {count(len(record.reflectors), 'pinned route reflector')} is forgotten."


def _tokens(mirror: Mirror, network_id: UUID, now: datetime) -> Iterator[str]:
    size = sum(
        1
        for each in mirror.access.bootstraps()
        if each.network_id == network_id
        and each.revoked_at is None
        and each.expires_at > now
        and (each.uses is None or each.used < each.uses)
    )
    if size:
        yield f"{count(size, 'bootstrap token')} for it {'lets' if size == 1 else 'let'} no machine in any more."
