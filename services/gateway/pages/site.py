"""All pages of the dashboard."""

from __future__ import annotations

from services.gateway.pages import (
    assets,
    enrolling,
    events,
    live,
    machine,
    machines,
    network,
    networks,
    paths,
    signing,
)

ROUTERS = (
    signing.router,
    networks.router,
    network.router,
    paths.router,
    machines.router,
    enrolling.router,
    machine.router,
    events.router,
    live.router,
    assets.router,
)
