"""In which networks two machines have something to do with each other, or had. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import UUID

from events.errors import InvalidInputError
from events.subjects import machine_membership
from services.gateway.mirror import Mirror
from services.gateway.why.path import path_chain
from services.gateway.why.peer import peer_chain
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller

_PLACES = 4


class Question(NamedTuple):
    """What is asked of two machines."""

    chain: Callable[[Teller, UUID, UUID, UUID], Step]
    """The answer in one network."""
    denied: str
    """That there is none of it, for the names of `machine` and `peer`."""


PEER = Question(peer_chain, "{peer} is not a peer of {machine}")
PATH = Question(path_chain, "{machine} has no path to {peer}")


def pair_chains(
    tell: Teller, question: Question, machine_id: UUID, peer_id: UUID, network_id: UUID | None
) -> list[Step]:
    """The chains of two machines: in a network, or in each that both are in, or else why there is none.

    Raises `InvalidInputError` for a machine and itself, and `NotFoundError` for what never was.
    """
    if machine_id == peer_id:
        raise InvalidInputError("That is the same machine twice.", hint="Name two machines.", field="peer")
    gone = [step for one in (peer_id, machine_id) if (step := tell.machine_gone(one)) is not None]
    denied = question.denied.format(machine=tell.machine(machine_id), peer=tell.machine(peer_id))
    if gone:
        return [thing(denied, *gone, uuids=(machine_id, peer_id))]
    networks = shared(tell.mirror, machine_id, peer_id, network_id)
    if not networks:
        steps = (
            step for one, other in ((peer_id, machine_id), (machine_id, peer_id)) for step in _apart(tell, one, other)
        )
        return [thing(f"{denied}: they have no network in common", *steps, uuids=(machine_id, peer_id))]
    return [question.chain(tell, machine_id, peer_id, item) for item in networks]


def shared(mirror: Mirror, machine_id: UUID, peer_id: UUID, network_id: UUID | None) -> list[UUID]:
    """The networks that a question about two machines is about."""
    if network_id is not None:
        return [network_id]
    return sorted({*mirror.networks_of(machine_id)} & {*mirror.networks_of(peer_id)})


def _apart(tell: Teller, machine_id: UUID, other_id: UUID) -> Iterator[Step]:
    """In which networks a machine is, and which of the other's it has left."""
    networks = tell.mirror.networks_of(machine_id)
    for item in tell.mirror.networks_of(other_id):
        if tell.mirror.record(machine_membership(machine_id, item)) is not None:
            yield tell.absence(item, machine_id)
    if not networks:
        yield thing(f"{tell.machine(machine_id)} is in no network")
    for item in networks[:_PLACES]:
        yield tell.membership(item, machine_id)
    if len(networks) > _PLACES:
        yield thing(f"{tell.machine(machine_id)} is in {len(networks) - _PLACES} more networks")
