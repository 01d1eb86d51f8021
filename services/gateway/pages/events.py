"""The page of the log."""

from __future__ import annotations

from fastapi import APIRouter

from services.gateway.pages.page import PageRoute

router = APIRouter(prefix="/events", route_class=PageRoute, include_in_schema=False)
