"""The commands: what somebody wants to happen. The allocator decides each into events, or refuses it.

A command carries its own id (`command_id`): sent again with the same id it is executed once, and answered the same.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from events.domain import Assignment
from events.fields import (
    AccountRole,
    Endpoint,
    Frozen,
    GivenAddress,
    IdentityKey,
    PublicKey,
    SecretHash,
    TokenUse,
    TransitMode,
)
from events.routing import (
    MAX_MACHINES,
    MAX_PREFIXES,
    MAX_REFLECTORS,
    Description,
    HealthCheck,
    Policy,
    RoutePrefix,
    VipAddress,
)

MAX_ENDPOINTS = 16
"""How many endpoint candidates a machine may announce for one network."""

Actor = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
"""Who gives a command: `kind:name`, for example `cli:alice` or `machine:<uuid>`; printable ASCII, no spaces."""

Lifetime = Literal["10m", "1d", "7d", "30d", "90d", "365d"]
"""How long a token counts."""

LIFETIMES: dict[Lifetime, timedelta] = {
    "10m": timedelta(minutes=10),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "365d": timedelta(days=365),
}
SESSION_LIFETIME = timedelta(hours=12)
"""How long a browser stays signed in."""

MAX_USES = 1_000_000

AgentVersion = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._+-]*$")]

RoutePrefixes = Annotated[tuple[RoutePrefix, ...], Field(min_length=1, max_length=MAX_PREFIXES)]
RoutedMachines = Annotated[tuple[UUID, ...], Field(max_length=MAX_MACHINES)]
"""For a VIP in order of preference."""
RoutedNetworks = Annotated[tuple[UUID, ...], Field(max_length=MAX_MACHINES)]


class Command(Frozen):
    """Base of all commands: its id and who gives it."""

    summary: ClassVar[str]

    command_id: UUID
    actor: Actor


class CreateNetwork(Command):
    """Create a network. Its CIDR is fixed for good; as the default it takes over from the one before."""

    kind: Literal["create-network"] = "create-network"
    summary = "create a network"

    network_id: UUID
    name: str
    network_cidr: str
    is_default: bool = False
    route_reflector_mode: bool = False


class RenameNetwork(Command):
    """Give a network another name."""

    kind: Literal["rename-network"] = "rename-network"
    summary = "rename a network"

    network_id: UUID
    name: str


class SetDefaultNetwork(Command):
    """Make a network the default one, or with None have no default; where `only_if_default` names a network, only if
    that one is the default."""

    kind: Literal["set-default-network"] = "set-default-network"
    summary = "set the default network"

    network_id: UUID | None
    only_if_default: UUID | None = None


class SetRouteReflectorMode(Command):
    """Turn a network's route reflector mode on or off."""

    kind: Literal["set-route-reflector-mode"] = "set-route-reflector-mode"
    summary = "set a network's route reflector mode"

    network_id: UUID
    enabled: bool


class DeleteNetwork(Command):
    """Delete a network; one with machines only by force, and then with all its assignments at once."""

    kind: Literal["delete-network"] = "delete-network"
    summary = "delete a network"

    network_id: UUID
    force: bool = False


class RegisterMachine(Command):
    """Make a machine known. One that is known already keeps its hostname; its agent's version is noted."""

    kind: Literal["register-machine"] = "register-machine"
    summary = "register a machine"

    machine_id: UUID
    hostname: str
    agent_version: AgentVersion = ""


class RenameMachine(Command):
    """Give a machine another hostname."""

    kind: Literal["rename-machine"] = "rename-machine"
    summary = "rename a machine"

    machine_id: UUID
    hostname: str


class SetTransit(Command):
    """Say whether other machines' traffic may go through a machine."""

    kind: Literal["set-transit"] = "set-transit"
    summary = "set whether a machine is a transit"

    machine_id: UUID
    transit: TransitMode


class DeleteMachine(Command):
    """Delete a machine; one that is assigned only by force, and then out of all its networks at once."""

    kind: Literal["delete-machine"] = "delete-machine"
    summary = "delete a machine"

    machine_id: UUID
    force: bool = False


class AssignMachine(Command):
    """Assign a machine to a network, at `address` if given and free, else at the lowest free one."""

    kind: Literal["assign-machine"] = "assign-machine"
    summary = "assign a machine to a network"

    network_id: UUID
    machine_id: UUID
    address: GivenAddress | None = None


class AssignMachines(Command):
    """Assign many machines to a network, all or none, in the order given. Those assigned already stay as they are."""

    kind: Literal["assign-machines"] = "assign-machines"
    summary = "assign machines to a network"

    network_id: UUID
    machine_ids: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=65_534)]


class UnassignMachine(Command):
    """Take a machine out of a network; its address is free again."""

    kind: Literal["unassign-machine"] = "unassign-machine"
    summary = "unassign a machine from a network"

    network_id: UUID
    machine_id: UUID


class RegisterMembership(Command):
    """Announce a machine's WireGuard public key, UDP port and endpoint candidates for one network it is in."""

    kind: Literal["register-membership"] = "register-membership"
    summary = "register a machine's key and endpoints in a network"

    network_id: UUID
    machine_id: UUID
    public_key: PublicKey
    listen_port: Annotated[int, Field(ge=1, le=65535)]
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=MAX_ENDPOINTS)] = ()


class RotateKeys(Command):
    """Have a machine make itself new WireGuard keys, in one network or, with None, in all that it is in."""

    kind: Literal["rotate-keys"] = "rotate-keys"
    summary = "have a machine rotate its keys"

    machine_id: UUID
    network_id: UUID | None = None


class RevokeMachine(Command):
    """Take a machine out of all its networks and never let it in again, in one change."""

    kind: Literal["revoke-machine"] = "revoke-machine"
    summary = "revoke a machine"

    machine_id: UUID


class CreateBootstrapToken(Command):
    """Make a token that lets machines in. Only its hash is given."""

    kind: Literal["create-bootstrap-token"] = "create-bootstrap-token"
    summary = "create a bootstrap token"

    token_id: UUID
    secret_hash: SecretHash
    lifetime: Lifetime = "10m"
    uses: Annotated[int, Field(ge=1, le=MAX_USES)] | None = 1
    """How many machines it lets in; None for any number."""
    network_id: UUID | None = None


class RevokeBootstrapToken(Command):
    """Have a bootstrap token let nobody in any more."""

    kind: Literal["revoke-bootstrap-token"] = "revoke-bootstrap-token"
    summary = "revoke a bootstrap token"

    token_id: UUID


class EnrolMachine(Command):
    """Let a machine in that holds a bootstrap token, and has proved to the gateway that it has the identity key. It is
    made known, and joins the token's network, or else the default one if there is one.

    A machine that has enrolled with the same key before is the same machine: no use is spent.
    """

    kind: Literal["enrol-machine"] = "enrol-machine"
    summary = "enrol a machine"

    machine_id: UUID
    identity_key: IdentityKey
    hostname: str
    agent_version: AgentVersion = ""
    secret_hash: SecretHash
    """Of the token that the machine showed."""


class CreateAccount(Command):
    """Give a person or program an account."""

    kind: Literal["create-account"] = "create-account"
    summary = "create an account"

    account_id: UUID
    name: str
    role: AccountRole


class CreateFirstAccount(Command):
    """Make the first account, an admin, with an API token. Nothing happens where there is an account already."""

    kind: Literal["create-first-account"] = "create-first-account"
    summary = "create the first account"

    account_id: UUID
    name: str
    token_id: UUID
    secret_hash: SecretHash


class SetAccountRole(Command):
    """Give an account another role. There is always an admin."""

    kind: Literal["set-account-role"] = "set-account-role"
    summary = "set an account's role"

    account_id: UUID
    role: AccountRole


class DeleteAccount(Command):
    """Delete an account and its tokens. There is always an admin."""

    kind: Literal["delete-account"] = "delete-account"
    summary = "delete an account"

    account_id: UUID


class IssueApiToken(Command):
    """Make a token that speaks for an account. Only its hash is given."""

    kind: Literal["issue-api-token"] = "issue-api-token"
    summary = "issue an API token"

    token_id: UUID
    account_id: UUID
    name: str
    role: AccountRole
    """At most the account's own."""
    use: TokenUse = "api"
    secret_hash: SecretHash
    lifetime: Lifetime | None = None
    """None: until it is revoked; for a session always `SESSION_LIFETIME`."""
    begun_with: UUID | None = None
    """For a session: the account's API token that it was begun with, and ends with."""


class RevokeApiToken(Command):
    """Have an API token speak for nobody any more."""

    kind: Literal["revoke-api-token"] = "revoke-api-token"
    summary = "revoke an API token"

    token_id: UUID


class CreateRoute(Command):
    """Say that prefixes lie behind machines, which announce them."""

    kind: Literal["create-route"] = "create-route"
    summary = "create a route"

    route_id: UUID
    name: str
    enabled: bool = True
    prefixes: RoutePrefixes
    machine_ids: RoutedMachines = ()


class UpdateRoute(Command):
    """Change a route. What is None stays as it is."""

    kind: Literal["update-route"] = "update-route"
    summary = "change a route"

    route_id: UUID
    name: str | None = None
    enabled: bool | None = None
    prefixes: RoutePrefixes | None = None
    machine_ids: RoutedMachines | None = None


class DeleteRoute(Command):
    """Delete a route."""

    kind: Literal["delete-route"] = "delete-route"
    summary = "delete a route"

    route_id: UUID


class CreateVip(Command):
    """Create a virtual IP: the first of its machines that is healthy answers for it."""

    kind: Literal["create-vip"] = "create-vip"
    summary = "create a virtual IP"

    vip_id: UUID
    name: str
    enabled: bool = True
    address: VipAddress
    health_check: HealthCheck = HealthCheck()
    machine_ids: RoutedMachines = ()


class UpdateVip(Command):
    """Change a virtual IP. What is None stays as it is."""

    kind: Literal["update-vip"] = "update-vip"
    summary = "change a virtual IP"

    vip_id: UUID
    name: str | None = None
    enabled: bool | None = None
    address: VipAddress | None = None
    health_check: HealthCheck | None = None
    machine_ids: RoutedMachines | None = None


class DeleteVip(Command):
    """Delete a virtual IP."""

    kind: Literal["delete-vip"] = "delete-vip"
    summary = "delete a virtual IP"

    vip_id: UUID


class CreatePolicy(Command):
    """Create a route policy, for all machines of some networks, or for some machines. A network, and a machine, has at
    most one for each direction."""

    kind: Literal["create-policy"] = "create-policy"
    summary = "create a route policy"

    policy_id: UUID
    name: str
    description: Description = ""
    policy: Policy
    network_ids: RoutedNetworks = ()
    machine_ids: RoutedMachines = ()


class UpdatePolicy(Command):
    """Change a route policy. What is None stays as it is."""

    kind: Literal["update-policy"] = "update-policy"
    summary = "change a route policy"

    policy_id: UUID
    name: str | None = None
    description: Description | None = None
    policy: Policy | None = None
    network_ids: RoutedNetworks | None = None
    machine_ids: RoutedMachines | None = None


class DeletePolicy(Command):
    """Delete a route policy."""

    kind: Literal["delete-policy"] = "delete-policy"
    summary = "delete a route policy"

    policy_id: UUID


class SetGateway(Command):
    """Have a machine let routes and traffic cross between networks that it is in; with none, no more."""

    kind: Literal["set-gateway"] = "set-gateway"
    summary = "set between which networks a machine is a gateway"

    machine_id: UUID
    network_ids: Annotated[tuple[UUID, ...], Field(max_length=16)]


class PinReflectors(Command):
    """Name the machines that are a network's route reflectors; with none, they are chosen."""

    kind: Literal["pin-reflectors"] = "pin-reflectors"
    summary = "pin a network's route reflectors"

    network_id: UUID
    machine_ids: Annotated[tuple[UUID, ...], Field(max_length=MAX_REFLECTORS)]


class Undo(Command):
    """Make the events that take back what another command did, all of it or nothing."""

    kind: Literal["undo-command"] = "undo-command"
    summary = "undo a command"

    undone: UUID
    """The other command's id."""
    first_sequence: Annotated[int, Field(ge=1)]
    """The log position of its first event."""
    last_sequence: Annotated[int, Field(ge=1)]
    """The log position of its last event."""


AnyCommand = Annotated[
    CreateNetwork
    | RenameNetwork
    | SetDefaultNetwork
    | SetRouteReflectorMode
    | DeleteNetwork
    | RegisterMachine
    | RenameMachine
    | DeleteMachine
    | AssignMachine
    | AssignMachines
    | UnassignMachine
    | RegisterMembership
    | RotateKeys
    | RevokeMachine
    | CreateBootstrapToken
    | RevokeBootstrapToken
    | EnrolMachine
    | CreateAccount
    | CreateFirstAccount
    | SetAccountRole
    | DeleteAccount
    | IssueApiToken
    | RevokeApiToken
    | SetTransit
    | CreateRoute
    | UpdateRoute
    | DeleteRoute
    | CreateVip
    | UpdateVip
    | DeleteVip
    | CreatePolicy
    | UpdatePolicy
    | DeletePolicy
    | SetGateway
    | PinReflectors
    | Undo,
    Field(discriminator="kind"),
]

COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)
"""Reads any command from JSON, told apart by `kind`."""

COMMAND_TYPES: tuple[type[Command], ...] = (
    CreateNetwork,
    RenameNetwork,
    SetDefaultNetwork,
    SetRouteReflectorMode,
    DeleteNetwork,
    RegisterMachine,
    RenameMachine,
    DeleteMachine,
    AssignMachine,
    AssignMachines,
    UnassignMachine,
    RegisterMembership,
    RotateKeys,
    RevokeMachine,
    CreateBootstrapToken,
    RevokeBootstrapToken,
    EnrolMachine,
    CreateAccount,
    CreateFirstAccount,
    SetAccountRole,
    DeleteAccount,
    IssueApiToken,
    RevokeApiToken,
    SetTransit,
    CreateRoute,
    UpdateRoute,
    DeleteRoute,
    CreateVip,
    UpdateVip,
    DeleteVip,
    CreatePolicy,
    UpdatePolicy,
    DeletePolicy,
    SetGateway,
    PinReflectors,
    Undo,
)

INTERNAL_COMMANDS: tuple[type[Command], ...] = (RegisterMembership, EnrolMachine, CreateFirstAccount, Undo)
"""Those that only the control plane's own parts give, for somebody whose right they have checked: never a program."""


class Outcome(Frozen):
    """What became of an accepted command."""

    command_id: UUID
    sequence: int
    """The log position of the command's last event; for one that changed nothing, the position it was decided at."""
    changed: bool
    """Whether events were written: False where everything was already as asked."""
    assignments: tuple[Assignment, ...] = ()
    """For AssignMachine and AssignMachines: each machine asked for and its address, new or had already."""
