"""Ending tasks. A shell."""

from __future__ import annotations

import asyncio
from typing import Any


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it ends: `asyncio.wait_for` of Python 3.11 swallows a cancellation that comes together with
    the answer it waits for."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)
