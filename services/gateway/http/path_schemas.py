"""The objects of the HTTP API that are about paths."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Literal
from uuid import UUID

from pydantic import Field

from events.fields import Moment
from services.gateway.http.schemas import After, Limit, Online, View, ViewQuery
from services.gateway.ways import Kind

_NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"
_MACHINE_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"


class PathMachine(View):
    """A machine on a path."""

    uuid: UUID = Field(examples=[_MACHINE_UUID])
    hostname: str = Field(examples=["db-1"])
    wg_ip_address: IPv4Address | None = Field(
        description="In this network; null if it has left it.", examples=["172.16.0.1"]
    )
    is_online: Online


class Path(View):
    """How one machine reaches another in a network."""

    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    mesh_network_name: str = Field(examples=["office-mesh"])
    machine: PathMachine
    peer: PathMachine
    kind: Kind = Field(
        description="`direct`; `transit`: encrypted from end to end through other machines; `none`: there is no way; "
        "`unknown`: neither machine has reported yet."
    )
    via: tuple[PathMachine, ...] = Field(description="The transit machines in use, the nearest first.")
    standby: tuple[PathMachine, ...] = Field(description="The transit machines that it changes to if those fail.")
    rtt_ms: int | None = Field(
        description="The round trip, in steps from 1 to 2,000 ms; through transit the sum of its links'.",
        examples=[20],
    )
    since: Moment | None = Field(
        description="Since when it is this way; through other machines, since these or who stands by were chosen. Null "
        "while that is unknown; through other machines, also with `at`: it is not recorded."
    )


class PathPage(View):
    """Paths, in the order of the machines' addresses."""

    items: tuple[Path, ...]
    next: str | None = Field(description="Give it as `after` to get the next page; null on the last.")


class Tried(View):
    """An address at which a machine tried to reach another."""

    endpoint: str = Field(examples=["192.0.2.10:51820"])
    result: str = Field(description="What came of it.", examples=["no answer"])


class LinkReport(View):
    """What a machine last reported of its direct path to the other."""

    machine_uuid: UUID = Field(description="Who reports.", examples=[_MACHINE_UUID])
    peer_uuid: UUID = Field(examples=[_MACHINE_UUID])
    state: Literal["direct", "unreachable"]
    since: Moment = Field(description="Since when it reports this state.")
    rtt_ms: int | None = Field(examples=[20])
    endpoint: str | None = Field(description="Where it reaches the other.", examples=["192.0.2.10:51820"])
    tried: tuple[Tried, ...] = Field(description="Where it tried to, if it is unreachable.")
    time: Moment
    sequence: int = Field(description="The report's place among all reports.", examples=[42])


class PathEvent(View):
    """Something that led to a path."""

    time: Moment | None = Field(description="Null of a choice with `at`: when it was made is not recorded.")
    kind: Literal["report", "choice"] = Field(description="A machine's report, or the control plane's choice of a way.")
    sequence: int | None = Field(
        description="Of a report, its place among all reports; of a choice, the last that it heeds. Null where `time` "
        "is.",
        examples=[42],
    )
    machine_uuid: UUID | None = Field(description="Who reports; null for a choice.")
    text: str = Field(description="In words.", examples=["db-1 reported that it reaches web-1 directly, in 20 ms"])


class PathExplanation(Path):
    """How one machine reaches another, and why so."""

    reports: tuple[LinkReport, ...] = Field(
        description="What each of the two last reported of the direct path: the machine first. One that has not "
        "reported is missing."
    )
    events: tuple[PathEvent, ...] = Field(
        description="What led to it, oldest first: when each end began to report what it reports, what it reported "
        "before, its newest report, and the choice of a way. With `at` only the newest reports and the choice."
    )


class PeerQuery(ViewQuery):
    """Which peers."""

    mesh_network_uuid: UUID | None = Field(None, description="Only in this network.")
    kind: Kind | None = Field(None, description="Only those that are reached like this.")
    limit: Limit = 100
    after: After = None


class PathQuery(ViewQuery):
    """Which paths."""

    machine: UUID | None = Field(None, description="Only from this machine.")
    kind: Kind | None = Field(None, description="Only paths like this.")
    limit: Limit = 100
    after: After = None
