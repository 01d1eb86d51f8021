"""Aggregates as bytes and back, so that a cold start need not replay everything. Pure.

A snapshot is worth nothing but time: one that cannot be read is passed over, and the events tell the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from uuid import UUID

import orjson
from rpds import HashTrieMap, HashTrieSet

from events.routing import HealthCheck, Policy
from services.allocator.access import Access, Account, ApiToken, BootstrapToken, Identity
from services.allocator.addresses import AddressSet
from services.allocator.aggregates import Aggregate, Member, Network, NetworkEntry, Registry
from services.allocator.routing import PolicySet, Route, Routing, Vip

FORMAT = 3
"""Rises when the bytes change; a snapshot of another format is passed over."""

Large = Registry | Access | Routing | Network
"""The aggregates of which snapshots are taken."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An aggregate at one version, as bytes."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes


def take(aggregate: Large) -> Snapshot:
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
        default_network_id=_id(fields["default"]),
    )


def _network_fields(network: Network) -> dict[str, Any]:
    return {
        "members": [
            [
                machine_id.hex,
                member.address,
                member.public_key,
                member.listen_port,
                member.endpoints,
                member.key_generation,
            ]
            for machine_id, member in network.members.items()
        ]
    }


def _network(snapshot: Snapshot, fields: dict[str, Any]) -> Network:
    members = {
        UUID(hex=machine_id): Member(address, public_key, listen_port, tuple(endpoints), key_generation)
        for machine_id, address, public_key, listen_port, endpoints, key_generation in fields["members"]
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


def _access_fields(access: Access) -> dict[str, Any]:
    return {
        "bootstrap": [
            [each.token_id, each.secret_hash, each.expires_at, each.uses, each.network_id, each.used, each.revoked]
            for each in access.bootstrap_tokens.values()
        ],
        "identities": [[each.machine_id, each.identity_key, each.revoked] for each in access.identities.values()],
        "accounts": [[account.account_id, account.name, account.role] for account in access.accounts.values()],
        "tokens": [
            [
                token.token_id,
                token.account_id,
                token.name,
                token.role,
                token.use,
                token.secret_hash,
                token.expires_at,
                token.begun_with,
            ]
            for token in access.api_tokens.values()
        ],
        "revoked_tokens": list(access.revoked_api_tokens),
        "deleted_accounts": list(access.deleted_accounts),
    }


def _access(snapshot: Snapshot, fields: dict[str, Any]) -> Access:
    bootstrap = [
        BootstrapToken(UUID(token_id), secret_hash, _moment(expires_at), uses, _id(network_id), used, revoked)
        for token_id, secret_hash, expires_at, uses, network_id, used, revoked in fields["bootstrap"]
    ]
    identities = [Identity(UUID(machine_id), key, revoked) for machine_id, key, revoked in fields["identities"]]
    tokens = [
        ApiToken(
            UUID(token_id),
            UUID(account_id),
            name,
            role,
            use,
            secret_hash,
            expires_at and _moment(expires_at),
            _id(begun_with),
        )
        for token_id, account_id, name, role, use, secret_hash, expires_at, begun_with in fields["tokens"]
    ]
    token_ids: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for token in tokens:
        token_ids[token.account_id].append(token.token_id)
    accounts = [
        Account(UUID(account_id), name, role, HashTrieSet(token_ids[UUID(account_id)]))
        for account_id, name, role in fields["accounts"]
    ]
    return Access(
        id=snapshot.originator_id,
        version=snapshot.originator_version,
        last_hash=fields["last_hash"],
        bootstrap_tokens=HashTrieMap({token.token_id: token for token in bootstrap}),
        identities=HashTrieMap({each.machine_id: each for each in identities}),
        accounts=HashTrieMap({account.account_id: account for account in accounts}),
        api_tokens=HashTrieMap({token.token_id: token for token in tokens}),
        revoked_api_tokens=HashTrieSet(map(UUID, fields["revoked_tokens"])),
        deleted_accounts=HashTrieSet(map(UUID, fields["deleted_accounts"])),
        machine_of_key=HashTrieMap({each.identity_key: each.machine_id for each in identities}),
        account_names=HashTrieMap({account.name.lower(): account.account_id for account in accounts}),
        secrets=HashTrieMap(
            {token.secret_hash: token.token_id for token in bootstrap}
            | {token.secret_hash: token.token_id for token in tokens}
        ),
    )


def _routing_fields(routing: Routing) -> dict[str, Any]:
    return {
        "routes": [
            [each.route_id, each.name, each.enabled, list(map(str, each.prefixes)), each.machine_ids]
            for each in routing.routes.values()
        ],
        "vips": [
            [
                each.vip_id,
                each.name,
                each.enabled,
                str(each.address),
                each.health_check.model_dump(mode="json"),
                each.machine_ids,
            ]
            for each in routing.vips.values()
        ],
        "policies": [
            [
                each.policy_id,
                each.name,
                each.description,
                each.policy.model_dump(mode="json"),
                each.network_ids,
                each.machine_ids,
            ]
            for each in routing.policies.values()
        ],
        "gateways": list(routing.gateways.items()),
        "reflectors": list(routing.reflectors.items()),
        "deleted": list(routing.deleted),
    }


def _routing(snapshot: Snapshot, fields: dict[str, Any]) -> Routing:
    routes = [
        Route(UUID(route_id), name, enabled, tuple(map(IPv4Network, prefixes)), _ids(machine_ids))
        for route_id, name, enabled, prefixes, machine_ids in fields["routes"]
    ]
    vips = [
        Vip(
            UUID(vip_id),
            name,
            enabled,
            IPv4Address(address),
            HealthCheck.model_validate(health_check),
            _ids(machine_ids),
        )
        for vip_id, name, enabled, address, health_check, machine_ids in fields["vips"]
    ]
    policies = [
        PolicySet(
            UUID(policy_id), name, description, Policy.model_validate(policy), _ids(network_ids), _ids(machine_ids)
        )
        for policy_id, name, description, policy, network_ids, machine_ids in fields["policies"]
    ]
    claimants: tuple[Route | Vip, ...] = (*routes, *vips)
    return Routing(
        id=snapshot.originator_id,
        version=snapshot.originator_version,
        last_hash=fields["last_hash"],
        routes=HashTrieMap({each.route_id: each for each in routes}),
        vips=HashTrieMap({each.vip_id: each for each in vips}),
        policies=HashTrieMap({each.policy_id: each for each in policies}),
        gateways=HashTrieMap({UUID(machine_id): _ids(named) for machine_id, named in fields["gateways"]}),
        reflectors=HashTrieMap({UUID(network_id): _ids(named) for network_id, named in fields["reflectors"]}),
        deleted=HashTrieSet(map(UUID, fields["deleted"])),
        claims=HashTrieMap({prefix: each.item_id for each in claimants for prefix in each.claimed}),
    )


def _ids(texts: list[str]) -> tuple[UUID, ...]:
    return tuple(map(UUID, texts))


def _id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_ToFields = Callable[[Any], dict[str, Any]]
_FromFields = Callable[[Snapshot, dict[str, Any]], Aggregate]

_FORMS: dict[type[Large], tuple[str, _ToFields, _FromFields]] = {
    Registry: ("registry", _registry_fields, _registry),
    Network: ("network", _network_fields, _network),
    Access: ("access", _access_fields, _access),
    Routing: ("routing", _routing_fields, _routing),
}
