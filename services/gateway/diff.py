"""What changed between two moments, or what would. Pure, but for `effects`, which looks into the networks itself.

What was decided is compared whole. Paths and sessions are compared only where a report, a record of a path or a plan
differs, and for machines that came or went: never all pairs where nothing differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from uuid import UUID

from services.gateway.differences import Change, Difference, Gathering
from services.gateway.seen import Seen

MOST = 1_000
"""So many changes are kept unless more are wanted; all are counted."""


def difference(
    before: Seen, after: Seen, network_id: UUID | None = None, *, whole: bool = False, most: int = MOST
) -> Difference:
    """What is otherwise at `after` than at `before`: in all networks, or only what concerns one.

    Both moments must have looked into the networks that are meant. `whole` tells one by one what is otherwise told
    together: the paths and sessions that come, go or change alike in more than a few places.
    """
    meant = None if network_id is None else {network_id}
    return Difference.of((change for change in _steps(before, after, meant, whole) if change is not None), most)


async def effects(
    before: Seen, after: Seen, network_ids: Iterable[UUID] | None = None, *, whole: bool = False, most: int = MOST
) -> Difference:
    """As `difference`, in these networks (None for all); looks into them on both sides, and lets others run meanwhile.

    So one tells what events would do that are decided and not written::

        now, then = await gateway.pasts.supposing(events)
        told = await effects(now, then, {network for event in events for network in networks_of(event)})

    Machines, routes, virtual IPs and route policies are told only where they have to do with one of the networks; for
    what a machine or a route is that is in none, give None. Raises `UnavailableError`.
    """
    meant = None if network_ids is None else set(network_ids)
    for side in (before, after):
        await side.look_into(side.mirror.networks.keys() if meant is None else meant)
    gathering = Gathering(most)
    for change in _steps(before, after, meant, whole):
        if change is None:
            await asyncio.sleep(0)
        else:
            gathering.take(change)
    return gathering.difference()


def _steps(before: Seen, after: Seen, meant: set[UUID] | None, whole: bool) -> Iterator[Change | None]:
    """The changes in their order; None now and then, when others may run."""
    yield from ()
