"""The objects of the HTTP API that are about what changed between two moments."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from events.fields import Moment
from services.gateway.differences import ChangeKind, What
from services.gateway.http.schemas import Given, View

_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"

_Said = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class DiffNamed(View):
    """A network, machine, route or the like."""

    uuid: UUID = Field(examples=[_UUID])
    name: str = Field(
        description="What it is called at the later of the two moments, or if it is gone then, was called before.",
        examples=["db-1"],
    )


class DiffChange(View):
    """One thing that is otherwise at `to` than at `from`."""

    what: What = Field(description="What it is about.")
    kind: ChangeKind
    text: str = Field(description="In words.", examples=["db-1 has 172.16.0.9 in office-mesh, before 172.16.0.4"])
    mesh_network: DiffNamed | None = Field(description="In which network; null where it is in none.")
    machines: tuple[DiffNamed, ...] = Field(
        description="Whom it is about. Where it stands for several, those that have a part in each of them."
    )
    item: DiffNamed | None = Field(description="The route, virtual IP or route policy.")
    field: str | None = Field(description="What of it is otherwise; null unless it was changed.", examples=["address"])
    before: str | None = Field(description="What was at `from`, for people.", examples=["172.16.0.4"])
    after: str | None = Field(description="What is at `to`, for people.", examples=["172.16.0.9"])
    count: int = Field(description="For how many changes it stands: `whole` tells them one by one.", examples=[1])
    is_lesser: bool = Field(description="That only a round trip takes another step.")


class DiffTally(View):
    """How many changes there are about one kind of thing; what stands for several counts as so many."""

    what: What
    added: int
    removed: int
    changed: int


class Changes(View):
    """All that is otherwise at one moment than at another."""

    items: tuple[DiffChange, ...] = Field(description="The first changes, up to `limit`.")
    total: int = Field(description="How many there are.")
    tallies: tuple[DiffTally, ...] = Field(description="Of what there are changes, and how many, all counted.")


class DiffSide(View):
    """One of the two moments."""

    position: int = Field(description="The log's position then.", examples=[1204])
    time: Moment | None = Field(description="Null at the log's beginning.")
    reports_since: Moment | None = Field(
        description="Since when it is known what machines reported, where that is later: then paths and BGP sessions "
        "may show as changed that were so before. Else null."
    )


class Diff(Changes):
    """What changed between two moments."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: DiffSide = Field(serialization_alias="from")
    to: DiffSide
    left_out: tuple[DiffNamed, ...] = Field(
        description="The networks whose paths and BGP sessions were not compared, because there are very many: "
        "name one with `network`."
    )


class DiffQuery(Given):
    """Which two moments: each a position of the log, a time (UTC where it says no zone), or so long ago."""

    from_: _Said = Field(alias="from", examples=["1204", "2026-05-03T14:02", "2 hours ago"])
    to: _Said = Field("now", description="May be before `from`.", examples=["now", "1310"])
    network: _Said | None = Field(
        None,
        description="Only what has to do with this network: its uuid, or what it is called at one of the moments. It "
        "need be there at one of them only.",
        examples=["office-mesh"],
    )
    whole: bool = Field(
        False,
        description="Tell one by one what is told together otherwise: the paths and BGP sessions that come, go or "
        "change alike in more than a few places (but not in more than 10,000), and what comes or goes with a large "
        "network.",
    )
    limit: int = Field(1000, ge=1, le=10_000, description="How many changes are listed at most; all are counted.")
