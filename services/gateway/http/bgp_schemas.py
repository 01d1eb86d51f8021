"""The objects of the HTTP API that are about BGP."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Literal
from uuid import UUID

from pydantic import Field

from events.fields import Cidr, Moment
from events.routing import PlanStage, SessionKind
from services.gateway.http.path_schemas import PathMachine
from services.gateway.http.schemas import After, Limit, View, ViewQuery

_NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"

Speaking = Literal["running", "off", "failed", "unknown"]
SessionStatus = Literal["idle", "connect", "active", "opensent", "openconfirm", "established"]


class Reflector(PathMachine):
    """A machine that is a route reflector."""

    reason: Literal["pinned", "chosen"] = Field(
        description="Whether somebody pinned it, or the control plane chose it."
    )
    speaker: Speaking


class SessionCounts(View):
    """How many BGP sessions a network has, each counted once."""

    established: int = Field(examples=[747])
    planned: int = Field(description="As many as there are to be now; while it is switching, of both kinds.")
    in_full_mesh: int = Field(description="As many as there would be in full mesh.", examples=[31_125])
    with_reflectors: int = Field(description="As many as there would be with reflectors.", examples=[747])


class SpeakerCounts(View):
    """How many machines have a BGP speaker in which state."""

    running: int
    off: int = Field(description="There is none: BIRD is not installed, or BGP is turned off.")
    failed: int
    unknown: int = Field(description="Their agents have reported nothing of it.")


class NetworkBgp(View):
    """How the machines of a network speak BGP."""

    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    mesh_network_name: str = Field(examples=["office-mesh"])
    asn: int = Field(description="The network's private autonomous system number (RFC 6996).", examples=[4_200_000_001])
    route_reflector_mode: bool
    stage: PlanStage = Field(description="Where it is: in full `mesh`, with `reflectors`, or `switching` between them.")
    reflectors: tuple[Reflector, ...]
    sessions: SessionCounts
    speakers: SpeakerCounts
    recommendation: str | None


class Session(View):
    """A BGP session, as one of its ends last reported it."""

    machine: PathMachine
    peer: PathMachine
    purpose: SessionKind = Field(
        description="Of the full `mesh`; as a `client` of the reflector that the peer is; as a `reflector` with its "
        "client."
    )
    state: SessionStatus
    since: Moment
    imported: int = Field(description="How many prefixes the peer told.")
    exported: int = Field(description="How many it was told.")
    error: str = Field(description="Why it last went down; empty if it never did.")


class SessionPage(View):
    """Sessions, in the order of the machines' addresses."""

    items: tuple[Session, ...]
    next: str | None = Field(description="Give it as `after` to get the next page; null on the last.")


class VipStatus(View):
    """Whether a machine finds that it can answer for a virtual IP."""

    uuid: UUID
    name: str | None = Field(description="Null if it was deleted.")
    address: IPv4Address | None
    healthy: bool
    since: Moment
    reason: str = Field(description="Why not.")


class Speaker(View):
    """A machine's BGP speaker in one network."""

    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    mesh_network_name: str = Field(examples=["office-mesh"])
    asn: int
    state: Speaking
    reason: str = Field(description="Why it does not run, and what to do.")
    version: str = Field(examples=["2.0.12"])
    since: Moment | None
    is_reflector: bool
    announced: tuple[Cidr, ...] = Field(description="What the machine announces now.")
    vips: tuple[VipStatus, ...]
    sessions_established: int
    sessions_planned: int


class MachineBgp(View):
    """A machine's BGP speakers, one for each of its networks."""

    items: tuple[Speaker, ...]
    total: int


class RouteHop(View):
    """The machine that a route leads through."""

    uuid: UUID
    hostname: str


class RibEntry(View):
    """A route that a machine's speaker knows."""

    prefix: Cidr
    next_hop: IPv4Address | None = Field(description="Null where the machine itself announces it.")
    machine: RouteHop | None = Field(description="Whose address the next hop is.")
    best: bool = Field(description="Whether it is the one in use.")
    local_pref: int
    med: int | None
    as_path: tuple[int, ...]
    communities: tuple[str, ...] = Field(examples=[["65000:100"]])
    since: Moment
    age_seconds: int


class Rib(View):
    """The routes that a machine's speaker knows in a network, in the order of their prefixes."""

    items: tuple[RibEntry, ...]
    total: int = Field(description="How many there are, also those that the machine does not report.")
    next: str | None = Field(description="Give it as `after` to get the next page; null on the last.")


class SessionQuery(ViewQuery):
    """Which sessions."""

    machine: UUID | None = Field(None, description="Only this machine's, as it reports them; otherwise each once.")
    state: SessionStatus | None = None
    limit: Limit = 100
    after: After = None


class RibQuery(ViewQuery):
    """Which part of it."""

    limit: Limit = 100
    after: After = None
