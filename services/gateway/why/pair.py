"""In which networks two machines have something to do with each other, or had. Pure."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from events.errors import InvalidInputError
from events.subjects import machine_membership
from services.gateway.mirror import Mirror
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller

_PLACES = 6

Chain = Callable[[Teller, UUID, UUID, UUID], Step]


def pair_chains(tell: Teller, machine_id: UUID, peer_id: UUID, network_id: UUID | None, chain: Chain) -> list[Step]:
    """The chains of two machines: in a network, or in each that both are in, or else that one is in and the other was.

    Raises `InvalidInputError` for a machine and itself, and `NotFoundError` for what never was.
    """
    if machine_id == peer_id:
        raise InvalidInputError("That is the same machine twice.", hint="Name two machines.", field="peer")
    if network_id is not None:
        return [chain(tell, machine_id, peer_id, network_id)]
    gone = [step for one in (machine_id, peer_id) if (step := tell.machine_gone(one)) is not None]
    names = f"{tell.machine(machine_id)} and {tell.machine(peer_id)}"
    if gone:
        return [thing(f"{names} have no network in common", *gone, uuids=(machine_id, peer_id))]
    here, there = (set(tell.mirror.networks_of(one)) for one in (machine_id, peer_id))
    if not here & there:
        left = [(item, peer_id) for item in here] + [(item, machine_id) for item in there]
        was = [(item, one) for item, one in left if tell.mirror.record(machine_membership(one, item))]
        steps = [tell.absence(item, one) for item, one in sorted(was)]
        places = [(one, item) for one, found in ((machine_id, here), (peer_id, there)) for item in sorted(found)]
        steps += [tell.membership(item, one) for one, item in places[:_PLACES]]
        steps += [
            thing(f"{tell.machine(one)} is in no network") for one, f in ((machine_id, here), (peer_id, there)) if not f
        ]
        return [thing(f"{names} have no network in common", *steps, uuids=(machine_id, peer_id))]
    return [chain(tell, machine_id, peer_id, item) for item in sorted(here & there)]


def shared(mirror: Mirror, machine_id: UUID, peer_id: UUID, network_id: UUID | None) -> list[UUID]:
    """The networks that a question about two machines is about."""
    if network_id is not None:
        return [network_id]
    return sorted({*mirror.networks_of(machine_id)} & {*mirror.networks_of(peer_id)})
