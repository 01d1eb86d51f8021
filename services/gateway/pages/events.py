"""The page of the log, and what other pages show of it."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from services.gateway import history
from services.gateway.http.changes import Gateway
from services.gateway.pages.lines import Line, lines_of
from services.gateway.pages.page import PageRoute
from services.gateway.wanted import Wanted

router = APIRouter(prefix="/events", route_class=PageRoute, include_in_schema=False)


async def newest(
    gateway: Gateway, limit: int, *, network: UUID | None = None, machine: UUID | None = None
) -> list[Line]:
    """The newest events about a network or machine, as lines for the macro `events` of `events_part.html`. A page that
    shows them has `events` among its topics. Raises `UnavailableError`."""
    stretch = await history.newest_first(gateway.client, None, limit, Wanted(network, machine))
    return lines_of(stretch.events, gateway.mirror)
