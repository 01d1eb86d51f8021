"""The pages of machines: the list."""

from __future__ import annotations

from fastapi import APIRouter

from services.gateway.pages.page import PageRoute

router = APIRouter(prefix="/machines", route_class=PageRoute, include_in_schema=False)
