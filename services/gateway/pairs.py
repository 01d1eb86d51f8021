"""Which pairs of machines a query about paths means, in which order, page by page. Pure.

A network of many machines has very many pairs, so no list of them is made: a page is looked for from where the last one
ended, and only among so many pairs.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import orjson

from events.errors import InvalidInputError, NotFoundError
from services.gateway.mirror import Mirror
from services.gateway.ordered import Row
from services.gateway.ways import Kind, Way

LOOKED_AT = 5_000
"""Among so many pairs a page is looked for."""

_FIRST = (-1, UUID(int=0))


class Pair(NamedTuple):
    """Two members of a network, with their addresses: the place in the order, too."""

    network_id: UUID
    one: Row
    other: Row


@dataclass(frozen=True, slots=True)
class Page:
    """One page, and the cursor of the next; None after the last."""

    ways: tuple[Way, ...]
    next: str | None


def pairs_of(mirror: Mirror, network_ids: Iterable[UUID], machine_id: UUID | None, after: str | None) -> Iterator[Pair]:
    """The pairs of members of these networks, by network and addresses: of a machine with every other, or every pair
    once, the lower address first; those after the cursor `after`.

    Raises `InvalidInputError` for a cursor that no such list made, and `NotFoundError` where the machine is not in one
    of the networks.
    """
    begin = _read(after) if after is not None else Pair(UUID(int=0), _FIRST, _FIRST)
    for network_id in sorted(network_ids):
        if network_id >= begin.network_id:
            start = begin if network_id == begin.network_id else Pair(network_id, _FIRST, _FIRST)
            yield from _of_network(mirror, machine_id, start)


def require_pair(mirror: Mirror, network_id: UUID, machine_id: UUID, peer_id: UUID) -> None:
    """Raises `NotFoundError` unless both are in the network, and `InvalidInputError` for a machine and itself."""
    network, record = mirror.network(network_id)
    for item in (machine_id, peer_id):
        if item not in network.members:
            raise NotFoundError(f"The machine {item} is not in {record.name}.", hint="Assign it first.")
    if machine_id == peer_id:
        raise InvalidInputError("A machine has no path to itself.", hint="Name two machines.", field="peer_uuid")


def page(pairs: Iterator[Pair], way_of: Callable[[UUID, UUID, UUID], Way], kind: Kind | None, limit: int) -> Page:
    """The ways of the first `limit` of these pairs that have one of this kind."""
    ways: list[Way] = []
    for number, pair in enumerate(pairs, 1):
        way = way_of(pair.network_id, pair.one[1], pair.other[1])
        if kind in (None, way.kind):
            ways.append(way)
        if len(ways) == limit or number == LOOKED_AT:
            is_last = next(pairs, None) is None
            return Page(tuple(ways), None if is_last else _write(pair))
    return Page(tuple(ways), None)


def _of_network(mirror: Mirror, machine_id: UUID | None, begin: Pair) -> Iterator[Pair]:
    network, record = mirror.network(begin.network_id)
    rows = network.by_address.rows
    if machine_id is None:
        for index in range(bisect_left(rows, begin.one), len(rows)):
            first = index + 1 if rows[index] != begin.one else max(index + 1, bisect_right(rows, begin.other))
            for other in islice(rows, first, None):
                yield Pair(begin.network_id, rows[index], other)
        return
    member = network.members.get(machine_id)
    if member is None:
        raise NotFoundError(f"The machine {machine_id} is not in {record.name}.", hint="Assign it first.")
    one = int(member.address), machine_id
    for other in islice(rows, bisect_right(rows, begin.other), None):
        if other != one:
            yield Pair(begin.network_id, one, other)


def _write(pair: Pair) -> str:
    place = [pair.network_id, *pair.one, *pair.other]
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _read(cursor: str) -> Pair:
    try:
        place = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        network, one, first, other, second = place
        if type(one) is not int or type(other) is not int:
            raise TypeError
        return Pair(UUID(network), (one, UUID(first)), (other, UUID(second)))
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            "The cursor in `after` does not belong to this list.",
            hint="Give `next` of the page before; leave it out for the first page.",
            field="after",
        ) from error
