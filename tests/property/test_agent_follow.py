"""Whatever gets lost, doubled or out of order on the way: the follower ends with what the control plane has."""

from __future__ import annotations

from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from agent.follow import Follower, Update
from agent.trust import Entry
from events.records import Record, SubjectRecord, SyncReply, SyncRequest
from events.subjects import network_peer
from tests.support.device_contract import a_key
from tests.support.state_model import StateModel, entry_of

NETWORK = UUID(int=99)
SCOPE = f"network:{NETWORK}"
KEYS = tuple(a_key() for _ in range(3))
members = st.integers(1, 5).map(lambda n: UUID(int=n))


class Following(RuleBasedStateMachine):
    """Messages wait in a bundle and are delivered, doubled or lost in any order; answers may be late."""

    messages = Bundle("messages")
    answers = Bundle("answers")

    @initialize(page=st.integers(1, 4), known=st.booleans())
    def begin(self, page: int, known: bool) -> None:
        self.model = StateModel(page)
        self.model.create_network(NETWORK, "n", "10.0.0.0/24")
        for machine in range(1, 6):
            self.model.register(UUID(int=machine), f"m{machine}")
            self.model.assign(NETWORK, UUID(int=machine), f"10.0.0.{machine}")
        self.held: dict[str, Record] = {}
        self.follower = Follower(SCOPE, never_back=self.never_back)
        if known:
            self.catch_up()

    @rule(target=messages, machine=members, key=st.sampled_from(KEYS))
    def announce(self, machine: UUID, key: str):  # type: ignore[no-untyped-def]
        return multiple(*self.model.announce(NETWORK, machine, key, ()))

    @rule(target=messages, machine=members)
    def tombstone(self, machine: UUID):  # type: ignore[no-untyped-def]
        return multiple(self.model.put(network_peer(NETWORK, machine), None))

    @rule(message=messages)
    def deliver(self, message: SubjectRecord) -> None:
        if message.record.cause < self.first_cause:
            return
        entry = entry_of(message)
        assert not self.follower.is_replay(entry) or message.record.revision <= self.heard
        self.heard = max(self.heard, message.record.revision)
        if self.follower.hear(entry):
            self.take(entry)

    @rule(message=consumes(messages))
    def lose(self, message: SubjectRecord) -> None:
        pass

    @rule(target=answers)
    def ask(self) -> tuple[StateModel, SyncRequest, SyncReply]:
        request = self.follower.request()
        return self.model, request, self.model.sync(request)

    @rule(answer=consumes(answers))
    def hear_answer(self, answer: tuple[StateModel, SyncRequest, SyncReply]) -> None:
        model, request, reply = answer
        if model is self.model and self.follower.behind and request == self.follower.request():
            self.update(self.answered(reply))

    @rule()
    def reconnect(self) -> None:
        self.follower.resync()

    @rule()
    def doubt(self) -> None:
        self.follower.restart()

    @rule()
    def crash(self) -> None:
        """The agent starts again with what its disk holds."""
        self.follower = Follower(SCOPE, self.on_disk, never_back=self.never_back)
        self.heard = self.on_disk
        for subject, record in self.held.items():
            self.follower.hold(entry_of(SubjectRecord(subject=subject, record=record)))
        if self.is_new_history:
            self.follower.may_go_back = True
            self.follower.restart()

    @rule()
    def control_plane_starts_over(self) -> None:
        """Another history, as from a backup, with revisions of its own."""
        self.first_cause = self.model.cause + 1
        self.model = StateModel(self.model.page)
        self.model.cause = self.first_cause
        self.model.create_network(NETWORK, "n", "10.0.0.0/24")
        for machine in range(1, 6):
            self.model.assign(NETWORK, UUID(int=machine), f"10.0.0.{machine}")
        self.follower.may_go_back = True
        self.follower.resync()
        self.follower.restart()
        self.is_new_history = True

    never_back = False
    heard = 0
    """The highest revision that was delivered live."""
    on_disk = 0
    is_new_history = False
    """Revisions cannot tell one history from another that is longer; whoever starts over has the agents told."""
    first_cause = 0
    """The first log position of the present history: messages of an earlier one do not outlive their bus."""

    def answered(self, reply: SyncReply) -> Update:
        return self.follower.answer(reply, [entry_of(said) for said in reply.records])

    def take(self, message: Entry) -> None:
        if message.record.body is None:
            self.held.pop(message.subject, None)
        else:
            self.held[message.subject] = message.record
        self.on_disk = message.record.revision

    def update(self, update: Update) -> None:
        assert not update.gone
        assert not update.older or self.never_back
        for entry in update.records:
            self.take(entry)
        if update.keep is not None:
            self.held = {subject: record for subject, record in self.held.items() if subject in update.keep}
        self.on_disk = update.revision
        self.is_new_history = self.is_new_history and self.follower.behind

    def catch_up(self) -> None:
        for _ in range(200):
            if not self.follower.behind:
                return
            self.update(self.answered(self.model.sync(self.follower.request())))
        raise AssertionError("it never catches up")

    @invariant()
    def what_is_held_was_said(self) -> None:
        assert all(record.body is not None for record in getattr(self, "held", {}).values())

    def teardown(self) -> None:
        if hasattr(self, "follower"):
            self.follower.resync()
            self.catch_up()
            expected = {
                subject: record
                for subject, record in self.model.records.items()
                if subject.startswith(f"state.network.{NETWORK}.") and record.body is not None
            }
            assert self.held == expected
            assert self.follower.revision == self.on_disk == self.model.revisions[SCOPE]


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=60, stateful_step_count=40)


class FollowingAndNeverGoingBack(Following):
    """The same where records are signed: only new keys let a scope go back."""

    never_back = True


TestFollowingAndNeverGoingBack = FollowingAndNeverGoingBack.TestCase
TestFollowingAndNeverGoingBack.settings = settings(max_examples=60, stateful_step_count=40)
