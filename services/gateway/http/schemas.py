"""The objects that the HTTP API takes and gives."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from events.commands import AgentVersion
from events.errors import ConflictError, InvalidInputError
from events.fields import Cidr, Endpoint, GivenAddress, Moment, PublicKey, TransitMode, shown
from events.routing import PlanStage
from services.gateway.wanted import KINDS

MAX_BATCH = 10_000
"""How many machines one request assigns: what the bus carries in one message, with room to spare."""

MAX_POSITION = 2**53 - 1
"""The greatest log position that can be asked for: what every JSON reader can represent (RFC 8259, section 6)."""

DRY_RUN_TEXT = (
    "Change nothing, and tell (200) which events would be written, and what would be otherwise then. A refusal is the "
    "same."
)

_NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"
_MACHINE_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"


class Given(BaseModel):
    """Base of what clients send: fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """Base of what clients get."""

    model_config = ConfigDict(frozen=True)


Online = Annotated[
    bool | None,
    Field(description="Whether the machine is online. Null with `at`: it is not recorded."),
]


class Network(View):
    """A mesh network."""

    uuid: UUID = Field(examples=[_NETWORK_UUID])
    name: str = Field(examples=["office-mesh"])
    network_cidr: Cidr = Field(description="Its IPv4 range; never changes.", examples=["172.16.0.0/24"])
    is_default: bool = Field(description="Whether this is the one default network.")
    route_reflector_mode: bool = Field(description="For networks of 250 machines and more.")
    available_ip_count: int = Field(description="How many more machines fit.", examples=[251])
    machine_count: int = Field(description="How many machines are assigned.", examples=[3])
    created_at: Moment
    updated_at: Moment = Field(description="When the network, a membership in it or a peer of it last changed.")
    bgp_stage: PlanStage = Field(
        description="How its machines peer with BGP now: in full `mesh`, with `reflectors`, or `switching` from one to "
        "the other, with the sessions of both until all have what they need."
    )
    recommendation: str | None = Field(description="What is recommended for a network of its size; null for nothing.")


class Membership(View):
    """A machine's place in one network."""

    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    mesh_network_name: str = Field(examples=["office-mesh"])
    wg_ip_address: IPv4Address = Field(examples=["172.16.0.1"])
    public_key: PublicKey | None = Field(description="Null until the machine's agent has announced it.")
    endpoints: tuple[Endpoint, ...] = Field(
        description="Where the machine may be reached with WireGuard.", examples=[["192.0.2.10:51820"]]
    )


class Machine(View):
    """A machine and its places in networks."""

    uuid: UUID = Field(examples=[_MACHINE_UUID])
    hostname: str = Field(examples=["db-1"])
    state: Literal["active", "revoked"] = Field(description="A revoked machine is never let in again.")
    is_online: Online = Field(
        description="Whether its agent was heard of in the last 30 seconds. Null with `at`: it is not recorded."
    )
    last_seen_at: Moment | None = Field(
        description="Null if it was not heard of since this gateway started, and with `at`: it is not recorded."
    )
    agent_version: str = Field(examples=["0.1.0"])
    transit: TransitMode = Field(description="Whether other machines' traffic may go through it.")
    memberships: tuple[Membership, ...]
    enrolled_at: Moment | None = Field(description="Null if it has no identity key.")
    revoked_at: Moment | None
    refused_records: dict[str, int] | None = Field(
        description="How many of the control plane's records its agent refused since it started, by reason: none, "
        "unless somebody forges or replays them. Null with `at`: it is not recorded.",
        examples=[{}],
    )
    created_at: Moment
    updated_at: Moment = Field(description="When the machine, one of its memberships or its keys last changed.")


class Page(View):
    """Base of one page of a list."""

    total: int = Field(description="How many there are on all pages.", examples=[1])
    next: str | None = Field(description="Give it as `after` to get the next page; null on the last.")


class NetworkPage(Page):
    """Mesh networks."""

    items: tuple[Network, ...]


class MachinePage(Page):
    """Machines."""

    items: tuple[Machine, ...]


class Assignment(View):
    """A machine and its address in a network."""

    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    machine_uuid: UUID = Field(examples=[_MACHINE_UUID])
    wg_ip_address: IPv4Address = Field(examples=["172.16.0.1"])


class Assignments(View):
    """Machines and their addresses in a network, in the order asked for."""

    items: tuple[Assignment, ...]
    total: int


class Accepted(View):
    """The command was executed, but this gateway does not show its effect yet; look at `Location` in a moment."""

    command_id: UUID
    sequence: int = Field(description="The log position of its last event.")


class Event(View):
    """Something that happened."""

    sequence: int = Field(description="Its position in the log.", examples=[42])
    time: Moment
    kind: str = Field(examples=["network.machines_assigned"])
    actor: str = Field(description="Who caused it.", examples=["cli:alice"])
    command_id: UUID
    network_uuids: tuple[UUID, ...]
    machine_uuids: tuple[UUID, ...]
    text: str = Field(description="In words.", examples=["assigned db-1 to office-mesh as 172.16.0.1"])
    data: dict[str, Any] = Field(description="The fields of this kind of event.")


class EventPage(View):
    """Events of the log."""

    items: tuple[Event, ...]
    next: int | None = Field(
        description="Give it as `after` (or `before`, where newest come first) to go on; null at the log's end.",
        examples=[42],
    )
    last_sequence: int = Field(description="The log's last position.", examples=[42])


class Readiness(View):
    """Which parts of the control plane are ready for work."""

    ready: bool
    bus: bool = Field(description="The message bus is connected.")
    mirror: bool = Field(description="The gateway's picture is complete and up to date: the topology service works.")
    allocator: bool = Field(description="An allocator answers.")


class FieldFault(View):
    """What is wrong with one field."""

    field: str = Field(examples=["body.name"])
    message: str = Field(examples=["Field required"])


class Problem(View):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [ConflictError("Why it cannot be.", hint="What to do.").to_problem()]}
    )

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
    field: str = ""
    errors: tuple[FieldFault, ...] = ()


class NetworkCreate(Given):
    """A mesh network to be."""

    name: str = Field(description="Letters, digits, '.', '_' and '-', up to 63; unique.", examples=["office-mesh"])
    network_cidr: str = Field(
        description="A canonical private range (RFC 1918), /8 to /30, apart from the other networks'. Fixed for good.",
        examples=["172.16.0.0/24"],
    )
    is_default: StrictBool = Field(False, description="Make it the default network instead of the present one.")
    route_reflector_mode: StrictBool = False


class NetworkChange(Given):
    """What to change about a mesh network: at least one field. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: str = Field(default_factory=str, examples=["office-mesh"])
    is_default: StrictBool = Field(default_factory=bool)
    route_reflector_mode: StrictBool = Field(default_factory=bool)

    @model_validator(mode="before")
    @classmethod
    def _refuse_cidr(cls, value: Any) -> Any:
        if isinstance(value, dict) and "network_cidr" in value:
            raise InvalidInputError(
                "A network's CIDR is immutable.",
                hint="Leave network_cidr out; for another range create another network.",
                field="network_cidr",
            )
        return value

    @model_validator(mode="after")
    def _something(self) -> NetworkChange:
        if not self.model_fields_set:
            raise ValueError("give at least one of name, is_default and route_reflector_mode")
        return self


class MachineCreate(Given):
    """A machine to be. An agent registers its machine by itself."""

    hostname: str = Field(description="A host name as in RFC 1123.", examples=["db-1"])
    uuid: UUID | None = Field(None, description="Its identity, if it has one already; else one is made.")
    agent_version: AgentVersion = ""


class MachineChange(Given):
    """What to change about a machine: at least one field. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    hostname: str = Field(default_factory=str, examples=["db-1"])
    transit: TransitMode = Field(
        default_factory=lambda: "auto",
        description="Whether other machines' traffic may go through it, where they have no direct path: `auto` where "
        "it is the shortest way, `always` rather than through others, or `never`.",
    )

    @model_validator(mode="after")
    def _something(self) -> MachineChange:
        if not self.model_fields_set:
            raise ValueError("give at least one of hostname and transit")
        return self


class Assign(Given):
    """A machine to assign."""

    machine_uuid: UUID = Field(examples=[_MACHINE_UUID])
    wg_ip_address: GivenAddress | None = Field(
        None, description="The address it should have; else the lowest free one.", examples=["172.16.0.7"]
    )


class AssignBatch(Given):
    """Machines to assign, all or none. Those that are assigned already stay as they are."""

    machine_uuids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_BATCH, examples=[[_MACHINE_UUID]])]


At = Annotated[
    str | None,
    Field(
        max_length=100,
        description="As it was at this moment: right after this position of the log; or at this time, which is UTC "
        "where it says no zone; or so long ago. The answer then has the header `X-Wireloom-At`, and what was not "
        "recorded is null.",
        examples=["1204", "2026-05-03T14:02", "2 hours ago"],
    ),
]


class ViewQuery(Given):
    """Base of queries that may be about a moment that is past."""

    at: At = None


Limit = Annotated[int, Field(ge=1, le=1000, description="How many items a page has.")]
After = Annotated[str | None, Field(max_length=1000, description="`next` of the page before.")]
Position = Annotated[int | None, Field(ge=0, le=MAX_POSITION)]
Search = Annotated[str | None, Field(min_length=1, max_length=200)]


class NetworkQuery(ViewQuery):
    """Which networks, in which order."""

    name: str | None = Field(None, description="Exactly this name.")
    is_default: bool | None = None
    search: Search = Field(None, description="In the name or the CIDR, whatever the case.")
    sort: Literal[
        "name", "-name", "network_cidr", "-network_cidr", "machine_count", "-machine_count",
        "created_at", "-created_at", "updated_at", "-updated_at",
    ] = Field("name", description="A leading minus turns the order around.")  # fmt: skip
    limit: Limit = 100
    after: After = None


class MemberQuery(ViewQuery):
    """Which machines of a network; they come in the order of their addresses."""

    is_online: bool | None = Field(None, description="Not together with `at`: who was online is not recorded.")
    limit: Limit = 100
    after: After = None

    @model_validator(mode="after")
    def _recorded(self) -> MemberQuery:
        if self.at is not None and self.is_online is not None:
            raise InvalidInputError(
                "Who was online is not recorded.", hint="Leave out `is_online`, or `at`.", field="is_online"
            )
        return self


class MachineQuery(MemberQuery):
    """Which machines, in which order."""

    hostname: str | None = Field(None, description="Exactly this hostname, whatever the case.")
    mesh_network_uuid: UUID | None = Field(None, description="Only machines of this network.")
    search: Search = Field(None, description="In the hostname or a mesh address, whatever the case.")
    sort: Literal["hostname", "-hostname", "created_at", "-created_at"] = Field(
        "hostname", description="A leading minus turns the order around."
    )


class DeleteQuery(Given):
    """How to delete."""

    force: bool = Field(False, description="Also if machines are assigned: they are unassigned at the same moment.")
    dry_run: bool = Field(False, description=DRY_RUN_TEXT)


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"there is no kind of events {shown(kind)}")
    return kind


Kind = Annotated[str, AfterValidator(_known_kind), Field(json_schema_extra={"enum": list(KINDS)})]


class StreamQuery(Given):
    """Which events to follow."""

    after: Position = Field(None, description="From this log position on; without it, what happens from now.")
    network: UUID | None = Field(None, description="Only about this network.")
    machine: UUID | None = Field(None, description="Only about this machine.")
    actor: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only what this actor caused, whatever the case: `account:alice/laptop`, or `account:alice` or "
        "`alice` whatever the token; a machine by its hostname or as `machine:<uuid>`.",
        examples=["alice"],
    )
    kind: list[Kind] = Field(
        default_factory=list, max_length=len(KINDS), description="Only of this kind. Give it again for others too."
    )
    since: Moment | None = Field(None, description="Only from this time on.")
    until: Moment | None = Field(None, description="Only from before this time.")


class EventQuery(StreamQuery):
    """Which events: after a position, oldest first; or before one (or the log's end), newest first."""

    after: Position = Field(None, description="Events after this log position, oldest first.")
    before: Position = Field(None, description="Events before this log position, newest first.")
    limit: Limit = 100

    @model_validator(mode="after")
    def _one_direction(self) -> EventQuery:
        if self.after is not None and self.before is not None:
            raise ValueError("give `after` or `before`, not both")
        return self
