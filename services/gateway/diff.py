"""What changed between two moments, or what would. Pure, but for `effects`, which looks into the networks itself.

What was decided is compared whole. Paths and sessions are compared only where a report, a record of a path or a plan
differs, and for machines that came or went: never all pairs where nothing differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from services.gateway.diff_decided import address_changes, machine_changes, network_changes, peer_changes
from services.gateway.diff_paths import path_changes
from services.gateway.diff_routing import routing_changes
from services.gateway.diff_sessions import session_changes
from services.gateway.diff_sides import Sides, Step
from services.gateway.differences import Difference, Gathering
from services.gateway.seen import Seen

MOST = 1_000
"""So many changes are kept unless more are wanted; all are counted."""


def difference(
    before: Seen, after: Seen, network_id: UUID | None = None, *, whole: bool = False, most: int = MOST
) -> Difference:
    """What is otherwise at `after` than at `before`: everywhere, or only what has to do with one network.

    Both moments must have looked into the networks that are meant. `whole` tells one by one what is otherwise told
    together: the paths and sessions that come, go or change alike in more than a few places (but not in very many).
    """
    sides = Sides(before, after, network_id, whole)
    return Difference.of((change for change in _steps(sides, sides.network_ids) if change is not None), most)


async def effects(
    before: Seen,
    after: Seen,
    network_ids: Collection[UUID],
    *,
    only: UUID | None = None,
    whole: bool = False,
    most: int = MOST,
) -> Difference:
    """What is otherwise at `after` than at `before`: all that was decided, and the paths and sessions of these
    networks, which it looks into itself. Others run meanwhile.

    So one tells what events would do that are decided and not written::

        now, then = await gateway.pasts.supposing(events)
        told = await effects(now, then, {each for event in events for each in networks_of(event)})

    (`networks_of` is that of `services.gateway.words`; for an event that names a machine alone, such as its transit
    mode, add the networks that the machine is in: `now.mirror.networks_of(machine_id)`.)

    With `only`, what has nothing to do with that network is left out. Raises `UnavailableError`.
    """
    for side in (before, after):
        await side.look_into(network_ids)
    sides, gathering = Sides(before, after, only, whole), Gathering(most)
    for change in _steps(sides, [each for each in sides.network_ids if each in network_ids]):
        if change is None:
            await asyncio.sleep(0)
        else:
            gathering.take(change)
    return gathering.difference()


def _steps(sides: Sides, looked_into: Sequence[UUID]) -> Iterator[Step]:
    """The changes in their order; None now and then, when others may run."""
    for decided in (network_changes, machine_changes, address_changes, peer_changes):
        yield from decided(sides)
        yield None
    for found in (path_changes, session_changes):
        for network_id in looked_into:
            yield from found(sides, network_id)
            yield None
    yield from routing_changes(sides)
