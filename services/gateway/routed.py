"""Which routes, virtual IPs and route policies a query means, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar
from uuid import UUID

from events.errors import NotFoundError
from events.records import PolicyRecord, RouteRecord, VipRecord
from services.gateway.mirror import sortable
from services.gateway.ordered import Key, Row

Item = TypeVar("Item", RouteRecord, VipRecord, PolicyRecord)

_KEYS: dict[str, Callable[[RouteRecord | VipRecord | PolicyRecord], Key]] = {
    "name": lambda item: item.name.lower(),
    "created_at": lambda item: sortable(item.created_at),
    "updated_at": lambda item: sortable(item.updated_at),
}
"""What they can be sorted by."""


def find_item(items: Mapping[UUID, Item], item_id: UUID, what: str) -> Item:
    """The item with this id. Raises `NotFoundError`."""
    item = items.get(item_id)
    if item is None:
        raise NotFoundError(f"There is no {what} {item_id}.", hint="List those there are.", field="uuid")
    return item


def find_items(
    items: Mapping[UUID, Item],
    sort: str,
    *,
    name: str | None = None,
    search: str | None = None,
    machine_id: UUID | None = None,
    network_id: UUID | None = None,
) -> list[Row]:
    """The items with this name, for this machine and network, and with `search` in their name, prefixes, address or
    description; sorted."""
    key = _KEYS[sort.removeprefix("-")]
    return sorted(
        (key(item), item_id)
        for item_id, item in items.items()
        if (name is None or item.name.lower() == name.lower())
        and (search is None or search.lower() in _text(item).lower())
        and (machine_id is None or machine_id in item.machine_ids)
        and (network_id is None or (isinstance(item, PolicyRecord) and network_id in item.network_ids))
    )


def _text(item: RouteRecord | VipRecord | PolicyRecord) -> str:
    if isinstance(item, RouteRecord):
        return " ".join((item.name, *map(str, item.prefixes)))
    return f"{item.name} {item.address if isinstance(item, VipRecord) else item.description}"
