"""What a machine speaks BGP with, put together: for the program, and for whoever undoes what it did. A shell."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import UUID

from agent.bgp.examine import CHECKS, examine
from agent.bgp.forwarding import NoPassageError, PassageGuard
from agent.bgp.routing import Gear
from agent.bgp.speaker import Speaker
from agent.bgp.table import LearntTable
from agent.device import DeviceError

RUN_FOLDER = Path("/run/wireloom")
"""Where BIRD's configuration and control socket are, and the note of what forwards, in a folder for each machine id."""

NOT_WANTED = "The agent was started with --no-bgp: start it without."


def gear_for(machine_id: UUID, refusal: str = "", checks: Path = CHECKS) -> Gear:
    """This system's own. `refusal` is why it is not to be used, if so; `checks` are programs for health checks."""
    folder = RUN_FOLDER / str(machine_id)
    return Gear(
        speaker=lambda tell: Speaker(folder / "bird", tell),
        table=LearntTable(),
        guard=PassageGuard(folder),
        examine=partial(examine, folder=checks),
        refusal=refusal,
    )


def clean_up(machine_id: UUID) -> None:
    """Leave the system as if there had been no BGP, as far as it can be done. Waits for the system."""
    gear = gear_for(machine_id)

    async def stop() -> None:
        await gear.speaker(lambda _: None).stop()

    asyncio.run(stop())
    with suppress(NoPassageError):
        gear.guard.remove()
    with suppress(DeviceError):
        gear.table.clear()
    gear.table.close()
