"""The allocator as an `eventsourcing` application: commands in, events in the log, outcomes out.

Commands are decided in groups on one desk and written together, so that many callers share the price of a write. A
group is written only if nothing at all was written since the position that it was decided at; otherwise the allocator
catches up with the log and decides again. That one check makes every rule hold, across aggregates too, however many
allocators there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar, cast
from uuid import UUID

import structlog
from eventsourcing.application import Application, Repository
from eventsourcing.persistence import EventStore, IntegrityError, Mapper, PersistenceError, StoredEvent
from eventsourcing.utils import EnvType

from events.commands import Command, Outcome
from events.domain import DomainEvent
from events.errors import InternalError, UnavailableError, WireloomError
from events.past import Supposed
from events.preview import Preview, PreviewAnswer
from services.allocator import snapshots
from services.allocator.access import Access
from services.allocator.aggregates import Aggregate, Machine, Registry, evolve, project
from services.allocator.archive import LogArchive
from services.allocator.decide import DECIDERS, most_events
from services.allocator.desk import Decided, Desk
from services.allocator.lookups import MAX_BATCH_EVENTS
from services.allocator.mapper import EventMapper, SnapshotMapper
from services.allocator.members import answer_again
from services.allocator.memory import COMMANDS_KEPT, CommandMemory
from services.allocator.routing import Routing

MAX_ATTEMPTS = 100
"""So often a group is decided anew because another allocator wrote first, before its callers are told to come back."""

SNAPSHOT_EVERY = 1000
"""At least so many events lie between two snapshots of an aggregate; more for one with many members."""

PAGE = 1000
"""So many events are read from the log at once."""

Answer = Outcome | WireloomError

Append = Callable[[Sequence[StoredEvent], int], Awaitable[Sequence[int]]]
"""Writes events to the log if it ends at the given position, all or none, and returns their positions.

Raises `IntegrityError` where it ends elsewhere, other `PersistenceError` if the fate of the write is not known."""


class Allocator(Application[UUID]):
    """Executes commands, one group after the other."""

    name = "Allocator"
    env: ClassVar[dict[str, str]] = {
        "PERSISTENCE_MODULE": "events.store",
        "IS_SNAPSHOTTING_ENABLED": "y",
        "AGGREGATE_CACHE_MAXSIZE": "250000",
        "AGGREGATE_CACHE_FASTFORWARD": "n",
        "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    }

    def __init__(
        self,
        env: EnvType | None = None,
        append: Append | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`append` writes to the log from the caller's own event loop, which spares two changes of thread a command;
        without it the recorder does. `now` is the clock that stamps the events.

        The log's newest commands are read at once. Raises `PersistenceError`.
        """
        super().__init__(env)
        self._append = append or self._append_with_recorder
        self._now = now
        self._log = structlog.get_logger("allocator")
        self._memory = CommandMemory()
        self.archive = LogArchive(self.recorder, self.mapper, self.events, self.snapshots)
        self._may_assume = False
        self._background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshots")
        newest = self.recorder.max_notification_id() or 0
        self._position = max(0, newest - COMMANDS_KEPT)
        self._catch_up()

    @property
    def position(self) -> int:
        """The log position up to which everything is known here."""
        return self._position

    def construct_mapper(self) -> Mapper[UUID]:
        """Events as `events.codec` writes them."""
        return EventMapper()

    def construct_snapshot_store(self) -> EventStore[UUID]:
        """Snapshots of large aggregates, apart from the log."""
        return EventStore(SnapshotMapper(), self.factory.aggregate_recorder(purpose="snapshots"))

    def construct_repository(self) -> Repository[UUID]:
        """A cache of immutable aggregates over the log and the snapshots."""
        return _AggregateRepository(
            event_store=self.events,
            snapshot_store=self.snapshots,
            cache_maxsize=int(self.env.get("AGGREGATE_CACHE_MAXSIZE", "250000")),
            fastforward=False,
            deepcopy_from_cache=False,
        )

    def find(self, kind: type[Aggregate], aggregate_id: UUID, *, assume_new: bool = False) -> Aggregate | None:
        """The newest known state of an aggregate, or None if it has no events. See `Library.find`."""
        repository = cast(_AggregateRepository, self.repository)
        cached = repository.cached(aggregate_id)
        if cached is not None or (assume_new and self._may_assume):
            return cached
        found = repository.load(aggregate_id, with_snapshot=kind is not Machine)
        if found is None and kind in (Registry, Access, Routing):
            # There is one of each: without this, as long as nothing happened to it, every command would look again.
            found = repository.keep(kind(aggregate_id))
        return found

    async def execute(self, commands: Sequence[Command]) -> list[Answer]:
        """The outcome or the refusal of each command, in order. What was accepted is in the log on return.

        It may not be called again before it has returned.
        """
        answers: list[Answer] = []
        while len(answers) < len(commands):
            answers += await self._execute_group(commands[len(answers) :])
        return answers

    def preview(self, commands: Sequence[Command]) -> PreviewAnswer:
        """What would become of each command at the end of the log, after those before it. Nothing is written, and
        nothing of it remembered.

        It may not be called while `execute` runs. Raises `UnavailableError`.
        """
        try:
            self._catch_up()
            self._may_assume = False
            desk = Desk(self, self._now)
            drafts = [(command, self._decide_one(desk, command)) for command in commands]
        except PersistenceError as error:
            raise UnavailableError("The log does not answer.", hint="Ask again.") from error
        return PreviewAnswer(
            position=self._position, commands=tuple(self._previewed(command, draft) for command, draft in drafts)
        )

    def close(self) -> None:
        """Let a snapshot that is being taken finish, and close the connection to the log."""
        if hasattr(self, "_background"):
            self._background.shutdown(wait=True)
        super().close()

    async def _execute_group(self, commands: Sequence[Command]) -> list[Answer]:
        try:
            for attempt in range(MAX_ATTEMPTS):
                self._may_assume = attempt == 0
                desk = Desk(self, self._now)
                drafts = self._decide(desk, commands)
                if await self._write(desk, drafts):
                    return [self._answer(draft) for draft in drafts]
                self._catch_up()
        except PersistenceError as error:
            self._log.error("the log does not take writes", error=repr(error))
            return [_unavailable("The log does not answer.") for _ in commands]
        return [_unavailable("Other allocators were always faster.") for _ in commands]

    def _decide(self, desk: Desk, commands: Sequence[Command]) -> list[Decided | Answer]:
        """Decide as many of the commands, from the first, as fit in one atomic write."""
        drafts: list[Decided | Answer] = []
        in_group: dict[UUID, Command] = {}
        for command in commands:
            room = MAX_BATCH_EVENTS - len(desk.events)
            if drafts and (command.command_id in in_group or most_events(desk, command) > room):
                break
            in_group[command.command_id] = command
            drafts.append(self._decide_one(desk, command))
        return drafts

    def _decide_one(self, desk: Desk, command: Command) -> Decided | Answer:
        try:
            recalled = self._memory.recall(command)
            if recalled is not None:
                return answer_again(desk, command, recalled)
            return desk.decide(command, DECIDERS[type(command)])
        except WireloomError as refusal:
            return refusal
        except PersistenceError:
            raise
        except Exception:
            self._log.exception("a command failed", kind=type(command).__name__, command=str(command.command_id))
            return InternalError("The command failed by a fault of ours, and changed nothing.", hint="See the log.")

    async def _write(self, desk: Desk, drafts: list[Decided | Answer]) -> bool:
        """Write what the desk recorded. False if the log was ahead, and all must be decided again."""
        if not desk.events:
            news_matter = any(not isinstance(draft, Outcome) for draft in drafts)
            return not news_matter or (self.recorder.max_notification_id() or 0) == self._position
        try:
            stored = [self.mapper.to_stored_event(cast(Any, event)) for event in desk.events]
            sequences = await self._append(stored, self._position)
        except IntegrityError:
            return False
        self._position = sequences[-1]
        written = iter(sequences)
        cache = self.repository.cache
        assert cache is not None
        for aggregate in desk.changed.values():
            cache.put(aggregate.id, cast(Any, aggregate))
            self._consider_snapshot(aggregate)
        for index, draft in enumerate(drafts):
            if isinstance(draft, Decided) and draft.events:
                *_, sequence = islice(written, len(draft.events))
                drafts[index] = self._outcome(draft, sequence)
        return True

    async def _append_with_recorder(self, stored: Sequence[StoredEvent], position: int) -> Sequence[int]:
        return self.recorder.insert_events(stored, expected_position=position) or ()

    def _answer(self, draft: Decided | Answer) -> Answer:
        return self._outcome(draft, self._position) if isinstance(draft, Decided) else draft

    def _outcome(self, decided: Decided, sequence: int) -> Outcome:
        outcome = decided.outcome(sequence)
        self._memory.executed(decided.command, outcome)
        return outcome

    def _previewed(self, command: Command, draft: Decided | Answer) -> Preview:
        if isinstance(draft, WireloomError):
            return Preview.of_refusal(command.command_id, draft)
        if isinstance(draft, Outcome):
            return Preview(command_id=command.command_id, outcome=draft, is_executed=True)
        return Preview(
            command_id=command.command_id,
            outcome=draft.outcome(self._position),
            events=tuple(Supposed.of(event) for event in draft.events),
        )

    def _catch_up(self) -> None:
        """Read everything that was written since the position."""
        while True:
            notifications = self.recorder.select_notifications(
                start=self._position or None, limit=PAGE, inclusive_of_start=False
            )
            for notification in notifications:
                event: Any = self.mapper.to_domain_event(notification)
                self._memory.logged(notification.id, event)
                self._fast_forward(event)
                self._position = notification.id
            if len(notifications) < PAGE:
                return

    def _fast_forward(self, event: DomainEvent) -> None:
        cached = cast(_AggregateRepository, self.repository).cached(event.originator_id)
        if cached is not None and event.originator_version == cached.version + 1:
            assert self.repository.cache is not None
            self.repository.cache.put(cached.id, cast(Any, evolve(cached, event)))

    def _consider_snapshot(self, aggregate: Aggregate) -> None:
        if isinstance(aggregate, Machine):
            return
        snapshot_versions = cast(_AggregateRepository, self.repository).snapshot_versions
        since = aggregate.version - snapshot_versions.get(aggregate.id, 0)
        if since >= max(SNAPSHOT_EVERY, aggregate.size // 4):
            snapshot_versions[aggregate.id] = aggregate.version
            self._background.submit(self._take_snapshot, aggregate)

    def _take_snapshot(self, aggregate: snapshots.Large) -> None:
        assert self.snapshots is not None
        try:
            self.snapshots.put([cast(Any, snapshots.take(aggregate))])
        except PersistenceError as error:
            self._log.warning("a snapshot was not taken", aggregate=str(aggregate.id), error=repr(error))


class _AggregateRepository(Repository[UUID]):
    """The library's repository, for aggregates that may not exist and snapshots that may be unreadable."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.snapshot_versions: dict[UUID, int] = {}
        """The version of each aggregate's newest known snapshot."""

    def cached(self, aggregate_id: UUID) -> Aggregate | None:
        """The aggregate if it is at hand."""
        assert self.cache is not None
        try:
            return cast(Aggregate, self.cache.get(aggregate_id))
        except KeyError:
            return None

    def load(self, aggregate_id: UUID, *, with_snapshot: bool) -> Aggregate | None:
        """The aggregate that the log tells of, or None; from now on it is at hand."""
        base = self._snapshot(aggregate_id) if with_snapshot else None
        stored = self.event_store.get(aggregate_id, gt=base.version if base else None)
        aggregate = project(base, cast("Iterable[DomainEvent]", stored))
        return None if aggregate is None else self.keep(aggregate)

    def keep(self, aggregate: Aggregate) -> Aggregate:
        """Have the aggregate at hand from now on."""
        assert self.cache is not None
        self.cache.put(aggregate.id, cast(Any, aggregate))
        return aggregate

    def _snapshot(self, aggregate_id: UUID) -> Aggregate | None:
        assert self.snapshot_store is not None
        for stored in self.snapshot_store.get(aggregate_id, desc=True, limit=1):
            aggregate = snapshots.restore(cast(Any, stored))
            if aggregate is not None:
                self.snapshot_versions[aggregate_id] = aggregate.version
            return aggregate
        return None


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(
        f"{detail} The command may or may not have been executed.", hint="Send it again with the same command id."
    )
