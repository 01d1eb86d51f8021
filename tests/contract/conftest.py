"""One message bus for all of the library's cases, each with streams of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.cli.embedded import EmbeddedServer
from tests.support.bus import running_bus


@pytest.fixture(scope="session")
def shared_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that syncs always, as in production."""
    with running_bus(tmp_path_factory.mktemp("bus")) as server:
        yield server
