"""The dialog that lets a machine in: a token, the line to paste, and the machine as it arrives."""

from __future__ import annotations

from fastapi import APIRouter

from services.gateway.pages.page import PageRoute

router = APIRouter(prefix="/machines/add", route_class=PageRoute, include_in_schema=False)
