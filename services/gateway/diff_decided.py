"""What changed of networks, machines, addresses and peers between two moments. Pure.

Each record is compared once with itself: the cost grows with the networks, machines and memberships there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from events.records import MachineRecord, NetworkRecord, PeerRecord
from services.gateway.diff_sides import Sides, names_of, together
from services.gateway.differences import Change, Named
from services.gateway.mirror import Mirror

_SHORT = 8
"""So much of a fingerprint tells keys apart."""


def network_changes(sides: Sides) -> Iterator[Change]:
    """Networks that were created or deleted, and their settings."""
    for network_id in sides.network_ids:
        old, new = (network.record for network in sides.networks(network_id))
        network = sides.network(network_id)
        if old is None and new is not None:
            text = f"there is a network {network.name} with {new.network_cidr}"
            yield Change("network", "added", text, network, after=str(new.network_cidr))
        elif new is None and old is not None:
            text = f"there is no network {network.name} any more"
            yield Change("network", "removed", text, network, before=str(old.network_cidr))
        elif old is not None and new is not None:
            yield from _of_network(sides, network, old, new)


def _of_network(sides: Sides, network: Named, old: NetworkRecord, new: NetworkRecord) -> Iterator[Change]:
    change = Change("network", "changed", "", network).became
    if old.name != new.name:
        yield change("name", f"network {old.name} is called {new.name}", old.name, new.name)
    if old.network_cidr != new.network_cidr:
        cidrs = str(old.network_cidr), str(new.network_cidr)
        yield change("network_cidr", f"{network.name} has {cidrs[1]}, before {cidrs[0]}", *cidrs)
    if old.is_default != new.is_default:
        is_default = "is the default network" if new.is_default else "is not the default network any more"
        yield change("is_default", f"{network.name} {is_default}", _yes(old.is_default), _yes(new.is_default))
    if old.route_reflector_mode != new.route_reflector_mode:
        modes = _on(old.route_reflector_mode), _on(new.route_reflector_mode)
        yield change("route_reflector_mode", f"route reflector mode is {modes[1]} in {network.name}", *modes)
    if old.reflectors != new.reflectors:
        pinned, unpinned = sides.machines(new.reflectors), sides.machines(old.reflectors)
        how = f"are pinned to {names_of(pinned)}" if pinned else "are chosen automatically"
        was = f"pinned to {names_of(unpinned)}" if unpinned else "chosen automatically"
        text = f"the route reflectors of {network.name} {how}, before {was}"
        yield change("reflectors", text, *(", ".join(each.name for each in them) for them in (unpinned, pinned)))


def machine_changes(sides: Sides) -> Iterator[Change]:
    """Machines that were registered or deleted, and what is known of them."""
    before, after = sides.before.mirror, sides.after.mirror
    differing = [
        machine_id
        for machine_id in before.machines.keys() | after.machines.keys()
        if _known(before, machine_id) != _known(after, machine_id) and sides.is_meant((), (machine_id,))
    ]
    for machine_id in sides.in_order(differing):
        (old, was), (new, state) = _known(before, machine_id), _known(after, machine_id)
        machine = sides.machine(machine_id)
        if old is None:
            yield Change("machine", "added", f"there is a machine {machine.name}", None, (machine,), after=machine.name)
        elif new is None:
            text = f"there is no machine {machine.name} any more"
            yield Change("machine", "removed", text, None, (machine,), before=machine.name)
        else:
            yield from _of_machine(machine, old, new)
            if was != state:
                about = Change("machine", "changed", "", machines=(machine,))
                yield about.became("state", f"{machine.name} is {state}, before {was}", was, state)


def _known(mirror: Mirror, machine_id: UUID) -> tuple[MachineRecord | None, str]:
    machine, identity = mirror.machines.get(machine_id), mirror.access.identity(machine_id)
    is_revoked = identity is not None and identity.revoked_at is not None
    return None if machine is None else machine.record, "revoked" if is_revoked else "active"


def _of_machine(machine: Named, old: MachineRecord, new: MachineRecord) -> Iterator[Change]:
    name = machine.name
    told: tuple[tuple[str, str], ...] = (
        ("hostname", f"machine {old.hostname} is called {new.hostname}"),
        ("transit", f"transit through {name} is {new.transit}, before {old.transit}"),
        ("agent_version", f"{name} has agent {new.agent_version or '?'}, before {old.agent_version or '?'}"),
    )
    for field, text in told:
        was, value = str(getattr(old, field)), str(getattr(new, field))
        if was != value:
            yield Change("machine", "changed", "", machines=(machine,)).became(field, text, was, value)


def address_changes(sides: Sides) -> Iterator[Change]:
    """Which machine got, lost or changed its address in a network, and which addresses went to another machine."""
    for network_id in sides.network_ids:
        old, new = (
            {machine_id: member.address for machine_id, member in network.members.items()}
            for network in sides.networks(network_id)
        )
        changes = list(_of_addresses(sides, sides.network(network_id), old, new))
        yield from together(sides, network_id, "address", "{count} machines have an address in {network}", changes)


def _of_addresses(
    sides: Sides, network: Named, old: dict[UUID, IPv4Address], new: dict[UUID, IPv4Address]
) -> Iterator[Change]:
    differing = [machine_id for machine_id in old.keys() | new.keys() if old.get(machine_id) != new.get(machine_id)]
    gave = {old[machine_id]: machine_id for machine_id in differing if machine_id in old}
    got = {new[machine_id]: machine_id for machine_id in differing if machine_id in new}
    for address in sorted(gave.keys() & got.keys()):
        one, other = sides.machine(gave[address]), sides.machine(got[address])
        text = f"{address} in {network.name} is {other.name}'s, before {one.name}'s"
        yield Change("address", "changed", "", network, (one, other)).became("holder", text, one.name, other.name)
    for machine_id in sides.in_order(differing):
        was, address_now = old.get(machine_id), new.get(machine_id)
        machine = sides.machine(machine_id)
        if was is None:
            if address_now not in gave:
                text = f"{machine.name} has {address_now} in {network.name}"
                yield Change("address", "added", text, network, (machine,), after=str(address_now))
        elif address_now is None:
            if was not in got:
                text = f"{machine.name} has {was} in {network.name} no more"
                yield Change("address", "removed", text, network, (machine,), before=str(was))
        else:
            text = f"{machine.name} has {address_now} in {network.name}, before {was}"
            about = Change("address", "changed", "", network, (machine,))
            yield about.became("address", text, str(was), str(address_now))


def peer_changes(sides: Sides) -> Iterator[Change]:
    """Which peers came and went in a network, and what the others know of each; and who was told to make a new key."""
    for network_id in sides.network_ids:
        changes = list(_of_peers(sides, network_id))
        yield from together(sides, network_id, "peer", "{count} machines are peers in {network}", changes)


def _of_peers(sides: Sides, network_id: UUID) -> Iterator[Change]:
    before, after = sides.networks(network_id)
    network = sides.network(network_id)
    members = before.members.keys() & after.members.keys()
    differing = {
        each for each in before.peers.keys() | after.peers.keys() if before.peers.get(each) != after.peers.get(each)
    }
    told = {each for each in members if before.members[each].key_generation != after.members[each].key_generation}
    for machine_id in sides.in_order(differing | told):
        old, new, machine = before.peers.get(machine_id), after.peers.get(machine_id), sides.machine(machine_id)
        about = Change("peer", "changed", "", network, (machine,))
        if machine_id in told:
            values = [str(side.members[machine_id].key_generation) for side in (before, after)]
            text = f"{machine.name} is told to make key {values[1]} in {network.name}, before key {values[0]}"
            yield about.became("key_generation", text, *values)
        if old is None and new is not None:
            text = f"{machine.name} is a peer in {network.name} (key {fingerprint(new.public_key)})"
            yield Change("peer", "added", text, network, (machine,), after=fingerprint(new.public_key))
        elif new is None and old is not None:
            text = f"{machine.name} is a peer in {network.name} no more"
            yield Change("peer", "removed", text, network, (machine,), before=fingerprint(old.public_key))
        elif old is not None and new is not None:
            for field, (show, words) in _PEER.items():
                if getattr(old, field) != getattr(new, field):
                    was, value = show(old), show(new)
                    text = words.format(machine=machine.name, network=network.name, was=was, value=value)
                    yield about.became(field, text, was, value)


def fingerprint(public_key: Any) -> str:
    """A short text that tells a key from another, and is not the key."""
    return sha256(str(public_key).encode()).hexdigest()[:_SHORT]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _on(value: bool) -> str:
    return "on" if value else "off"


_PEER: dict[str, tuple[Callable[[PeerRecord], str], str]] = {
    "hostname": (lambda peer: peer.hostname, "its peers in {network} know {was} as {value}"),
    "public_key": (
        lambda peer: fingerprint(peer.public_key),
        "{machine} has another key in {network}: {value}, before {was}",
    ),
    "endpoints": (
        lambda peer: ", ".join(peer.endpoints) or "none",
        "the endpoints of {machine} in {network} are {value}, before {was}",
    ),
    "listen_port": (lambda peer: str(peer.listen_port), "{machine} listens on port {value} in {network}, before {was}"),
    "transit": (
        lambda peer: peer.transit,
        "peers in {network} know transit through {machine} as {value}, before {was}",
    ),
}
