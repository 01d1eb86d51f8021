"""Why an address is a machine's, or nobody's. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from events.cidr import host_index
from events.domain import MachinesAssigned, MachinesUnassigned
from events.log import LoggedEvent
from events.records import MembershipRecord, NetworkRecord
from events.subjects import machine_membership, network_info, routing
from services.gateway.why.known import LastOf
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller


def address_chains(tell: Teller, address: IPv4Address, network_id: UUID | None) -> list[Step]:
    """Why an address is whose it is, in a network or wherever it means something. Raises `NotFoundError` for a network
    that never was."""
    if network_id is not None and (gone := tell.gone(network_id)):
        return [thing(f"{address} is nobody's in {tell.network(network_id)}", gone)]
    chains = [
        _in_network(tell, address, item, network.record)
        for item, network in sorted(tell.mirror.networks.items())
        if network.record is not None
        and (item == network_id if network_id is not None else address in network.record.network_cidr)
    ]
    if network_id is None:
        chains += _vips(tell, address)
    return chains or [_nowhere(tell, address)]


def machine_chains(tell: Teller, machine_id: UUID, network_id: UUID | None) -> list[Step]:
    """Why a machine has the addresses that it has. Raises `NotFoundError` for what never was."""
    if network_id is not None and (tell.gone(network_id) or machine_id not in tell.mirror.networks[network_id].members):
        return [_without(tell, machine_id, network_id)]
    if gone := tell.machine_gone(machine_id):
        return [thing(f"{tell.machine(machine_id)} has no address", gone, uuids=(machine_id,))]
    networks = [network_id] if network_id is not None else tell.mirror.networks_of(machine_id)
    if not networks:
        left = [item for item in tell.mirror.networks if tell.mirror.record(machine_membership(machine_id, item))]
        absences = [tell.absence(item, machine_id) for item in sorted(left)]
        return [thing(f"{tell.machine(machine_id)} is in no network, so that it has no address", *absences)]
    return [_held(tell, item, machine_id) for item in networks]


def _without(tell: Teller, machine_id: UUID, network_id: UUID) -> Step:
    absence = tell.absence(network_id, machine_id)
    return thing(f"{tell.machine(machine_id)} has no address in {tell.network(network_id)}", absence)


def _in_network(tell: Teller, address: IPv4Address, network_id: UUID, record: NetworkRecord) -> Step:
    name, cidr = record.name, record.network_cidr
    holder = next(iter(tell.mirror.networks[network_id].by_address.with_key(int(address))), None)
    if holder is not None:
        return _held(tell, network_id, holder)
    range_of = _range(tell, network_id, record)
    if address not in cidr:
        return thing(f"{address} is nobody's in {name}: it lies outside {cidr}", range_of)
    if host_index(cidr, address) is None:
        which = "broadcast address" if address == cidr.broadcast_address else "network's own address"
        return thing(f"{address} is never given to a machine: it is the {which} of {name}", range_of)
    need = LastOf(network_id, tell.until, (MachinesUnassigned.kind,), f'"{address}"')
    found = tell.known.last(need)
    uuids = (network_id,)
    if found.event is not None:
        who = _who(found.event, address)
        left = tell.event(found.event)
        last = thing(f"{tell.machine(who)} had it last", left) if who is not None else left
        return thing(f"{address} is free in {name}", last, range_of, time=found.event.event.time, uuids=uuids)
    never = "nobody has ever had it" if found.is_whole else "nobody has had it for long"
    return thing(f"{address} is free in {name}: {never}", range_of, uuids=uuids)


def _held(tell: Teller, network_id: UUID, machine_id: UUID) -> Step:
    network, record = tell.mirror.network(network_id)
    member = network.members[machine_id]
    place = tell.membership(network_id, machine_id)
    assigned = tell.assigned(network_id, machine_id)
    reasons: list[Step] = []
    if assigned is not None:
        reasons += _choice(tell, member, record.network_cidr, assigned)
        before = tell.left(network_id, assigned.sequence - 1, f'"{member.address}"')
        if before is not None and (who := _who(before, member.address)) is not None:
            reasons.append(thing(f"before that {tell.machine(who)} had it", tell.event(before), time=before.event.time))
    text = f"{member.address} is {tell.machine(machine_id)}'s in {record.name}"
    uuids = (network_id, machine_id)
    return thing(text, place, *reasons, _range(tell, network_id, record), time=member.assigned_at, uuids=uuids)


def _choice(tell: Teller, member: MembershipRecord, cidr: IPv4Network, assigned: LoggedEvent) -> Iterator[Step]:
    """Whether it was the lowest free address, or another that was asked for."""
    taken = tell.known.taken(member.network_id, assigned.sequence)
    event = assigned.event
    if taken is None or not isinstance(event, MachinesAssigned):
        return
    earlier = {each.address for each in event.assignments}
    lowest = next((address for address in cidr.hosts() if address not in taken), None)
    if lowest is None or lowest in earlier:
        many = f"the {len(earlier):,} given together were the lowest that were free then"
        yield thing("it was the lowest that was free then" if len(earlier) == 1 else many)
    else:
        yield thing(f"it was asked for: the lowest that was free then was {lowest}")


def _range(tell: Teller, network_id: UUID, record: NetworkRecord) -> Step:
    text = f"{record.name} has the range {record.network_cidr}"
    held = tell.mirror.record(network_info(network_id))
    created = tell.creation(network_id, record)
    return tell.record(network_info(network_id), text, held, *created) if held is not None else thing(text, *created)


def _vips(tell: Teller, address: IPv4Address) -> Iterator[Step]:
    for vip in tell.mirror.routing.vips.values():
        if vip.address == address:
            subject = routing("vip", vip.vip_id)
            machines = ", then ".join(map(tell.machine, vip.machine_ids)) or "no machine"
            told = tell.derived(subject, f"virtual IP {vip.name}: on {machines}")
            yield thing(f"{address} is the virtual IP {vip.name}", *told, uuids=(vip.vip_id,))


def _nowhere(tell: Teller, address: IPv4Address) -> Step:
    """An address in no network; in which there was one, and what became of that."""
    lives = tell.known.networks(tell.until)
    gone = [
        thing(f"{life.names[-1][1]} had the range {life.cidr}", tell.event(life.deleted))
        for life in lives.values()
        if life.deleted is not None and address in life.cidr
    ]
    return thing(f"{address} is in no network, and is no virtual IP", *gone[-3:])


def _who(logged: LoggedEvent, address: IPv4Address) -> UUID | None:
    """Whom an event took an address from."""
    event = logged.event
    if not isinstance(event, MachinesUnassigned):
        return None
    return next((each.machine_id for each in event.assignments if each.address == address), None)
