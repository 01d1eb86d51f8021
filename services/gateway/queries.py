"""Which networks and machines a query means, in which order, page by page. Pure."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from events.errors import InvalidInputError
from events.records import NetworkRecord
from services.gateway.mirror import Mirror, Network, sortable
from services.gateway.ordered import Key, Row


@dataclass(frozen=True)
class Slice:
    """One page of a list: its ids, the cursor of the next page (None after the last), and the whole list's length."""

    ids: list[UUID]
    next: str | None
    total: int


NETWORK_KEYS: dict[str, Callable[[Network, NetworkRecord], Key]] = {
    "name": lambda network, record: record.name.lower(),
    "network_cidr": lambda network, record: int(record.network_cidr.network_address),
    "machine_count": lambda network, record: len(network.members),
    "created_at": lambda network, record: sortable(record.created_at),
    "updated_at": lambda network, record: sortable(network.updated_at),
}
"""What networks can be sorted by."""


def find_networks(
    mirror: Mirror, sort: str, *, name: str | None = None, is_default: bool | None = None, search: str | None = None
) -> list[Row]:
    """The networks with this name, this place as default, and `search` in their name or CIDR; sorted."""
    key = NETWORK_KEYS[sort.removeprefix("-")]
    chosen = mirror.networks if name is None else [mirror.network_ids[name]] if name in mirror.network_ids else []
    rows: list[Row] = []
    for network_id in chosen:
        network = mirror.networks[network_id]
        record = network.record
        if record is None or (is_default is not None and record.is_default != is_default):
            continue
        if search is None or search.lower() in f"{record.name} {record.network_cidr}".lower():
            rows.append((key(network, record), network_id))
    return sorted(rows)


def networks_by_name(mirror: Mirror) -> list[NetworkRecord]:
    """All networks, for people to choose from."""
    records = (mirror.networks[network_id].record for _, network_id in find_networks(mirror, "name"))
    return [record for record in records if record is not None]


def find_machines(
    mirror: Mirror,
    sort: str,
    *,
    hostname: str | None = None,
    network_id: UUID | None = None,
    search: str | None = None,
    keep: Callable[[UUID], bool] | None = None,
) -> Sequence[Row]:
    """The machines with this hostname, in this network, with `search` in their hostname or one of their mesh addresses,
    and of which `keep` is true; sorted. Raises `NotFoundError` for an unknown network."""
    rows: Sequence[Row] = (mirror.by_hostname if sort.endswith("hostname") else mirror.by_created_at).rows
    if hostname is not None:
        named = set(mirror.by_hostname.with_key(hostname.lower()))
        rows = [row for row in rows if row[1] in named]
    if network_id is not None:
        members = mirror.network(network_id)[0].members
        rows = [row for row in rows if row[1] in members]
    if search is not None:
        found = _machines_with(mirror, search.lower())
        rows = [row for row in rows if row[1] in found]
    if keep is not None:
        rows = [row for row in rows if keep(row[1])]
    return rows


def find_members(mirror: Mirror, network_id: UUID) -> Sequence[Row]:
    """The machines of a network, in the order of their addresses. Raises `NotFoundError`."""
    return mirror.network(network_id)[0].by_address.rows


def take(rows: Sequence[Row], sort: str, limit: int, after: str | None) -> Slice:
    """The page of `limit` rows that begins after the cursor `after`.

    `rows` ascend; a `sort` with a leading minus takes them from the end. Raises `InvalidInputError` for a cursor that
    was not made by this list.
    """
    place = None if after is None else _read_cursor(after, sort)
    if sort.startswith("-"):
        end = len(rows) if place is None else bisect_left(rows, place)
        page = [rows[index] for index in range(end - 1, max(end - 1 - limit, -1), -1)]
        more = end > limit
    else:
        start = 0 if place is None else bisect_right(rows, place)
        page = list(rows[start : start + limit])
        more = start + limit < len(rows)
    return Slice([row[1] for row in page], _write_cursor(page[-1], sort) if more else None, len(rows))


def _machines_with(mirror: Mirror, search: str) -> set[UUID]:
    """The machines with `search` in their hostname or one of their mesh addresses."""
    found = {machine_id for hostname, machine_id in mirror.by_hostname.rows if search in str(hostname)}
    if not search.strip("0123456789."):
        for network in mirror.networks.values():
            found.update(machine_id for machine_id, record in network.members.items() if search in str(record.address))
    return found


def _write_cursor(row: Row, sort: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([sort, row[0], row[1]])).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str) -> Row:
    try:
        sorted_by, key, item = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        row: Row = (key, UUID(item))
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise _bad_cursor() from error
    number = sort.removeprefix("-") in ("network_cidr", "machine_count", "address")
    if sorted_by != sort or type(key) is not (int if number else str):
        raise _bad_cursor()
    return row


def _bad_cursor() -> InvalidInputError:
    return InvalidInputError(
        "The cursor in `after` does not belong to this list.",
        hint="Give `next` of the page before, with the same `sort`; leave it out for the first page.",
        field="after",
    )
