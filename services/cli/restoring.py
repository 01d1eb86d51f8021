"""Putting the messages of an exported log into a bus that holds none: all of them or none. A shell."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import nats.errors
import orjson
from nats.aio.client import Client

from events import bus
from events.archive.format import Archived
from events.client import BusClient
from events.errors import ConflictError, UnavailableError
from events.feed import StreamMissingError, last_sequence
from events.identity import Identity
from events.store.commit import MAX_BATCH, ExpectationError, RefusedError, UncertainError, commit
from events.store.wire import EXPECTED_SEQUENCE, Draft
from events.subjects import (
    BGP,
    BGP_STREAM,
    CHECKPOINTS,
    CHECKPOINTS_STREAM,
    EVENT_HEADER,
    HISTORY_STREAM,
    LOG,
    LOG_STREAM,
    PATHS_STREAM,
    PLANS,
    PLANS_STREAM,
    REACH,
    REACH_STREAM,
    SNAPSHOTS,
    STATE_STREAM,
)
from events.trust.permissions import Role
from events.trust.signing import SIGNATURE_HEADER
from services.cli.datadir import default_data_dir, held
from services.cli.embedded import EmbeddedServer
from services.cli.first import located

_WRITERS: dict[str, Role] = {
    LOG_STREAM: "allocator",
    CHECKPOINTS_STREAM: "topology",
    PLANS_STREAM: "topology",
    REACH_STREAM: "gateway",
    BGP_STREAM: "gateway",
}
_OTHERS: dict[str, Role] = {
    CHECKPOINTS_STREAM: "topology",
    STATE_STREAM: "topology",
    REACH_STREAM: "topology",
    PATHS_STREAM: "topology",
    BGP_STREAM: "topology",
    PLANS_STREAM: "topology",
    HISTORY_STREAM: "topology",
    SNAPSHOTS.name: "allocator",
}
"""What must be empty beside the log, and who may look."""
_SECONDS = 30.0


@dataclass(frozen=True)
class Restored:
    """What was written, and where."""

    events: int
    reports: int
    where: str


async def restore(
    messages: Iterable[Archived],
    data_dir: Path | None,
    identity: Path | None,
    nats_url: str,
    *,
    root: str,
    secured: bool,
    replicas: int = 1,
) -> Restored:
    """Write the messages, which were checked before: into the bus at `nats_url`, or into the data directory of a
    control plane that is stopped. `root` is the public root key of who made the file.

    Raises `ConflictError` where there is a log already, or the identity is another's; `UnavailableError`.
    """
    if secured:
        directory, found = located(data_dir, identity, os.environ)
    else:
        directory, found = (data_dir or default_data_dir(os.environ, os.geteuid() == 0)).absolute(), None
    _require_same(found, root)
    if nats_url:
        events, reports = await _write(nats_url, found, messages, replicas)
        return Restored(events, reports, nats_url)
    with held(directory), _made_anew(directory / "bus") as draft:
        server = EmbeddedServer(draft, port=0, identity=found)
        url = await server.start()
        try:
            events, reports = await _write(url, found, messages, replicas)
        finally:
            await server.stop()
    return Restored(events, reports, str(directory))


def _require_same(identity: Identity | None, root: str) -> None:
    if identity is None and root:
        raise ConflictError(
            "The file is of a control plane that has keys.",
            hint="Leave out --no-auth, and give that one's identity folder.",
        )
    if identity is not None and identity.public.root != root:
        raise ConflictError(
            "The file is of a control plane with another root key, or none: its machines would not trust this one.",
            hint=f"Copy the identity folder of the control plane that made the file to {identity.folder}.",
        )


@contextmanager
def _made_anew(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place when the block ends well. Raises `ConflictError` where there is one."""
    if folder.exists():
        raise ConflictError(
            f"There is a log in {folder} already.", hint="Move that folder away, or give another data directory."
        )
    draft = folder.with_name(folder.name + ".importing")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


async def _write(url: str, identity: Identity | None, messages: Iterable[Archived], replicas: int) -> tuple[int, int]:
    """Write everything; how many events and how many reports."""
    counts = dict.fromkeys(_WRITERS, 0)
    async with AsyncExitStack() as stack:
        clients = {
            role: await stack.enter_async_context(_connected(url, identity, role)) for role in set(_WRITERS.values())
        }
        await _require_empty(clients, url)
        await bus.ensure_streams(clients["topology"], (LOG, REACH, BGP, PLANS, CHECKPOINTS), replicas)
        rest = iter(messages)
        while some := list(islice(rest, MAX_BATCH)):
            for stream, role in _WRITERS.items():
                if ours := [message for message in some if message.stream == stream]:
                    counts[stream] += len(ours)
                    write = _write_events if stream == LOG_STREAM else _write_others
                    await write(clients[role], ours)
    return counts[LOG_STREAM], counts[REACH_STREAM] + counts[BGP_STREAM] + counts[PLANS_STREAM]


@asynccontextmanager
async def _connected(url: str, identity: Identity | None, role: Role) -> AsyncIterator[BusClient]:
    client = await bus.connect(url, "wireloom log import", identity.credentials(role) if identity else None)
    try:
        yield client
    finally:
        await client.close()


async def _require_empty(clients: Mapping[Role, Client], url: str) -> None:
    """What was derived from another log would be taken for what follows from this one: also the names that were removed
    from it, for an event from which something was removed has the digest that it had."""
    if await _holds(clients["topology"], LOG_STREAM):
        raise ConflictError(f"The bus at {url} holds a log already.", hint="Import into a bus that holds none.")
    left = [stream for stream, role in _OTHERS.items() if await _holds(clients[role], stream)]
    if left:
        raise ConflictError(
            f"The bus at {url} holds no log, but what belongs to one: {', '.join(left)}.",
            hint="Stop the control plane, delete all these streams, and import again; or import into another bus.",
        )


async def _holds(client: Client, stream: str) -> bool:
    try:
        return await last_sequence(client, stream) > 0
    except StreamMissingError:
        return False


async def _write_events(client: BusClient, messages: list[Archived]) -> None:
    """Write events so that each stands at the position that it had."""
    drafts = [Draft(each.subject, each.payload, {EVENT_HEADER: each.beside}) for each in messages]
    drafts[0].headers[EXPECTED_SEQUENCE] = str(messages[0].sequence - 1)
    try:
        last = await commit(client, drafts, _SECONDS)
    except (ExpectationError, UncertainError, RefusedError) as error:
        raise UnavailableError(
            f"The events from position {messages[0].sequence} on could not be written: {error}.",
            hint="Import again; at --nats-url, delete the streams first that were begun.",
        ) from error
    if last != messages[-1].sequence:
        raise UnavailableError("The events came to stand at other positions.", hint="Import into an empty bus.")


async def _write_others(client: BusClient, messages: list[Archived]) -> None:
    await asyncio.gather(*(_write_one(client, message) for message in messages))


async def _write_one(client: BusClient, message: Archived) -> None:
    headers = {SIGNATURE_HEADER: message.beside} if message.beside else None
    try:
        answer = await client.request(message.subject, message.payload, timeout=_SECONDS, headers=headers)
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(f"{message.subject} could not be written.", hint="Import again.") from error
    if "error" in orjson.loads(answer.data):
        raise UnavailableError(f"The bus does not take what stands on {message.subject}.", hint="Import again.")
