"""Why a machine is another's peer, or is not. Pure."""

from __future__ import annotations

from uuid import UUID

from events.domain import (
    KeyRotationRequested,
    MachineRegistered,
    MachineRenamed,
    MachineTransitSet,
)
from events.records import MembershipRecord, PeerRecord, Record
from events.subjects import machine_membership, network_peer
from services.gateway.why.known import LastOf
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller

_NAMED = (MachineRegistered.kind, MachineRenamed.kind)
_TRANSIT = {
    "auto": "others' traffic may go through it",
    "always": "others' traffic goes through it by preference",
    "never": "no traffic of others goes through it",
}


def peer_chain(tell: Teller, machine_id: UUID, peer_id: UUID, network_id: UUID) -> Step:
    """Why `peer_id` is a peer of `machine_id` in a network, or is not. Raises `NotFoundError` for what never was."""
    gone = tell.gone(network_id)
    ends = (peer_id, machine_id)
    absent = [tell.absence(network_id, one) for one in ends if not _is_in(tell, network_id, one)]
    peer, machine, network = tell.machine(peer_id), tell.machine(machine_id), tell.network(network_id)
    uuids = (network_id, machine_id, peer_id)
    denied = f"{peer} is not a peer of {machine} in {network}"
    if gone is not None:
        return thing(f"{denied}: there is no such network any more", gone, uuids=uuids)
    if absent:
        return thing(denied, *absent, uuids=uuids)
    subject = network_peer(network_id, peer_id)
    record = tell.mirror.record(subject)
    body = record.body if record is not None else None
    if record is None or not isinstance(body, PeerRecord):
        text = f"{denied} yet: its agent has announced no key there"
        return thing(text, tell.membership(network_id, peer_id), uuids=uuids)
    told = tell.record(subject, f"the record of {peer} for all in {network}", record, *_fields(tell, record, body))
    hears = tell.membership(network_id, machine_id)
    return thing(f"{peer} is a peer of {machine} in {network}", told, hears, uuids=uuids)


def _is_in(tell: Teller, network_id: UUID, machine_id: UUID) -> bool:
    network = tell.mirror.networks.get(network_id)
    return network is not None and network.record is not None and machine_id in network.members


def _fields(tell: Teller, record: Record, body: PeerRecord) -> list[Step]:
    """For each field of a peer's record the last event that set it."""
    peer_id, network_id, until = body.machine_id, body.network_id, record.cause
    at = ", ".join(body.endpoints) or f"no endpoints, port {body.listen_port}"
    fields = [
        thing(f"its address {body.address}", *tell.assignment(network_id, peer_id)),
        thing(f"its hostname {body.hostname}", *tell.last(LastOf(peer_id, until, _NAMED))),
        thing(
            f"its key {body.public_key}, at {at}",
            *tell.announcement(network_id, peer_id, until),
            *_rotation(tell, network_id, peer_id),
        ),
    ]
    transit = tell.last(LastOf(peer_id, until, (MachineTransitSet.kind,)))
    if transit or body.transit != "auto":
        fields.append(thing(f"its transit {body.transit}: {_TRANSIT[body.transit]}", *transit))
    return fields


def _rotation(tell: Teller, network_id: UUID, peer_id: UUID) -> tuple[Step, ...]:
    """That it was told to make itself a new key, where that was the last it was told."""
    record = tell.mirror.record(machine_membership(peer_id, network_id))
    if record is None or not isinstance(record.body, MembershipRecord) or not record.body.key_generation:
        return ()
    logged = tell.known.at(record.cause)
    return (tell.event(logged),) if logged is not None and isinstance(logged.event, KeyRotationRequested) else ()
