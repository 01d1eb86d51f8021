"""STATE held against what follows from the log, while both go on. A shell.

Costs a replay of the whole log (some 100 µs for each event) and twice the memory of STATE; others run in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import orjson
from nats.aio.client import Client

from events import feed, log, state
from events.audit.asking import Outcome, Progress, Told
from events.audit.findings import Finding
from events.state import StateDump, cause_of
from events.subjects import STATE_PREFIX, STATE_STREAM
from events.trust.signing import Signer, signed_with
from services.topology.core import Topology
from services.topology.shelf import Shelf

_AT_ONCE = 200
_TELL_EVERY = 5000
_LOADS = 10
_PAUSE_SECONDS = 0.2
_VALUE_WIDTH = 80

_Records = dict[str, bytes]


async def compare_state(client: Client, signer: Signer | None) -> AsyncGenerator[Told]:
    """Where STATE differs from what follows from the log up to the position that STATE has reached, and with a `signer`
    where a record is not signed as it should be; last of all an `Outcome`.

    A record that is replaced or purged meanwhile is no difference. Raises `UnavailableError`, and `InternalError` where
    the log cannot be read.
    """
    try:
        dump, reached = await _load(client)
    except (ValueError, KeyError, TypeError):
        async for finding in _unreadable(client):
            yield finding
        yield Outcome(position=0, records=0)
        return
    shelf = Shelf()
    async with aclosing(_replay(client, reached, shelf)) as steps:
        async for position in steps:
            yield Progress(position=position, end=reached)
    expected, found = shelf.contents(), dict(dump.entries)
    differing = [subject for subject in expected.keys() | found.keys() if expected.get(subject) != found.get(subject)]
    if differing:
        now = dict((await _load(client))[0].entries)
        for subject in sorted(differing):
            if found.get(subject) == now.get(subject):
                yield _difference(subject, expected.get(subject), found.get(subject))
    if signer is not None:
        async for finding in _unsigned(dump, expected, signer):
            yield finding
    yield Outcome(position=reached, records=len(expected))


async def _load(client: Client) -> tuple[StateDump, int]:
    """STATE between two events, and the log position that it has reached. Where its newest message tells another than
    all others, for good, that one was not written by a topology service; then the others count."""
    for _ in range(_LOADS):
        dump = await state.load(client)
        if not dump.is_amid_event:
            return dump, dump.position
        await asyncio.sleep(_PAUSE_SECONDS)
    return dump, min(cause_of(dump.entries[-1][1]), await log.last_sequence(client))


async def _unreadable(client: Client) -> AsyncGenerator[Finding]:
    """The records that are none."""
    async with aclosing(feed.standing(client, STATE_STREAM, f"{STATE_PREFIX}.>")) as batches:
        async for batch in batches:
            for _, message in batch:
                try:
                    state.decode_record(message.data)
                except ValueError:
                    yield _finding(message.subject, 0, f"{message.subject} cannot be read", "a record")


async def _replay(client: Client, until: int, shelf: Shelf) -> AsyncGenerator[int]:
    """Have the shelf hold what follows from the log up to a position; the positions that were reached on the way."""
    topology, told = Topology(), 0
    if until == 0:
        return
    async with aclosing(log.follow(client, 0)) as arrivals:
        async for arrived in arrivals:
            for number, logged in enumerate(arrived, 1):
                if logged.sequence <= until:
                    shelf.take(topology.apply(logged.sequence, logged.event))
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            reached = arrived[-1].sequence
            if reached - told >= _TELL_EVERY:
                told = reached
                yield min(reached, until)
            if reached >= until:
                return


async def _unsigned(dump: StateDump, expected: _Records, signer: Signer) -> AsyncGenerator[Finding]:
    """The records that are right but not signed as the key that signs now would. While keys change, those of the key
    before count."""
    for number, (subject, payload) in enumerate(dump.entries, 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        signature = dump.signatures.get(subject, "")
        if expected.get(subject) != payload or (signature and signed_with(signature) != signer.fingerprint):
            continue
        if signature != signer.sign(subject, payload):
            problem = f"{subject} is not signed" if not signature else f"the signature of {subject} does not fit"
            yield _finding(subject, cause_of(payload), f"{problem}, so that machines refuse it", "")


def _difference(subject: str, expected: bytes | None, found: bytes | None) -> Finding:
    if found is None:
        assert expected is not None
        return _finding(subject, cause_of(expected), f"STATE lacks {subject}", _shown(orjson.loads(expected)))
    try:
        held = orjson.loads(found)
        cause = int(held["cause"])
    except (ValueError, KeyError, TypeError):
        held, cause = None, 0
    if expected is None:
        return _finding(subject, cause, f"STATE holds {subject}, which does not follow from the log", "nothing there")
    follows = orjson.loads(expected)
    apart = [f"{name} is {_shown(one)}" for name, one, _ in _apart(held, follows)] or ["it is written in another form"]
    right = ", ".join(f"{name} {_shown(other)}" for name, _, other in _apart(held, follows))
    return _finding(subject, follows["cause"], f"STATE differs at {subject}: {', '.join(apart)}", right)


def _finding(subject: str, position: int, problem: str, expected: str) -> Finding:
    return Finding(
        code="state",
        position=max(position, 0),
        problem=problem,
        expected=expected,
        aggregate=_about(subject),
        subject=subject,
    )


def _about(subject: str) -> UUID | None:
    """The network or machine that a subject belongs to; None for what belongs to no one."""
    _, kind, *rest = subject.split(".")
    try:
        return UUID(rest[0]) if kind in ("network", "machine") and rest else None
    except ValueError:
        return None


def _apart(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON documents differ, by the names of their fields."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _apart(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    elif one != other:
        yield name or "the record", one, other


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _VALUE_WIDTH else f"{text[:_VALUE_WIDTH]}…"
