"""What is derived held against what follows from the log, while both go on: STATE, the snapshots, PATHS. A shell.

Costs a replay of the whole log (some 100 µs for each event) and twice the memory of STATE; others run in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import orjson
from nats.aio.client import Client

from events import feed, log, state
from events.audit.asking import Outcome, Progress, Told
from events.audit.findings import Code, Finding
from events.state import StateDump, cause_of
from events.subjects import STATE_PREFIX, STATE_STREAM
from events.trust.signing import Signer, signed_with
from services.topology.audit.telling import contrast, finding, record_differs, shown
from services.topology.audit.ways import Apart, Compared, compare_ways
from services.topology.past.moment import Moment, advance
from services.topology.past.snapshots import head_subject
from services.topology.past.vault import Snapshot, Vault

LASTING_SECONDS = 10.0
"""What differs the same for so long in PATHS differs for good: whoever keeps it has long seen what there is to see."""

_AT_ONCE = 200
_TELL_EVERY = 5000
_LOADS = 10
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Signed:
    """A record that is right, with the signature that stands beside it."""

    subject: str
    payload: bytes
    signature: str


async def compare(client: Client, signer: Signer | None, lasting: float = LASTING_SECONDS) -> AsyncGenerator[Told]:
    """Where STATE differs from what follows from the log up to the position that STATE has reached; where a snapshot
    does; where PATHS does from what follows from the log and the reports, the same for `lasting` seconds; and with a
    `signer` where a record is not signed as it should be. Last of all an `Outcome`.

    A record that is replaced or purged meanwhile is no difference. Raises `UnavailableError`, and `InternalError` where
    the log cannot be read.
    """
    try:
        dump, reached = await _load(client)
    except (ValueError, KeyError, TypeError):
        async for one in _unreadable(client):
            yield one
        yield Outcome(position=0, records=0)
        return
    moment, vault, snapshots = Moment(), Vault(client), 0
    heads = {position: head for position, head in (await vault.heads()).items() if position <= reached}
    for stop in sorted({*range(_TELL_EVERY, reached, _TELL_EVERY), *heads, reached}):
        await advance(client, moment, stop)
        # One that does not count does not differ: it is made anew.
        if stop in heads and (snapshot := await vault.read(heads[stop])) is not None:
            snapshots += 1
            if (differing := _snapshot_differs(snapshot, moment)) is not None:
                yield differing
        yield Progress(position=stop, end=reached)
    expected = moment.shelf.contents()
    async for one in _records(client, dump, expected):
        yield one
    right = [
        _Signed(subject, payload, dump.signatures.get(subject, ""))
        for subject, payload in dump.entries
        if expected.get(subject) == payload
    ]
    async with aclosing(compare_ways(client, moment, lasting)) as steps:
        async for step in steps:
            if isinstance(step, Compared):
                for apart in step.apart:
                    yield _way_differs(apart)
                right += [_Signed(subject, held.payload, held.signature) for subject, held in step.right.items()]
                paths = len(step.right) + len(step.apart)
            else:
                yield Progress(position=reached, end=reached)
    if signer is not None:
        async for one in _unsigned(right, signer):
            yield one
    yield Outcome(position=reached, records=len(expected), paths=paths, snapshots=snapshots)


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
    """The records of STATE that are none."""
    async with aclosing(feed.standing(client, STATE_STREAM, f"{STATE_PREFIX}.>")) as batches:
        async for batch in batches:
            for _, message in batch:
                try:
                    state.decode_record(message.data)
                except ValueError:
                    yield finding("state", message.subject, 0, f"{message.subject} cannot be read", "a record")


async def _records(client: Client, dump: StateDump, expected: Mapping[str, bytes]) -> AsyncGenerator[Finding]:
    """Where STATE differs, and does so still."""
    found = dict(dump.entries)
    differing = [subject for subject in expected.keys() | found.keys() if expected.get(subject) != found.get(subject)]
    now = dict((await _load(client))[0].entries) if differing else {}
    for subject in sorted(differing):
        if found.get(subject) == now.get(subject):
            yield record_differs(subject, expected.get(subject), found.get(subject))


def _snapshot_differs(snapshot: Snapshot, moment: Moment) -> Finding | None:
    """How a snapshot differs from what STATE held then, if it does."""
    held, expected = snapshot.contents, moment.shelf.contents()
    apart = sorted(each for each in expected.keys() | held.keys() if expected.get(each) != held.get(each))
    if not apart:
        return None
    position = snapshot.position
    problem = f"the snapshot of position {position:,} differs from the log in {len(apart):,} records"
    return finding("snapshot", head_subject(position), position, f"{problem}, the first {apart[0]}", "")


def _way_differs(apart: Apart) -> Finding:
    subject = apart.subject
    expected = None if apart.expected is None else apart.expected.model_dump(mode="json")
    if apart.found is None:
        return finding("paths", subject, 0, f"PATHS lacks {subject}", shown(expected))
    if expected is None:
        problem = f"PATHS holds {subject}, which does not follow from what is reported"
        return finding("paths", subject, 0, problem, "nothing there")
    try:
        held = orjson.loads(apart.found.payload)["body"]
    except (ValueError, KeyError, TypeError):
        held = None
    stands, right = contrast(held, expected)
    return finding("paths", subject, 0, f"PATHS differs at {subject}: {stands}", right)


async def _unsigned(right: Iterable[_Signed], signer: Signer) -> AsyncGenerator[Finding]:
    """The records that are right but not signed as the key that signs now would. While keys change, those of the key
    before count."""
    for number, one in enumerate(right, 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        if one.signature and signed_with(one.signature) != signer.fingerprint:
            continue
        if one.signature != signer.sign(one.subject, one.payload):
            problem = "is not signed" if not one.signature else "has a signature that does not fit"
            # What a record of PATHS names as its cause is a report, which is no position of the log.
            is_state = one.subject.startswith(f"{STATE_PREFIX}.")
            code: Code = "state" if is_state else "paths"
            position = cause_of(one.payload) if is_state else 0
            yield finding(code, one.subject, position, f"{one.subject} {problem}, so that machines refuse it", "")
