"""What machines reported of their links, and which ways were chosen, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from services.gateway.reach import Reported

NameOf = Callable[[UUID], str]


def reported(said: Reported, name_of: NameOf) -> str:
    """A report of a link."""
    link = said.event.link
    who, whom = name_of(said.event.machine_id), name_of(link.peer_id)
    if link.state == "unreachable":
        tried = f": {_tried(len(link.tried))}" if link.tried else ""
        return f"{who} reported that it does not reach {whom} directly{tried}"
    where = f" at {link.endpoint}" if link.endpoint else ""
    how_long = f", in {link.rtt} ms" if link.rtt is not None else ""
    return f"{who} reported that it reaches {whom} directly{where}{how_long}"


def chosen(ways: tuple[tuple[UUID, ...], ...], name_of: NameOf) -> str:
    """The choice of ways."""
    if not ways:
        return "found no way through another machine"
    first, *others = (" and ".join(name_of(item) for item in way) for way in ways)
    standing_by = f"; through {' or '.join(others)} if that fails" if others else ""
    return f"chose the way through {first}{standing_by}"


def _tried(count: int) -> str:
    return "it tried 1 address" if count == 1 else f"it tried {count} addresses"
