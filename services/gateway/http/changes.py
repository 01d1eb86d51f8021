"""What all changing requests have in common: who asks, the command's id, and waiting for the effect to show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, ClassVar
from uuid import UUID, uuid4, uuid5

from fastapi import Depends, Header, Query, Request
from fastapi.dependencies.models import Dependant
from nats.aio.client import Client
from pydantic import BaseModel, StringConstraints
from starlette.exceptions import HTTPException
from starlette.responses import Response

from events.commands import Actor, Command, Outcome
from events.errors import UnavailableError, WireloomError
from events.identity import Identity
from services.gateway.admission import Admission
from services.gateway.commander import Commander
from services.gateway.convergence import Convergences
from services.gateway.follower import Follower
from services.gateway.history import Recent
from services.gateway.http.dry_runs import Trial
from services.gateway.http.guard import OPEN_ACTOR, Calling, open_to_all
from services.gateway.http.parameters import require_only
from services.gateway.http.schemas import DRY_RUN_TEXT, Accepted
from services.gateway.http.throttle import Throttle
from services.gateway.key_ages import KeyAges
from services.gateway.metrics import Metrics
from services.gateway.mirror import Mirror
from services.gateway.past import Pasts
from services.gateway.presence import Presence
from services.gateway.pulse import Pulse
from services.gateway.settings import Limits
from services.gateway.tracks import Tracks
from services.gateway.tunnels import Tunnels

VISIBLE_WITHIN = 3.0
"""For how many seconds an answer waits until the gateway shows the effect of the command."""

TRIALS_AT_ONCE = 2
"""So many changes are tried at once: for each, the mesh is derived twice. The others wait."""

_KEYS = UUID("2e9f0a52-5c1d-5b7e-8d59-0f3c7a61d0b4")
"""The name space in which an Idempotency-Key that is no uuid becomes a command's id (RFC 9562, section 5.5)."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="A repetition with the same key is executed once and answered the same. A uuid is best.",
        min_length=1,
        max_length=200,
    ),
]
ActorHeader = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")] | None,
    Header(
        alias="X-Wireloom-Actor",
        description="Who asks, as the log shows it, for example `cli:alice`: only without authorisation; with it, the "
        "account and token count.",
    ),
]


@dataclass(frozen=True)
class Gateway:
    """What the HTTP API works with."""

    client: Client
    commander: Commander
    follower: Follower
    presence: Presence
    metrics: Metrics
    closing: asyncio.Event
    """Set when the gateway is about to stop: endless answers end."""
    tracks: Tracks
    """What machines report of their links, and the ways that follow."""
    pulse: Pulse
    """What changes, for open pages."""
    tunnels: Tunnels
    """Machines' tunnels, when somebody looks at them."""
    pasts: Pasts
    """Moments that are past."""
    convergences: Convergences
    """How soon machines apply what changes."""
    admission: Admission | None = None
    """What lets machines and programs onto the bus. None: whoever reaches the gateway may do everything."""
    identity: Identity | None = None
    bus_urls: tuple[str, ...] = ()
    """The message bus's addresses, as programs are told."""
    public_url: str = ""
    """Where people and machines find the gateway."""
    ca: str | None = None
    """The certificate (PEM) that signed the gateway's own, if that is self-made."""
    throttle: Throttle = field(default_factory=lambda: Throttle(Limits()))
    recent: Recent = field(default_factory=Recent)
    """The newest events, for pages that show them again and again."""
    key_ages: KeyAges = field(default_factory=KeyAges)
    trials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRIALS_AT_ONCE))
    """Held while it is derived what a change would do."""
    searching: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a command is looked for in the whole log."""
    verifying: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the log is being verified."""
    is_past: ClassVar[bool] = False

    @property
    def mirror(self) -> Mirror:
        """The read model."""
        return self.follower.mirror

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC)

    async def look_into(self, network_ids: Iterable[UUID]) -> None:
        """See `services.gateway.seen.Seen`: of the present everything is known already."""

    async def look_at_plans(self, network_ids: Iterable[UUID]) -> None:
        """As `look_into`."""


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves this request. Raises `UnavailableError` while its mirror is being loaded."""
    gateway: Gateway = request.app.state.gateway
    if not gateway.follower.loaded.is_set():
        raise UnavailableError("The gateway is still loading the derived state.", hint="Try again in a moment.")
    return gateway


def no_query(request: Request) -> None:
    """For routes without parameters, but `dry_run` where changes may be tried. Raises `InvalidInputError` where another
    is given."""
    require_only(request, (DRY_RUN,) if may_be_tried(request.scope["route"].dependant) else ())


def may_be_tried(dependant: Dependant) -> bool:
    """Whether a route's change may be tried."""
    return any(each.call is change_or_trial_of for each in dependant.dependencies)


PLAIN = Depends(no_query)
Served = Annotated[Gateway, Depends(gateway_of)]


def admission_of(gateway: Served) -> Admission:
    """What lets machines and programs in. Raises `ConflictError` without authorisation."""
    if gateway.admission is None:
        raise open_to_all()
    return gateway.admission


Admitting = Annotated[Admission, Depends(admission_of)]


def check_json(request: Request) -> None:
    """Raises HTTP 415 for a body that is not declared as JSON: so browsers do not let other sites send it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and media_type != "application/json":
        raise HTTPException(415, "A body must be JSON: send it with Content-Type: application/json.")


@dataclass(frozen=True)
class Change:
    """One changing request: who asks, and the id of its command."""

    gateway: Gateway
    actor: Actor
    command_id: UUID
    trial: Trial | None = None
    """Where the change is only tried: takes the commands instead of the allocator, and tells what they would do."""

    def another_id(self, purpose: str) -> UUID:
        """An id that follows from the command's: the same for a repetition of the request."""
        return uuid5(self.command_id, purpose)

    def ids(self, command_types: Iterable[type[Command]]) -> list[UUID]:
        """The ids of the commands that this request takes. The first command's is the request's, and the others' follow
        from it, whatever is left out: a repetition of the request is a repetition of each."""
        _, *others = command_types
        return [self.command_id, *(self.another_id(command_type.summary) for command_type in others)]

    async def give_all(self, commands: Sequence[Command]) -> Outcome:
        """Have commands decided, one after the other; what became of the last. Raises what the first one was refused
        with that was, with a hint that says what was executed before."""
        outcome: Outcome | None = None
        for done, command in enumerate(commands):
            try:
                outcome = await self.give(command)
            except WireloomError as error:
                if done and self.trial is None:
                    executed = " and ".join(before.summary for before in commands[:done])
                    error.hint = f"{error.hint} Executed before this: {executed}.".strip()
                raise
        assert outcome is not None
        return outcome

    async def give(self, command: Command) -> Outcome:
        """Have a command decided. Raises what it was refused with."""
        if self.trial is not None:
            return await self.trial.give(command)
        return await self.gateway.commander.give(command)

    async def answer(
        self, outcome: Outcome, status: int, location: str, view: Callable[[], BaseModel | None] = lambda: None
    ) -> Response:
        """The response once the effect shows, with what `view` gives then; 202 if it does not show in time. Where the
        change is only tried, what it would do."""
        if self.trial is not None:
            return json_response(await self.trial.told())
        headers = {"X-Command-Id": str(outcome.command_id), "X-Log-Sequence": str(outcome.sequence)}
        if status == 201:
            headers["Location"] = location
        if not await self.gateway.follower.wait_for(outcome.sequence, VISIBLE_WITHIN):
            accepted = Accepted(command_id=outcome.command_id, sequence=outcome.sequence)
            return json_response(accepted, 202, headers | {"Location": location})
        return json_response(view(), status, headers)


DRY_RUN = "dry_run"
DryRunFlag = Annotated[bool, Query(description=DRY_RUN_TEXT)]


def change_of(
    gateway: Served,
    caller: Calling,
    _: Annotated[None, Depends(check_json)],
    idempotency_key: IdempotencyKey = None,
    actor: ActorHeader = None,
) -> Change:
    """The change that a request asks for."""
    said = actor or OPEN_ACTOR if caller.speaker is None else caller.actor
    return Change(gateway, said, _command_id(idempotency_key))


Making = Annotated[Change, Depends(change_of)]
"""For what does more than its commands say: it cannot be tried."""


def change_or_trial_of(change: Making, dry_run: DryRunFlag = False) -> Change:
    """The change that a request asks for, or asks about."""
    return replace(change, trial=Trial(change.gateway)) if dry_run else change


Changing = Annotated[Change, Depends(change_or_trial_of)]
"""For all whose work is commands and nothing else: they may be tried."""


def json_response(view: BaseModel | None, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A view as a response; None has no body."""
    if view is None:
        return Response(status_code=status, headers=headers)
    return Response(view.model_dump_json(), status_code=status, headers=headers, media_type="application/json")


def _command_id(key: str | None) -> UUID:
    if key is None:
        return uuid4()
    try:
        return UUID(key)
    except ValueError:
        return uuid5(_KEYS, key)
