"""The derived records: what the topology service makes of the log, for the gateway and the agents.

A record stands under one subject of the STATE stream, which holds the newest only and repeats it live
(`events.subjects`). Each belongs to a *scope*: a network (heard by all its machines), a machine (heard by it alone), or
a part of the access list (heard by gateways alone).
A scope has a revision that rises by one with each of its records, so a listener that holds revision `n` and hears a
record whose `previous` is not `n` knows that it missed something.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from events.fields import (
    AccountRole,
    Address,
    Cidr,
    Endpoint,
    IdentityKey,
    Moment,
    PublicKey,
    SecretHash,
    TokenUse,
    Tolerant,
    TransitMode,
)
from events.routing import HealthCheck, PlanStage, Policy, SessionKind


class NetworkRecord(Tolerant):
    """A network, in its own scope."""

    kind: Literal["network"] = "network"

    network_id: UUID
    name: str
    network_cidr: Cidr
    is_default: bool
    route_reflector_mode: bool
    created_at: Moment
    reflectors: Annotated[tuple[UUID, ...], Field(exclude_if=lambda value: not value)] = ()
    """The machines that are pinned as route reflectors."""


class PeerRecord(Tolerant):
    """A member of a network as the other members need it, in the network's scope."""

    kind: Literal["peer"] = "peer"

    network_id: UUID
    machine_id: UUID
    hostname: str
    address: Address
    public_key: PublicKey
    endpoints: tuple[str, ...]
    """As the allocator accepted them; checked again where they are used."""
    listen_port: int = 0
    """The UDP port of its WireGuard on the machine itself; 0 for not known."""
    transit: TransitMode = "auto"
    """Whether others' traffic may go through this machine."""


class MachineRecord(Tolerant):
    """A machine, in its own scope."""

    kind: Literal["machine"] = "machine"

    machine_id: UUID
    hostname: str
    agent_version: str
    created_at: Moment
    transit: TransitMode = "auto"


class MembershipRecord(Tolerant):
    """A machine's place in one network, in the machine's scope: what it needs in order to join."""

    kind: Literal["membership"] = "membership"

    machine_id: UUID
    network_id: UUID
    network_cidr: Cidr
    address: Address
    assigned_at: Moment
    key_generation: int = 0
    """How often the machine was told to make itself a new key here."""


class PathRecord(Tolerant):
    """How a machine reaches a peer that it has no direct path to, in the machine's paths scope. Without a record, or
    after its tombstone: directly, if at all."""

    kind: Literal["path"] = "path"

    network_id: UUID
    machine_id: UUID
    peer_id: UUID
    ways: tuple[tuple[UUID, ...], ...]
    """The ways in order of preference, each the transit machines to go through, the nearest first. The peer's record
    has the same ways, each the other way round. Empty: there is none."""


class RelayRecord(Tolerant):
    """For a transit machine on a way through several: whose transit addresses lie behind which of its peers."""

    kind: Literal["relay"] = "relay"

    network_id: UUID
    machine_id: UUID
    peer_id: UUID
    """The next machine on the way."""
    behind: tuple[tuple[UUID, UUID], ...]
    """Machine and the transit next to it: their transit address is reached through `peer_id`."""


class RouteRecord(Tolerant):
    """A route, as people see it."""

    kind: Literal["route"] = "route"

    route_id: UUID
    name: str
    enabled: bool
    prefixes: tuple[Cidr, ...]
    machine_ids: tuple[UUID, ...]
    created_at: Moment
    updated_at: Moment


class VipRecord(Tolerant):
    """A virtual IP, as people see it."""

    kind: Literal["vip"] = "vip"

    vip_id: UUID
    name: str
    enabled: bool
    address: Address
    health_check: HealthCheck
    machine_ids: tuple[UUID, ...]
    created_at: Moment
    updated_at: Moment


class PolicyRecord(Tolerant):
    """A route policy, as people see it."""

    kind: Literal["policy"] = "policy"

    policy_id: UUID
    name: str
    description: str
    policy: Policy
    network_ids: tuple[UUID, ...]
    machine_ids: tuple[UUID, ...]
    created_at: Moment
    updated_at: Moment


class GatewayRecord(Tolerant):
    """Between which networks a machine is a gateway, as people see it."""

    kind: Literal["gateway"] = "gateway"

    machine_id: UUID
    network_ids: tuple[UUID, ...]


class AnnouncedVip(Tolerant):
    """A virtual IP that a machine may announce, and how much it is preferred there (LOCAL_PREF)."""

    address: Address
    local_pref: int


class AnnouncementRecord(Tolerant):
    """What a member may announce in a network, in the network's scope: what the others' import filters let in from it
    and from nobody else. Without a record, or after its tombstone: nothing."""

    kind: Literal["announcement"] = "announcement"

    network_id: UUID
    machine_id: UUID
    prefixes: tuple[Cidr, ...]
    """Of its routes that are enabled, without doubles, in order."""
    vips: tuple[AnnouncedVip, ...]
    """By address."""
    crossing: tuple[Cidr, ...] = ()
    """Where it is a gateway: the CIDRs of the other networks, and what their members may announce there."""


class NetworkPolicyRecord(Tolerant):
    """The route policy that a network has for one direction, in the network's scope."""

    kind: Literal["network-policy"] = "network-policy"

    network_id: UUID
    policy_id: UUID
    policy: Policy


class VipDuty(Tolerant):
    """A virtual IP that a machine is to answer for while it is healthy."""

    vip_id: UUID
    address: Address
    local_pref: int
    health_check: HealthCheck


class RoutingRecord(Tolerant):
    """What a machine itself is to do, in its own scope. Without a record, or after its tombstone: nothing."""

    kind: Literal["routing"] = "routing"

    machine_id: UUID
    prefixes: tuple[Cidr, ...]
    vips: tuple[VipDuty, ...]
    gateway: tuple[UUID, ...]
    """Between which networks it lets routes and traffic cross: of those that it is in, and that are two at least."""
    policies: tuple[Policy, ...]
    """Its own, at most one for each direction."""


class BgpPlanRecord(Tolerant):
    """How the members of a network are to speak BGP, in the network's scope `bgp`. Without a record: in full mesh."""

    kind: Literal["bgp-plan"] = "bgp-plan"

    network_id: UUID
    stage: PlanStage
    reflectors: tuple[UUID, ...]
    """In order of their ids; empty in full mesh."""


class BootstrapTokenRecord(Tolerant):
    """A bootstrap token, also one that is used up, expired or revoked."""

    kind: Literal["bootstrap"] = "bootstrap"

    token_id: UUID
    secret_hash: SecretHash
    created_at: Moment
    created_by: str
    expires_at: Moment
    uses: int | None
    used: int
    network_id: UUID | None
    revoked_at: Moment | None = None


class IdentityRecord(Tolerant):
    """A machine that enrolled, and the key by which it is known; kept when it is revoked or deleted."""

    kind: Literal["identity"] = "identity"

    machine_id: UUID
    identity_key: IdentityKey
    enrolled_at: Moment
    token_id: UUID
    revoked_at: Moment | None = None


class AccountRecord(Tolerant):
    """An account."""

    kind: Literal["account"] = "account"

    account_id: UUID
    name: str
    role: AccountRole
    created_at: Moment


class FormerTokenRecord(Tolerant):
    """An API token that was revoked. It has no tombstone but this, which tells when nothing need remember it."""

    kind: Literal["former-token"] = "former-token"

    token_id: UUID
    expires_at: Moment | None
    account_id: UUID | None = None
    """Whose it was."""


class ApiTokenRecord(Tolerant):
    """An API token that was not revoked. Its record may be gone once it has expired."""

    kind: Literal["token"] = "token"

    token_id: UUID
    account_id: UUID
    name: str
    role: AccountRole
    use: TokenUse
    secret_hash: SecretHash
    created_at: Moment
    expires_at: Moment | None
    begun_with: UUID | None = None
    """Of a session: the token that it ends with."""


Body = Annotated[
    NetworkRecord
    | PeerRecord
    | MachineRecord
    | MembershipRecord
    | BootstrapTokenRecord
    | IdentityRecord
    | AccountRecord
    | ApiTokenRecord
    | FormerTokenRecord
    | PathRecord
    | RelayRecord
    | RouteRecord
    | VipRecord
    | PolicyRecord
    | GatewayRecord
    | AnnouncementRecord
    | NetworkPolicyRecord
    | RoutingRecord
    | BgpPlanRecord,
    Field(discriminator="kind"),
]


class Record(Tolerant):
    """One derived record with its place in its scope's history. Without a body it says: this is gone."""

    revision: int
    previous: int
    """The scope's revision before this record."""
    cause: int
    """The log position of the event that led to this record."""
    time: Moment
    """The time of that event."""
    body: Body | None


class SubjectRecord(Tolerant):
    """A record together with the STATE subject it stands under."""

    subject: str
    record: Record


class SignedRecord(Tolerant):
    """A record as it stands in STATE, to the byte, so that its signature can be checked."""

    subject: str
    payload: str
    """The record's JSON."""
    signature: str = ""
    """As `events.trust.signing` makes it; empty where the control plane has no keys."""


class SyncRequest(Tolerant):
    """An agent asks for the records of a scope (`network:<uuid>` or `machine:<uuid>`) after a revision."""

    scope: str
    since: int = 0
    """The revision the agent holds; 0 for nothing."""


class SyncReply(Tolerant):
    """The records asked for, in the order of their revisions."""

    scope: str
    revision: int
    """The revision that the agent has once it has applied `records`."""
    reset: bool = False
    """The agent's revision is not one of this scope's: it must drop what it holds first."""
    gone: bool = False
    """The scope does not exist (any more), or is not the agent's to hear."""
    more: bool = False
    """There is more: ask again from `revision`."""
    records: tuple[SignedRecord, ...] = ()


class RegisterRequest(Tolerant):
    """An agent makes its machine known."""

    hostname: str
    agent_version: str = ""


class MembershipRequest(Tolerant):
    """An agent announces its key, port and endpoint candidates for one network."""

    network_id: UUID
    public_key: PublicKey
    listen_port: int
    endpoints: tuple[Endpoint, ...] = ()


class Heartbeat(Tolerant):
    """An agent is alive. Not an event: kept in memory only."""

    boot_id: UUID
    counter: int
    leaving: bool = False
    """The agent stops on purpose: the machine counts as offline at once."""
    applied: dict[UUID, int] = Field(default_factory=dict)
    """For each network, the revision up to which its interface agrees with the records."""
    applied_ago: dict[UUID, int] = Field(default_factory=dict)
    """For each network, how many milliseconds ago its interface came to that."""
    refused: dict[str, int] = Field(default_factory=dict)
    """How many records were refused since the agent started, by reason (`agent.trust.Reason`)."""


class LinkState(Tolerant):
    """What a machine finds of its direct path to one peer."""

    peer_id: UUID
    state: Literal["direct", "unreachable"]
    rtt: int | None = None
    """Milliseconds, in the steps of `events.transit.RTT_STEPS`; None where unreachable."""
    endpoint: str = ""
    """The candidate in use, or empty."""
    tried: tuple[tuple[str, str], ...] = ()
    """The candidates that were tried, each with how it failed; only where unreachable."""


class ReachRequest(Tolerant):
    """An agent reports changes of its links in one network."""

    network_id: UUID
    boot_id: UUID
    counter: Annotated[int, Field(ge=0, lt=1 << 63)]
    """Rises with every report of one boot: a report that is not newer is refused."""
    whole: bool = False
    """These are all the links that there are: what was reported before and is not among them counts no more."""
    links: Annotated[tuple[LinkState, ...], Field(max_length=500)]


class ReachReply(Tolerant):
    """The report is in the stream."""

    sequence: int


class ReachEvent(Tolerant):
    """What a machine reported of one link, as it stands in the stream REACH."""

    network_id: UUID
    machine_id: UUID
    boot_id: UUID
    counter: int
    time: Moment
    link: LinkState
    since: Moment | None = None
    """Since when the machine reports this state; None for since this report."""


class VipHealth(Tolerant):
    """Whether a machine finds that it can answer for a virtual IP."""

    vip_id: UUID
    healthy: bool
    since: Moment
    reason: Annotated[str, Field(max_length=300)] = ""
    """Why not."""


class SpeakerState(Tolerant):
    """A machine's BGP speaker."""

    kind: Literal["speaker"] = "speaker"

    state: Literal["running", "off", "failed"]
    reason: Annotated[str, Field(max_length=500)] = ""
    """Why it does not run, and what to do."""
    version: Annotated[str, Field(max_length=64)] = ""
    since: Moment
    announced: Annotated[tuple[Cidr, ...], Field(max_length=500)] = ()
    """What it announces in this network now."""
    vips: Annotated[tuple[VipHealth, ...], Field(max_length=200)] = ()


ReportedNumber = Annotated[int, Field(ge=0, lt=1 << 32)]
"""A number that a machine reports. Nobody who reads it later can do with one without bounds."""


class SessionState(Tolerant):
    """One BGP session, as one of its ends finds it."""

    kind: Literal["session"] = "session"

    peer_id: UUID
    purpose: SessionKind
    state: Literal["idle", "connect", "active", "opensent", "openconfirm", "established", "gone"]
    """As in RFC 4271, section 8.2.2; `gone` where it is not meant to be any more."""
    since: Moment
    imported: ReportedNumber = 0
    """How many prefixes were taken in from the other end."""
    exported: ReportedNumber = 0
    error: Annotated[str, Field(max_length=200)] = ""
    """Why it last went down."""


class RibRoute(Tolerant):
    """One route that a speaker knows."""

    prefix: Cidr
    next_hop: Address | None
    """None where the machine itself announces it."""
    best: bool
    """Whether it is the one in use."""
    local_pref: ReportedNumber
    med: ReportedNumber | None = None
    as_path: Annotated[tuple[ReportedNumber, ...], Field(max_length=50)] = ()
    communities: Annotated[tuple[str, ...], Field(max_length=50)] = ()
    since: Moment


class RibState(Tolerant):
    """A part of the routes that a machine's speaker knows in a network, in the order of their prefixes."""

    kind: Literal["rib"] = "rib"

    part: Annotated[int, Field(ge=0, lt=20)]
    parts: Annotated[int, Field(ge=1, le=20)]
    total: ReportedNumber
    """How many routes there are, also beyond those that are reported."""
    routes: Annotated[tuple[RibRoute, ...], Field(max_length=250)]


BgpState = Annotated[SpeakerState | SessionState | RibState, Field(discriminator="kind")]


class BgpRequest(Tolerant):
    """An agent reports what has changed of its BGP speaker in one network."""

    network_id: UUID
    boot_id: UUID
    counter: Annotated[int, Field(ge=0, lt=1 << 63)]
    """Rises with every report of one boot: a report that is not newer is refused."""
    whole: bool = False
    """These are all the sessions that there are: what was reported before and is not among them counts no more."""
    states: Annotated[tuple[BgpState, ...], Field(max_length=300)]


class BgpReply(Tolerant):
    """The report is in the stream."""

    sequence: int


class BgpEvent(Tolerant):
    """What a machine reported of its BGP speaker, as it stands in the stream BGP."""

    network_id: UUID
    machine_id: UUID
    boot_id: UUID
    counter: int
    time: Moment
    state: BgpState
