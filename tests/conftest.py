"""What all tests share: a real message bus, and that nothing is skipped where `CI` is set."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest

from services.cli.embedded import EmbeddedServer


def pytest_configure(config: pytest.Config) -> None:
    """No example has to be done in time: tests run beside others."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings  # takes long to import, and not all tests need it

        settings.register_profile("unhurried", deadline=None)
        settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In continuous integration a test that cannot run has failed."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"nothing is skipped in CI: {report.longrepr}"
    return report


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
