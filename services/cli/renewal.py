"""Certificates that are made anew in time, at the start of `wireloom up` and while it runs. A shell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from events.identity import Identity
from services.cli.identity import due_certificates, renew_certificates

CHECK_SECONDS = 12 * 3600.0


def renew_where_due(identity: Identity, hosts: Sequence[str]) -> bool:
    """Make the server certificates anew whose time comes, or that are not for all `hosts`; whether any was."""
    log = structlog.get_logger("services.cli.renewal")
    due = due_certificates(identity, hosts)
    if not due:
        return False
    if not renew_certificates(identity, due, hosts):
        log.warning("certificates are due, and their authority's key is not here: export them anew", certificates=due)
        return False
    log.info("certificates renewed", certificates=due, hosts=list(hosts))
    return True


async def keep_renewing(
    identity: Identity, hosts: Sequence[str], reload: Callable[[], Awaitable[None]], every: float = CHECK_SECONDS
) -> None:
    """Look every so many seconds, until cancelled, and have renewed certificates taken on by `reload`."""
    while True:
        await asyncio.sleep(every)
        if renew_where_due(identity, hosts):
            await reload()
