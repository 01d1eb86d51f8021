"""The objects of the HTTP API that are about route policies."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field, StrictBool, ValidationError, model_validator

from events.fields import Moment
from events.routing import (
    MAX_MACHINES,
    MAX_PREFIXES,
    MAX_RULES,
    AsPathPattern,
    Community,
    Description,
    Direction,
    MatchType,
    PolicyAction,
    PolicyRule,
    Prefix,
)
from services.gateway.http.route_schemas import MACHINE_UUID, NETWORK_UUID, RoutingQuery
from services.gateway.http.schemas import Given, Page, View

Preference = Annotated[int, Field(strict=True, ge=0, le=0xFFFF_FFFF)]
PrefixLength = Annotated[int, Field(strict=True, ge=0, le=32)]
Communities = Annotated[list[Community], Field(max_length=50, examples=[["65000:100"]])]
Networks = Annotated[
    list[UUID],
    Field(
        max_length=MAX_MACHINES,
        description="It is for every machine of these; a network has one for each direction at most.",
        examples=[[NETWORK_UUID]],
    ),
]
Machines = Annotated[
    list[UUID],
    Field(
        max_length=MAX_MACHINES,
        description="It is for these machines, in place of their networks'; a machine has one for each direction at "
        "most.",
        examples=[[MACHINE_UUID]],
    ),
]


class RuleGiven(Given):
    """One rule: which routes it is for, and what becomes of them. The first enabled one that matches decides."""

    sequence: Annotated[int, Field(strict=True, ge=1, le=65_535, description="Its place.", examples=[10])]
    enabled: StrictBool = True
    description: Description = ""
    action: PolicyAction = "accept"
    match_type: MatchType = "any"
    match_prefixes: Annotated[list[Prefix], Field(max_length=MAX_PREFIXES, examples=[["10.0.0.0/8"]])] = Field(
        default_factory=list, description="With prefix_list: the route lies inside one of these."
    )
    match_prefix_len_min: PrefixLength | None = None
    match_prefix_len_max: PrefixLength | None = Field(
        None, description="Without the two, a route matches a prefix only if it is the same."
    )
    match_communities: Communities = Field(
        default_factory=list, description="With community: the route carries one of these."
    )
    match_as_path: AsPathPattern = Field(
        "", description="With as_path: numbers, ? for any one and * for any number of them.", examples=["* 4200000001"]
    )
    set_local_pref: Preference | None = None
    set_med: Preference | None = None
    set_communities: Communities | None = Field(None, description="In place of those that the route carries.")
    add_communities: Communities = Field(default_factory=list)
    remove_communities: Communities = Field(default_factory=list)
    prepend_as_count: Annotated[int, Field(strict=True, ge=0, le=10)] = Field(
        0, description="How often the network's own AS number is put before the AS path."
    )

    @model_validator(mode="after")
    def _fits(self) -> RuleGiven:
        self.rule()
        return self

    def rule(self) -> PolicyRule:
        """The rule. Raises ValueError that says what does not fit together."""
        try:
            return PolicyRule.model_validate(self.model_dump())
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


class RoutePolicy(View):
    """Ordered rules for what machines take in from the others, or tell them."""

    uuid: UUID
    name: str = Field(examples=["edge"])
    description: str
    direction: Direction
    default_action: PolicyAction = Field(description="What becomes of a route that no rule is for.")
    local_pref: int | None = Field(description="LOCAL_PREF of all routes that it lets pass, before any rule.")
    rules: tuple[PolicyRule, ...]
    network_uuids: tuple[UUID, ...]
    machine_uuids: tuple[UUID, ...]
    created_at: Moment
    updated_at: Moment


class RoutePolicyPage(Page):
    """Route policies."""

    items: tuple[RoutePolicy, ...]


class RoutePolicyCreate(Given):
    """A route policy to be."""

    name: str = Field(description="Letters, digits, '.', '_' and '-', up to 63; unique.", examples=["edge"])
    description: Description = ""
    direction: Direction
    default_action: PolicyAction = "accept"
    local_pref: Preference | None = None
    rules: Annotated[list[RuleGiven], Field(max_length=MAX_RULES)] = Field(
        default_factory=list, description="Each with a sequence number of its own."
    )
    network_uuids: Networks = Field(default_factory=list)
    machine_uuids: Machines = Field(default_factory=list)


class RoutePolicyChange(Given):
    """What to change about a route policy: at least one field. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: str = Field(default_factory=str, examples=["edge"])
    description: Description = Field(default_factory=str)
    direction: Direction = Field(default_factory=lambda: "import")
    default_action: PolicyAction = Field(default_factory=lambda: "accept")
    local_pref: Preference | None = Field(default_factory=lambda: None)
    rules: Annotated[list[RuleGiven], Field(max_length=MAX_RULES)] = Field(
        default_factory=list, description="All of them: these take the place of those that there are."
    )
    network_uuids: Networks = Field(default_factory=list)
    machine_uuids: Machines = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> RoutePolicyChange:
        if not self.model_fields_set:
            raise ValueError("give at least one field")
        return self


class RoutePolicyQuery(RoutingQuery):
    """Which route policies, in which order."""

    network_uuid: UUID | None = Field(None, description="Only those for this network.")
