"""What all tests share: a real message bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.cli.embedded import EmbeddedServer


@pytest.fixture
async def bus_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A fresh nats-server on a free port, as `wireloom up` runs it. Tests may kill it and start it again."""
    server = EmbeddedServer(tmp_path / "bus", port=0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def bus_url(bus_server: EmbeddedServer) -> str:
    """The URL of a fresh nats-server."""
    return bus_server.url
