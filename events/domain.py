"""The domain events: what happened, as it stands in the log for ever.

An event belongs to one aggregate (`originator_id`) and has a place in its history (`originator_version`, from 1,
without gaps). Its `kind` is its name in the log and never changes; `schema_version` rises when its fields do, and
`events.codec` lifts older ones. `previous_hash` is the digest of the aggregate's event before it
(`events.codec.digest`), so that a change to the past breaks the chain.

Five kinds of aggregate: the one *registry* (which networks there are), the one *access* list (who may do what, and with
which keys and tokens), the one *routing* list (routes, virtual IPs, route policies, gateways, reflectors), each
*network*'s roster (who is in it, and at which address), and each *machine*. No event holds a secret: of tokens only
their hashes, of keys only the public halves.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from events.fields import (
    AccountRole,
    Address,
    Cidr,
    Endpoint,
    Frozen,
    IdentityKey,
    Moment,
    PublicKey,
    SecretHash,
    TokenUse,
    TransitMode,
)
from events.routing import HealthCheck, Policy, RoutePrefix, VipAddress

REGISTRY_ID = UUID("6f1b8a52-3c0e-5d0e-9b51-4b1d3f6f0a01")
"""The id of the account's registry."""

ACCESS_ID = UUID("6f1b8a52-3c0e-5d0e-9b51-4b1d3f6f0a02")
"""The id of the access list."""

ROUTING_ID = UUID("6f1b8a52-3c0e-5d0e-9b51-4b1d3f6f0a03")
"""The id of the routing list."""

GENESIS_HASH = ""
"""The `previous_hash` of an aggregate's first event."""


class DomainEvent(Frozen):
    """Base of all events: where it belongs, when it happened, who caused it and through which command."""

    kind: ClassVar[str]
    schema_version: ClassVar[int] = 1

    originator_id: UUID
    originator_version: int
    previous_hash: str
    time: Moment
    actor: str
    command_id: UUID


class NetworkCreated(DomainEvent):
    """A network was created. Where `is_default`, the default network before it (if any) is one no more."""

    kind = "network.created"

    network_id: UUID
    name: str
    network_cidr: Cidr
    route_reflector_mode: bool
    is_default: bool


class NetworkRenamed(DomainEvent):
    """A network has another name."""

    kind = "network.renamed"

    network_id: UUID
    name: str
    previous_name: str


class DefaultNetworkSet(DomainEvent):
    """Another network, or none (`network_id` None), is the default; the one before it is one no more."""

    kind = "network.default_set"

    network_id: UUID | None
    previous_network_id: UUID | None


class RouteReflectorModeSet(DomainEvent):
    """A network's route reflector mode was turned on or off."""

    kind = "network.route_reflector_mode_set"

    network_id: UUID
    enabled: bool


class NetworkDeleted(DomainEvent):
    """A network was deleted, and with it every assignment that it had (`machine_count`)."""

    kind = "network.deleted"

    network_id: UUID
    name: str
    machine_count: int


class Assignment(Frozen):
    """One machine and the mesh address that it has in a network."""

    machine_id: UUID
    address: Address


class MachinesAssigned(DomainEvent):
    """Machines joined a network, each with its address, which it keeps until it leaves."""

    kind = "network.machines_assigned"

    network_id: UUID
    assignments: tuple[Assignment, ...]


class MachinesUnassigned(DomainEvent):
    """Machines left a network; their addresses are free again."""

    kind = "network.machines_unassigned"

    network_id: UUID
    assignments: tuple[Assignment, ...]


class MembershipRegistered(DomainEvent):
    """A machine announced its WireGuard key, port and endpoint candidates for one network."""

    kind = "network.membership_registered"

    network_id: UUID
    machine_id: UUID
    public_key: PublicKey
    listen_port: int
    endpoints: tuple[Endpoint, ...]


class MachineRegistered(DomainEvent):
    """A machine became known."""

    kind = "machine.registered"

    machine_id: UUID
    hostname: str
    agent_version: str


class MachineRenamed(DomainEvent):
    """A machine has another hostname."""

    kind = "machine.renamed"

    machine_id: UUID
    hostname: str
    previous_hostname: str


class MachineAgentUpdated(DomainEvent):
    """A machine runs another version of the agent."""

    kind = "machine.agent_updated"

    machine_id: UUID
    agent_version: str


class MachineTransitSet(DomainEvent):
    """Whether other machines' traffic may go through a machine was changed."""

    kind = "machine.transit_set"

    machine_id: UUID
    transit: TransitMode


class MachineDeleted(DomainEvent):
    """A machine was deleted. Its id is never used again."""

    kind = "machine.deleted"

    machine_id: UUID
    hostname: str


class KeyRotationRequested(DomainEvent):
    """A machine is to make itself a new WireGuard key in one network; `generation` counts such requests from 1."""

    kind = "network.key_rotation_requested"

    network_id: UUID
    machine_id: UUID
    generation: int


class BootstrapTokenCreated(DomainEvent):
    """A token was made that lets machines in: `uses` of them (None for any number), until `expires_at`. They join
    `network_id`, or where it is None the network that is the default then."""

    kind = "access.bootstrap_token_created"

    token_id: UUID
    secret_hash: SecretHash
    expires_at: Moment
    uses: int | None
    network_id: UUID | None


class BootstrapTokenRevoked(DomainEvent):
    """A bootstrap token lets nobody in any more."""

    kind = "access.bootstrap_token_revoked"

    token_id: UUID


class MachineEnrolled(DomainEvent):
    """A machine proved that it has an identity key, and was let in by a bootstrap token, one use of which is spent."""

    kind = "access.machine_enrolled"

    machine_id: UUID
    identity_key: IdentityKey
    token_id: UUID


class MachineRevoked(DomainEvent):
    """A machine's identity key counts no more, for good."""

    kind = "access.machine_revoked"

    machine_id: UUID
    identity_key: IdentityKey


class AccountCreated(DomainEvent):
    """A person or program got an account."""

    kind = "access.account_created"

    account_id: UUID
    name: str
    role: AccountRole


class AccountRoleSet(DomainEvent):
    """An account has another role."""

    kind = "access.account_role_set"

    account_id: UUID
    role: AccountRole
    previous_role: AccountRole


class AccountDeleted(DomainEvent):
    """An account is gone, and with it all its tokens."""

    kind = "access.account_deleted"

    account_id: UUID
    name: str


class ApiTokenIssued(DomainEvent):
    """A token was made that speaks for an account, with at most `role`. `use` tells a browser's session apart, which
    ends with the token that it was `begun_with`."""

    kind = "access.api_token_issued"

    token_id: UUID
    account_id: UUID
    name: str
    role: AccountRole
    use: TokenUse
    secret_hash: SecretHash
    expires_at: Moment | None
    begun_with: UUID | None = Field(default=None, exclude_if=lambda value: value is None)
    """Left out where there is none: so events from before there were any keep their bytes."""


class ApiTokenRevoked(DomainEvent):
    """An API token, with the sessions that were begun with it, speaks for nobody any more."""

    kind = "access.api_token_revoked"

    token_id: UUID
    account_id: UUID


class RouteCreated(DomainEvent):
    """A route was created: `prefixes` lie behind each of these machines, which announce them while it is enabled."""

    kind = "routing.route_created"

    route_id: UUID
    name: str
    enabled: bool
    prefixes: tuple[RoutePrefix, ...]
    machine_ids: tuple[UUID, ...]


class RouteUpdated(DomainEvent):
    """A route is now as said here."""

    kind = "routing.route_updated"

    route_id: UUID
    name: str
    enabled: bool
    prefixes: tuple[RoutePrefix, ...]
    machine_ids: tuple[UUID, ...]


class RouteDeleted(DomainEvent):
    """A route is gone."""

    kind = "routing.route_deleted"

    route_id: UUID
    name: str


class VipCreated(DomainEvent):
    """A virtual IP was created: the first of these machines that is healthy answers for `address`."""

    kind = "routing.vip_created"

    vip_id: UUID
    name: str
    enabled: bool
    address: VipAddress
    health_check: HealthCheck
    machine_ids: tuple[UUID, ...]


class VipUpdated(DomainEvent):
    """A virtual IP is now as said here."""

    kind = "routing.vip_updated"

    vip_id: UUID
    name: str
    enabled: bool
    address: VipAddress
    health_check: HealthCheck
    machine_ids: tuple[UUID, ...]


class VipDeleted(DomainEvent):
    """A virtual IP is gone."""

    kind = "routing.vip_deleted"

    vip_id: UUID
    name: str


class PolicyCreated(DomainEvent):
    """A route policy was created, for every machine of these networks and for these machines. A machine's own goes
    before its network's: where the machine has one for the direction, the network's does not count."""

    kind = "routing.policy_created"

    policy_id: UUID
    name: str
    description: str
    policy: Policy
    network_ids: tuple[UUID, ...]
    machine_ids: tuple[UUID, ...]


class PolicyUpdated(DomainEvent):
    """A route policy is now as said here."""

    kind = "routing.policy_updated"

    policy_id: UUID
    name: str
    description: str
    policy: Policy
    network_ids: tuple[UUID, ...]
    machine_ids: tuple[UUID, ...]


class PolicyDeleted(DomainEvent):
    """A route policy is gone."""

    kind = "routing.policy_deleted"

    policy_id: UUID
    name: str


class GatewaySet(DomainEvent):
    """A machine lets routes and traffic cross between these networks, as far as it is in them; with none, it does no
    more."""

    kind = "routing.gateway_set"

    machine_id: UUID
    network_ids: tuple[UUID, ...]


class ReflectorsPinned(DomainEvent):
    """A network's route reflectors are to be these machines; with none, they are chosen."""

    kind = "routing.reflectors_pinned"

    network_id: UUID
    machine_ids: tuple[UUID, ...]


class MachineUnrouted(DomainEvent):
    """A machine that is no more was taken out of all routes, virtual IPs, policies, gateways and pinned reflectors."""

    kind = "routing.machine_unrouted"

    machine_id: UUID


class NetworkUnrouted(DomainEvent):
    """A network that is no more was taken out of all policies and gateways, and its pinned reflectors forgotten."""

    kind = "routing.network_unrouted"

    network_id: UUID


EVENT_TYPES: tuple[type[DomainEvent], ...] = (
    NetworkCreated,
    NetworkRenamed,
    DefaultNetworkSet,
    RouteReflectorModeSet,
    NetworkDeleted,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    MachineRegistered,
    MachineRenamed,
    MachineAgentUpdated,
    MachineDeleted,
    KeyRotationRequested,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    MachineEnrolled,
    MachineRevoked,
    AccountCreated,
    AccountRoleSet,
    AccountDeleted,
    ApiTokenIssued,
    ApiTokenRevoked,
    MachineTransitSet,
    RouteCreated,
    RouteUpdated,
    RouteDeleted,
    VipCreated,
    VipUpdated,
    VipDeleted,
    PolicyCreated,
    PolicyUpdated,
    PolicyDeleted,
    GatewaySet,
    ReflectorsPinned,
    MachineUnrouted,
    NetworkUnrouted,
)
