"""The map of one mesh network, and why a path is as it is."""

from __future__ import annotations

from fastapi import APIRouter

from services.gateway.pages.page import PageRoute

router = APIRouter(prefix="/networks/{uuid}", route_class=PageRoute, include_in_schema=False)
