"""All pages of the dashboard."""

from __future__ import annotations

from services.gateway.pages import (
    assets,
    changes,
    enrolling,
    events,
    live,
    machine,
    machine_changes,
    machine_paths,
    machine_routes,
    machine_routing,
    machine_vips,
    machines,
    members,
    network,
    network_bgp,
    networks,
    paths,
    signing,
    undoing,
    why,
)

ROUTERS = (
    signing.router,
    networks.router,
    network.router,
    members.router,
    network_bgp.router,
    paths.router,
    changes.router,
    why.router,
    machines.router,
    enrolling.router,
    machine.router,
    machine_changes.router,
    machine_paths.router,
    machine_routing.router,
    machine_routes.router,
    machine_vips.router,
    events.router,
    undoing.router,
    live.router,
    assets.router,
)
