"""Aggregates as bytes and back, so that a cold start need not replay everything. Pure.

A snapshot is worth nothing but time: one that cannot be read is passed over, and the events tell the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import orjson
from rpds import HashTrieMap

from services.allocator.addresses import AddressSet
from services.allocator.aggregates import Aggregate, Member, Network, NetworkEntry, Registry

FORMAT = 1
"""Rises when the bytes change; a snapshot of another format is passed over."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An aggregate at one version, as bytes."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes


def take(aggregate: Registry | Network) -> Snapshot:
    """The snapshot of an aggregate."""
    kind, to_fields, _ = _FORMS[type(aggregate)]
    fields = {"last_hash": aggregate.last_hash, **to_fields(aggregate)}
    return Snapshot(aggregate.id, aggregate.version, f"snapshot.{kind}:{FORMAT}", orjson.dumps(fields))


def restore(snapshot: Snapshot) -> Aggregate | None:
    """The aggregate as it was, or None if the snapshot cannot be read."""
    for kind, _, from_fields in _FORMS.values():
        if snapshot.topic == f"snapshot.{kind}:{FORMAT}":
            try:
                fields = orjson.loads(snapshot.state)
                aggregate: Aggregate = from_fields(snapshot, fields)
            except (KeyError, TypeError, ValueError):
                return None
            return aggregate
    return None


def _registry_fields(registry: Registry) -> dict[str, Any]:
    return {
        "networks": [
            [str(entry.network_id), entry.name, str(entry.network_cidr), entry.route_reflector_mode]
            for entry in registry.networks.values()
        ],
        "default": None if registry.default_network_id is None else str(registry.default_network_id),
    }


def _registry(snapshot: Snapshot, fields: dict[str, Any]) -> Registry:
    entries = [
        NetworkEntry(UUID(network_id), name, IPv4Network(network_cidr), mode)
        for network_id, name, network_cidr, mode in fields["networks"]
    ]
    return Registry(
        id=snapshot.originator_id,
        version=snapshot.originator_version,
        last_hash=fields["last_hash"],
        networks=HashTrieMap({entry.network_id: entry for entry in entries}),
        names=HashTrieMap({entry.name.lower(): entry.network_id for entry in entries}),
        ranges=tuple(
            sorted(
                (int(entry.network_cidr.network_address), int(entry.network_cidr.broadcast_address), entry.network_id)
                for entry in entries
            )
        ),
        default_network_id=None if fields["default"] is None else UUID(fields["default"]),
    )


def _network_fields(network: Network) -> dict[str, Any]:
    return {
        "members": [
            [machine_id.hex, member.address, member.public_key, member.listen_port, member.endpoints]
            for machine_id, member in network.members.items()
        ]
    }


def _network(snapshot: Snapshot, fields: dict[str, Any]) -> Network:
    members = {
        UUID(hex=machine_id): Member(address, public_key, listen_port, tuple(endpoints))
        for machine_id, address, public_key, listen_port, endpoints in fields["members"]
    }
    return Network(
        id=snapshot.originator_id,
        version=snapshot.originator_version,
        last_hash=fields["last_hash"],
        members=HashTrieMap(members),
        taken=AddressSet.of(member.address for member in members.values()),
        keys=HashTrieMap(
            {member.public_key: machine_id for machine_id, member in members.items() if member.public_key is not None}
        ),
    )


_ToFields = Callable[[Any], dict[str, Any]]
_FromFields = Callable[[Snapshot, dict[str, Any]], Aggregate]

_FORMS: dict[type[Registry] | type[Network], tuple[str, _ToFields, _FromFields]] = {
    Registry: ("registry", _registry_fields, _registry),
    Network: ("network", _network_fields, _network),
}
