"""`/api/v1/log`: whether the log is what was written, and the checkpoints that say so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query
from pydantic import TypeAdapter
from starlette.responses import Response, StreamingResponse

from events.audit import asking, stored
from events.audit.checkpoints import SignedCheckpoint
from events.audit.findings import MEANINGS, Finding
from events.errors import InternalError, RateLimitedError, UnavailableError, WireloomError
from events.feed import StreamMissingError
from events.trust.signing import signed_with
from services.gateway.aggregate_names import AggregateNames
from services.gateway.http.changes import PLAIN, Gateway, Served, check_json, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import OPERATOR, VIEWER, Caller, Calling, GuardedRoute
from services.gateway.http.schemas import Problem
from services.gateway.http.verification_schemas import (
    CheckpointPage,
    CheckpointQuery,
    KeptRing,
    MadeCheckpoint,
    StoredCheckpoint,
    VerificationAsked,
    VerificationBroken,
    VerificationFinding,
    VerificationLine,
    VerificationProgress,
    VerificationVerdict,
)
from services.gateway.verification import Reached, Verdict, Verification

router = APIRouter(prefix="/api/v1/log", tags=["log"], route_class=GuardedRoute)

MEDIA_TYPE = "application/x-ndjson"

MOST_TOLD = 1000
"""So many findings are told one by one; the rest are counted."""

_LINES: TypeAdapter[Any] = TypeAdapter(VerificationLine)
_LINE_SCHEMA: dict[str, Any] = {
    "description": "One JSON object a line: `progress` and `finding` as they come, then one `verdict`; or a `problem` "
    "where the check broke off.",
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
}


async def _turn(gateway: Served) -> AsyncIterator[None]:
    """That nobody else has this gateway check the log. Raises `RateLimitedError`."""
    if gateway.verifying.locked():
        raise RateLimitedError("The log is being verified already.", hint="Wait until that is done, then ask again.")
    async with gateway.verifying:
        yield


@router.post(
    "/verification",
    response_class=StreamingResponse,
    responses={200: _LINE_SCHEMA, **reading(400, 413, 415)},
    dependencies=[OPERATOR, PLAIN, Depends(check_json), Depends(_turn)],
)
async def verify_log(gateway: Served, caller: Calling, asked: VerificationAsked | None = None) -> StreamingResponse:
    """Check the whole log, the checkpoints, and that the derived state follows from the log.

    One line of JSON after the other: how far it has come, what is wrong, and at the end the verdict. A million events
    take about two minutes. One at a time.
    """
    kept = [one.kept() for one in asked.checkpoints] if asked else []
    return StreamingResponse(_lines(gateway, caller, kept), media_type=MEDIA_TYPE)


@router.get("/checkpoints", response_model=CheckpointPage, responses=reading(), dependencies=[VIEWER])
async def list_checkpoints(gateway: Served, query: Annotated[CheckpointQuery, Query()]) -> Response:
    """List the checkpoints, newest first: what the log was at some positions, signed by the control plane."""
    try:
        newest = await stored.newest(gateway.client)
    except StreamMissingError:
        newest = None
    last = newest[0] if newest else 0
    if query.before is not None:
        last = await stored.before(gateway.client, query.before, last)
    first = max(0, last - query.limit)
    found = [_stored(one) for _, one in reversed(await stored.load(gateway.client, first, last))]
    items = tuple(one for one in found if one is not None)
    following = items[-1].position if items and first else None
    return json_response(CheckpointPage(items=items, next=following))


@router.post(
    "/checkpoints",
    response_model=MadeCheckpoint,
    responses=reading(404),
    dependencies=[OPERATOR, PLAIN, Depends(check_json)],
)
async def make_checkpoint(gateway: Served) -> Response:
    """Give a checkpoint of the log as it is now, to be kept elsewhere; it is made if there is none yet."""
    made = await asking.ask_checkpoint(gateway.client)
    root, ring = "", None
    if gateway.identity is not None:
        root, ring = gateway.identity.public.root, KeptRing.model_validate(gateway.identity.ring().model_dump())
    return json_response(MadeCheckpoint(checkpoint=made.checkpoint, signature=made.signature, root=root, ring=ring))


async def _lines(gateway: Gateway, caller: Caller, kept: list[Any]) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(Verification(gateway.client, gateway.identity, kept).run()) as found:
            names, told = AggregateNames(gateway.client, gateway.mirror.name_of), 0
            async for line in found:
                if isinstance(line, Finding):
                    told += 1
                    if told > MOST_TOLD:
                        continue
                yield _json(await _view(gateway, names, line))
                if gateway.closing.is_set() or not caller.still_counts(gateway):
                    raise UnavailableError("The check was broken off.", hint="Sign in, if need be, and verify again.")
    except WireloomError as error:
        yield _json(VerificationBroken(problem=Problem.model_validate(error.to_problem())))
    except Exception:
        structlog.get_logger("gateway").exception("the check of the log failed")
        problem = InternalError("The check of the log failed.", hint="See the gateway's log.").to_problem()
        yield _json(VerificationBroken(problem=Problem.model_validate(problem)))


def _json(line: Any) -> bytes:
    return _LINES.dump_json(line) + b"\n"


async def _view(
    gateway: Gateway, names: AggregateNames, line: Reached | Finding | Verdict
) -> VerificationProgress | VerificationFinding | VerificationVerdict:
    match line:
        case Reached():
            return VerificationProgress.model_validate(line, from_attributes=True)
        case Finding():
            meaning, advice = MEANINGS[line.code]
            return VerificationFinding(
                code=line.code,
                position=line.position,
                aggregate_uuid=line.aggregate,
                aggregate=await names.of(line.aggregate),
                subject=line.subject,
                problem=line.problem,
                expected=line.expected,
                meaning=meaning,
                advice=advice,
                is_notice=line.is_notice,
            )
        case Verdict():
            return VerificationVerdict(
                in_order=not line.serious,
                findings=line.serious,
                notices=line.notices,
                untold=max(0, line.serious + line.notices - MOST_TOLD),
                position=line.position,
                count=line.count,
                digest=line.digest,
                checkpoints=line.checkpoints,
                unsigned_checkpoints=line.unsigned,
                covered=line.covered,
                state_position=line.state_position,
                records=line.records,
                paths=line.paths,
                snapshots=line.snapshots,
                redacted=line.redacted,
                kept=line.kept,
                root=gateway.identity.public.root if gateway.identity else "",
                seconds=line.seconds,
            )


def _stored(one: SignedCheckpoint) -> StoredCheckpoint | None:
    """A checkpoint as the list shows it; None for what is none, of which a check tells."""
    try:
        said = one.read()
    except ValueError:
        return None
    return StoredCheckpoint(
        position=said.position,
        count=said.count,
        digest=said.digest,
        time=said.time,
        key=signed_with(one.signature),
        checkpoint=one.checkpoint,
        signature=one.signature,
    )
