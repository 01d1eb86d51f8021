"""The names of the WireGuard interfaces that agents make. Pure."""

from __future__ import annotations

from uuid import UUID

INTERFACE_PREFIX = "wl-"
"""Every interface that an agent makes begins so; others are never touched."""


def interface_name(network_id: UUID) -> str:
    """The name of a network's interface, 11 characters (Linux allows 15)."""
    return INTERFACE_PREFIX + network_id.hex[:8]
