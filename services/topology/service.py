"""The topology service: follows the log, derives, and keeps STATE up to date; and beside that PATHS. A shell.

It may be killed at any moment: how far it came stands in STATE itself. Several may run at once: one writes, and the
others come to the same, see that it is written, and go on when it stops.

Where the control plane has keys, every record is signed. When the key is another, at a start or while this runs, the
records that another key signed are written again before anything new is derived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog
from nats.aio.client import Client

from events import bus, log, state
from events.ending import end, finish, unless
from events.errors import InternalError, UnavailableError
from events.feed import StreamMissingError, last_sequence
from events.identity import Identity
from events.memory import collect_rarely
from events.state import StateDump
from events.subjects import BGP, CHECKPOINTS, LOG, PATHS, PLANS, REACH, STATE, Stream
from events.trust.signing import Signer, signed_with
from services.topology.audit.checkpoints import CheckpointKeeper
from services.topology.audit.service import serve_audit
from services.topology.bgp import derive_bgp
from services.topology.derived import is_covered
from services.topology.past.chronicler import keep_history
from services.topology.past.service import serve_past
from services.topology.paths import derive_paths
from services.topology.paths_writer import PathsDivergedError
from services.topology.rebuild import replay
from services.topology.restore import restore
from services.topology.settings import Settings
from services.topology.writer import StateDivergedError, StateWriter, purge_all

_RELOAD_SECONDS = 0.5
_KEY_SECONDS = 1.0
"""So often the key that signs is looked at."""

Derive = Callable[[Client, Signer | None, asyncio.Lock], Coroutine[Any, Any, None]]
"""Keeps a stream up to date with one key, until cancelled. Holds the lock whenever it writes."""


class LogBehindError(InternalError):
    """Raised when STATE was derived from more events than the log holds."""

    code = "log-behind"
    title = "The log is shorter than it was"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Keep STATE up to date until `stop` is set.

    The bus is waited for. Raises `UnavailableError` when it refuses or the connection is closed for good,
    `InternalError` where the log or STATE are not in order, `IdentityError` where a key is missing or damaged, and
    `StoppedError` where it is told to stop before it has begun: restarting is always safe.
    """
    collect_rarely()
    reconnected = asyncio.Event()
    identity = Identity(settings.identity) if settings.identity else None
    credentials = identity.credentials("topology") if identity else None
    client = await unless(stop, bus.connect(settings.nats_url, "topology", credentials, on_reconnect=reconnected.set))
    keeper = CheckpointKeeper(client)
    tasks = {
        asyncio.create_task(_work(client, settings.replicas, identity, (LOG, STATE), _derive)),
        asyncio.create_task(_work(client, settings.replicas, identity, (LOG, CHECKPOINTS), keeper.run)),
        asyncio.create_task(serve_audit(client, keeper, identity)),
        asyncio.create_task(_work(client, settings.replicas, identity, (REACH, PATHS), derive_paths)),
        asyncio.create_task(_work(client, settings.replicas, identity, (BGP, REACH, PATHS, PLANS), derive_bgp)),
        asyncio.create_task(_purge_again(client, reconnected)),
        asyncio.create_task(serve_past(client)),
        asyncio.create_task(keep_history(client, settings.replicas, settings.events_between_snapshots)),
        asyncio.create_task(stop.wait()),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        try:
            await end(tasks)
        finally:
            await finish(client.close())


async def _work(
    client: Client, replicas: int, identity: Identity | None, streams: Sequence[Stream], derive: Derive
) -> None:
    ensure = partial(bus.ensure_streams, client, streams, replicas)
    await bus.when_ready(client, ensure)
    while not client.is_closed:
        try:
            await _derive_with_key(client, identity, derive)
        except (StreamMissingError, PathsDivergedError) as error:
            structlog.get_logger("services.topology").warning("making the streams anew", reason=str(error))
            await bus.when_ready(client, ensure)
        except (StateDivergedError, UnavailableError) as error:
            structlog.get_logger("services.topology").warning("loading the state anew", reason=str(error))
        await asyncio.sleep(_RELOAD_SECONDS)
    raise UnavailableError("The connection to the bus is closed.", hint="Start again.")


async def _derive_with_key(client: Client, identity: Identity | None, derive: Derive) -> None:
    """Derive, and sign with the key that is there now; until it is another."""
    writing = asyncio.Lock()
    if identity is None:
        await derive(client, None, writing)
        return
    signer = identity.signer()
    tasks = {
        asyncio.create_task(derive(client, signer, writing)),
        asyncio.create_task(_key_changes(identity, signer)),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        await writing.acquire()  # nothing is half written then
    finally:
        await end(tasks)


async def _key_changes(identity: Identity, signer: Signer) -> None:
    """Wait until another key than the signer's is to sign."""
    while identity.signer().fingerprint == signer.fingerprint:  # noqa: ASYNC110 - a file tells nobody that it changed
        await asyncio.sleep(_KEY_SECONDS)
    structlog.get_logger("services.topology").info("there is a new key for signing")


async def _derive(client: Client, signer: Signer | None, writing: asyncio.Lock) -> None:
    """Go on from where STATE is. Holds `writing` whenever it writes."""
    dump = await state.load(client)
    if dump.is_amid_event:
        async with writing:
            await _complete_event(client, dump, signer)
        dump = await state.load(client)
    topology, undone = restore(dump.records())
    await _require_log(client, topology.position)
    writer = StateWriter(client, topology.position, dump.last_sequence, signer)
    async with writing:
        await purge_all(client, undone)
        stale = _stale(dump, undone, signer) if signer else []
        await writer.write_again(stale)
    structlog.get_logger("services.topology").info(
        "ready", position=topology.position, records=len(dump.entries), purged=len(undone), signed=len(stale)
    )
    async with aclosing(log.follow(client, topology.position)) as arrivals:
        async for arrived in arrivals:
            async with writing:
                for logged in arrived:
                    writer.add(logged.sequence, topology.apply(logged.sequence, logged.event))
                await writer.flush()


async def _complete_event(client: Client, dump: StateDump, signer: Signer | None) -> None:
    """Write all records of an event of which some are written. What STATE holds meanwhile fits no position, so what
    they are follows from the log alone."""
    await _require_log(client, dump.position + 1)
    topology = await replay(client, dump.position)
    writer = StateWriter(client, dump.position, dump.last_sequence, signer)
    for logged in await log.read(client, dump.position, 1):
        writer.add(logged.sequence, topology.apply(logged.sequence, logged.event))
    await writer.flush()


def _stale(dump: StateDump, purged: list[str], signer: Signer) -> list[tuple[str, bytes]]:
    """The records that stay, and that another key signed, or none."""
    gone = set(purged)
    return [
        (subject, payload)
        for subject, payload in dump.entries
        if signed_with(dump.signatures.get(subject, "")) != signer.fingerprint and not is_covered(subject, gone)
    ]


async def _purge_again(client: Client, reconnected: asyncio.Event) -> None:
    """After every reconnection, purge what a server that crashed may have brought back: it stores messages before it
    acknowledges them, but acknowledges purges before it stores them."""
    while True:
        await reconnected.wait()
        reconnected.clear()
        try:
            dump = await state.load(client)
            await purge_all(client, await asyncio.to_thread(_undone, dump))
        except (StateDivergedError, UnavailableError):
            reconnected.set()
            await asyncio.sleep(_RELOAD_SECONDS)


def _undone(dump: StateDump) -> list[str]:
    return [] if dump.is_amid_event else restore(dump.records())[1]


async def _require_log(client: Client, position: int) -> None:
    newest = await last_sequence(client, LOG.name)
    if newest < position:
        raise LogBehindError(
            f"STATE has seen event {position} of the log, which ends at {newest}.",
            hint="If the log was restored from a backup, delete the stream STATE: it is rebuilt from the log.",
        )
