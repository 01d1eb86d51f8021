"""The page of one machine: a tab for each side of it."""

from __future__ import annotations

from fastapi import APIRouter

from services.gateway.pages.page import PageRoute

router = APIRouter(prefix="/machines/{uuid}", route_class=PageRoute, include_in_schema=False)
