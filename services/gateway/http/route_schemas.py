"""The objects of the HTTP API that are about routes, virtual IPs, gateways and pinned route reflectors."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StrictBool, StringConstraints, model_validator

from events.fields import Cidr, Moment
from events.routing import MAX_MACHINES, MAX_PREFIXES, MAX_REFLECTORS, HealthCheckType, RoutePrefix, VipAddress
from services.gateway.http.schemas import After, Given, Limit, Page, Search, View, ViewQuery

NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"
MACHINE_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"

Sort = Literal["name", "-name", "created_at", "-created_at", "updated_at", "-updated_at"]

Prefixes = Annotated[
    list[RoutePrefix],
    Field(
        min_length=1,
        max_length=MAX_PREFIXES,
        description="Canonical IPv4 prefixes, /8 to /32, apart from all mesh networks; each in one route only.",
        examples=[["10.20.0.0/16"]],
    ),
]
Machines = Annotated[list[UUID], Field(max_length=MAX_MACHINES, examples=[[MACHINE_UUID]])]
MachinesInOrder = Annotated[
    list[UUID],
    Field(
        max_length=MAX_MACHINES,
        description="The machines that may answer for it: the first of them that is healthy does.",
        examples=[[MACHINE_UUID]],
    ),
]
CheckType = Annotated[
    HealthCheckType | Literal[""],
    Field(description="How a machine finds out whether it can answer; empty is none: it always can."),
]
CheckTarget = Annotated[
    str,
    StringConstraints(max_length=300, pattern=r"^[\x21-\x7e]*$"),
    Field(
        description="tcp: a port or address:port; http and https: a path, :port/path or a URL; grpc and grpcs: :port "
        "or address:port, with /service if one is meant; exec: the name of a program in the agent's folder of checks.",
        examples=["/healthz"],
    ),
]
Interval = Annotated[int, Field(strict=True, ge=1, le=3600, description="Between two checks.")]
Timeout = Annotated[
    int, Field(strict=True, ge=1, le=300, description="For one check; at most the interval, and shortened with it.")
]
Threshold = Annotated[int, Field(strict=True, ge=1, le=100, description="So many results in a row count.")]
Holdoff = Annotated[
    int, Field(strict=True, ge=0, le=3600, description="How long after it was given the VIP a machine begins to check.")
]


class Route(View):
    """Prefixes that lie behind machines, which announce them to the others."""

    uuid: UUID
    name: str = Field(examples=["office-lan"])
    enabled: bool = Field(description="Whether it is announced.")
    prefixes: tuple[Cidr, ...] = Field(examples=[["10.20.0.0/16"]])
    machine_uuids: tuple[UUID, ...] = Field(examples=[[MACHINE_UUID]])
    machine_count: int = Field(examples=[1])
    created_at: Moment
    updated_at: Moment


class RoutePage(Page):
    """Routes."""

    items: tuple[Route, ...]


class RouteCreate(Given):
    """A route to be."""

    name: str = Field(description="Letters, digits, '.', '_' and '-', up to 63; unique.", examples=["office-lan"])
    enabled: StrictBool = True
    prefixes: Prefixes
    machine_uuids: Machines = Field(default_factory=list)


class RouteChange(Given):
    """What to change about a route: at least one field. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: str = Field(default_factory=str, examples=["office-lan"])
    enabled: StrictBool = Field(default_factory=bool)
    prefixes: Prefixes = Field(default_factory=list)
    machine_uuids: Machines = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> RouteChange:
        if not self.model_fields_set:
            raise ValueError("give at least one of name, enabled, prefixes and machine_uuids")
        return self


class Vip(View):
    """A virtual IP: an address that one of several machines answers for."""

    uuid: UUID
    name: str = Field(examples=["web"])
    enabled: bool = Field(description="Whether it is announced.")
    address: IPv4Address = Field(examples=["203.0.113.10"])
    health_check_type: HealthCheckType
    health_check_target: str = Field(examples=["/healthz"])
    health_check_interval_seconds: int
    health_check_timeout_seconds: int
    health_check_healthy_threshold: int = Field(description="So many successes in a row make a machine healthy.")
    health_check_unhealthy_threshold: int = Field(description="So many failures in a row make it unhealthy.")
    health_check_holdoff_seconds: int
    machine_uuids: tuple[UUID, ...] = Field(description="In order of preference.", examples=[[MACHINE_UUID]])
    machine_count: int = Field(examples=[1])
    created_at: Moment
    updated_at: Moment


class VipPage(Page):
    """Virtual IPs."""

    items: tuple[Vip, ...]


class VipCreate(Given):
    """A virtual IP to be."""

    name: str = Field(description="Letters, digits, '.', '_' and '-', up to 63; unique.", examples=["web"])
    enabled: StrictBool = True
    address: VipAddress = Field(description="Apart from all mesh networks.", examples=["203.0.113.10"])
    health_check_type: CheckType = "none"
    health_check_target: CheckTarget = ""
    health_check_interval_seconds: Interval = 10
    health_check_timeout_seconds: Timeout = 5
    health_check_healthy_threshold: Threshold = 2
    health_check_unhealthy_threshold: Threshold = 3
    health_check_holdoff_seconds: Holdoff = 0
    machine_uuids: MachinesInOrder = Field(default_factory=list)


class VipChange(Given):
    """What to change about a virtual IP: at least one field. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: str = Field(default_factory=str, examples=["web"])
    enabled: StrictBool = Field(default_factory=bool)
    address: VipAddress = Field(default_factory=lambda: IPv4Address(0), examples=["203.0.113.10"])
    health_check_type: CheckType = Field(default_factory=lambda: "none")
    health_check_target: CheckTarget = Field(default_factory=str)
    health_check_interval_seconds: Interval = Field(default_factory=int)
    health_check_timeout_seconds: Timeout = Field(default_factory=int)
    health_check_healthy_threshold: Threshold = Field(default_factory=int)
    health_check_unhealthy_threshold: Threshold = Field(default_factory=int)
    health_check_holdoff_seconds: Holdoff = Field(default_factory=int)
    machine_uuids: MachinesInOrder = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> VipChange:
        if not self.model_fields_set:
            raise ValueError("give at least one of name, enabled, address, machine_uuids and the health check's fields")
        return self


class RoutingQuery(ViewQuery):
    """Which routes or virtual IPs, in which order."""

    name: str | None = Field(None, description="Exactly this name, whatever the case.")
    machine_uuid: UUID | None = Field(None, description="Only those of this machine.")
    search: Search = Field(None, description="In the name, prefixes, address or description, whatever the case.")
    sort: Sort = Field("name", description="A leading minus turns the order around.")
    limit: Limit = 100
    after: After = None


class CrossingGateway(View):
    """Between which networks a machine lets routes and traffic cross."""

    machine_uuid: UUID = Field(examples=[MACHINE_UUID])
    network_uuids: tuple[UUID, ...] = Field(description="None: it is no gateway.", examples=[[NETWORK_UUID]])


class CrossingGatewaySet(Given):
    """Between which networks a machine is to let routes and traffic cross."""

    network_uuids: Annotated[
        list[UUID],
        Field(
            max_length=16,
            description="Two at least that it is in, or none to have it be no gateway.",
            examples=[[NETWORK_UUID]],
        ),
    ]


class Reflectors(View):
    """The machines that are pinned as a network's route reflectors."""

    network_uuid: UUID = Field(examples=[NETWORK_UUID])
    machine_uuids: tuple[UUID, ...] = Field(
        description="Empty: they are chosen, for reachability and stability.", examples=[[MACHINE_UUID]]
    )


class ReflectorsSet(Given):
    """The machines to pin as a network's route reflectors."""

    machine_uuids: Annotated[
        list[UUID],
        Field(
            max_length=MAX_REFLECTORS,
            description="Two at least that are in the network, or none to have them chosen.",
            examples=[[MACHINE_UUID]],
        ),
    ]
