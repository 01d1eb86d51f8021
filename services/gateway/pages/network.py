"""The page of one mesh network: its settings, its members, what happens in it."""

from __future__ import annotations

from fastapi import APIRouter

from services.gateway.pages.page import PageRoute

router = APIRouter(prefix="/networks/{uuid}", route_class=PageRoute, include_in_schema=False)
