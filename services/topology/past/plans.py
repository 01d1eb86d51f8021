"""The BGP plan that a network had, or would have. Pure, but for `plan_at`.

Every plan is written to PLANS when it is made. A plan that would be is the one at which the network would come to rest:
on the way there the sessions of both kinds stand side by side for a while. What machines report stays as it is, so a
machine that would join, of whose speaker nobody has heard, is chosen by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from nats.aio.client import Client

from events.client import Entry
from events.direct import direct_get
from events.peering import BgpPlan
from events.records import BgpPlanRecord, Record
from events.state import decode_record
from events.subjects import BGP_STREAM, PLANS_STREAM, REACH_STREAM, STATE_PREFIX, STATE_STREAM, plan_history
from services.topology.bgp_core import settled
from services.topology.bgp_view import Arrived, View
from services.topology.past.moment import Moment

_MOST = 1000
"""So many plans of a network are kept."""


async def plan_at(client: Client, network_id: UUID, made: datetime, time: datetime) -> Record | None:
    """The plan that a network had at a time, which was `made` once: another may have had its id before. None where it
    had none, or it is not kept any more. Raises `UnavailableError`."""
    request = {"seq": 1, "next_by_subj": plan_history(network_id), "batch": _MOST}
    found = None
    for entry in sorted((await direct_get(client, PLANS_STREAM, request)).entries):
        record = decode_record(entry.data)
        if made <= record.time <= time:
            found = record
    return found


class Looking(NamedTuple):
    """What is known of a network when one looks: the newest reports of links and of BGP, and the time."""

    links: Sequence[Entry]
    sessions: Sequence[Entry]
    time: datetime


def plan_supposed(network_id: UUID, now: Moment, then: Moment, looking: Looking, held: Record | None) -> Record | None:
    """The plan that a network would have at a moment `then` that is supposed, which has the one that is `held` now: the
    same, if the network would come to rest at the same plan."""
    body = held.body if held is not None and isinstance(held.body, BgpPlanRecord) else None
    plan = BgpPlan.of(body)
    before, after = (_settled(network_id, moment, looking, plan) for moment in (now, then))
    if before == after:
        return held
    revision = held.revision if held is not None else 0
    return Record(
        revision=revision + 1,
        previous=revision,
        cause=then.position,
        time=looking.time,
        body=after.record(network_id),
    )


def _settled(network_id: UUID, moment: Moment, looking: Looking, plan: BgpPlan) -> BgpPlan:
    view, stem = View(), f"{STATE_PREFIX}.network.{network_id}."
    for stream, entries in ((REACH_STREAM, looking.links), (BGP_STREAM, looking.sessions)):
        view.take(Arrived(stream, 0, [(entry.subject, entry.data) for entry in entries]))
    records = [entry for entry in moment.shelf.contents().items() if entry[0].startswith(stem)]
    view.take(Arrived(STATE_STREAM, 0, records))
    seen = view.networks.get(network_id)
    if seen is None or not seen.is_there:
        return BgpPlan()
    return settled(plan, seen.settings, seen.sight, looking.time)
