"""Real message buses for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.cli.embedded import EmbeddedServer


@contextmanager
def running_bus(data_dir: Path) -> Iterator[EmbeddedServer]:
    """A server on a free port and its own directory, for as long as the block lasts."""
    server = EmbeddedServer(data_dir, port=0)
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())
