"""All pages of the dashboard."""

from __future__ import annotations

from services.gateway.pages import assets, events, live, machines, networks, signing

ROUTERS = (signing.router, networks.router, machines.router, events.router, live.router, assets.router)
