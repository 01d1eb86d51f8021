"""The mesh as a route shows it: as it is, or with `?at=` as it was."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from events.instants import parse_instant
from services.gateway.http.as_of import AT
from services.gateway.http.changes import Served
from services.gateway.http.parameters import require_only
from services.gateway.http.schemas import At
from services.gateway.seen import Seen


async def seen_at(request: Request, gateway: Served, at: Annotated[At, Query()] = None) -> Seen:
    """The mesh as it is, or as it was at the moment that the request names.

    Raises `InvalidInputError`, `NotFoundError` for a position that the log has not come to, and `UnavailableError`.
    """
    if at is None:
        return gateway
    past = await gateway.pasts.at(parse_instant(at, gateway.now()))
    request.state.past = past
    return past


def only_at(request: Request) -> None:
    """For routes without parameters but `at`. Raises `InvalidInputError` where another is given."""
    require_only(request, (AT,))


PLAIN_AT = Depends(only_at)
Viewed = Annotated[Seen, Depends(seen_at)]
