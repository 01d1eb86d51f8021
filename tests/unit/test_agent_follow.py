"""Following a scope, by example; `tests/property/test_agent_follow.py` has the rest."""

from __future__ import annotations

from uuid import UUID

from agent.follow import MAX_SHORT, MAX_STALE, Follower, Update
from events.records import SubjectRecord, SyncReply
from tests.support.device_contract import a_key
from tests.support.state_model import StateModel, entry_of

NETWORK = UUID(int=99)
SCOPE = f"network:{NETWORK}"


def a_model(members: int, page: int = 1000) -> StateModel:
    model = StateModel(page)
    model.create_network(NETWORK, "n", "10.0.0.0/24")
    for number in range(1, members + 1):
        announce(model, number)
    return model


def announce(model: StateModel, number: int) -> SubjectRecord:
    model.assign(NETWORK, UUID(int=number), f"10.0.0.{number}")
    (said,) = model.announce(NETWORK, UUID(int=number), a_key(), ())
    return said


def answered(follower: Follower, reply: SyncReply) -> Update:
    return follower.answer(reply, [entry_of(said) for said in reply.records])


def caught_up(model: StateModel) -> Follower:
    follower = Follower(SCOPE)
    while follower.behind:
        answered(follower, model.sync(follower.request()))
    return follower


def test_records_in_a_row_apply_at_once_and_doubles_do_not() -> None:
    model = a_model(1)
    follower = caught_up(model)
    said = announce(model, 2)
    assert follower.hear(entry_of(said))
    assert not follower.hear(entry_of(said))
    assert not follower.behind


def test_a_gap_is_filled_and_what_was_heard_meanwhile_joins_up() -> None:
    model = a_model(1)
    follower = caught_up(model)
    announce(model, 2)
    third = announce(model, 3)
    assert not follower.hear(entry_of(third))
    assert follower.behind
    reply = model.sync(follower.request())
    fourth = announce(model, 4)
    assert not follower.hear(entry_of(fourth))
    update = answered(follower, reply)
    assert [entry.record.revision for entry in update.records] == [3, 4, 5]
    assert update.keep is None
    assert not follower.behind


def test_an_answer_older_than_what_was_heard_is_not_enough_for_long() -> None:
    model = a_model(1)
    follower = caught_up(model)
    old = model.sync(follower.request())
    announce(model, 2)
    third = announce(model, 3)
    follower.hear(entry_of(third))
    for _ in range(MAX_SHORT - 1):
        assert answered(follower, old).records == ()
        assert follower.behind
    answered(follower, old)
    assert not follower.behind


def test_a_gateway_behind_the_times_does_not_reset_what_is_held() -> None:
    model = a_model(5)
    follower = caught_up(model)
    follower.resync()
    for _ in range(MAX_STALE - 1):
        update = answered(follower, a_model(3).sync(follower.request()))
        assert update.keep is None
        assert update.revision == follower.revision == 6
    assert answered(follower, model.sync(follower.request())).keep is None
    assert not follower.behind


def test_another_history_is_believed_in_the_end_and_replaces_what_is_held() -> None:
    follower = caught_up(a_model(9))
    follower.resync()
    other, kept, asked = a_model(3, page=2), None, 0
    while follower.behind:
        update = answered(follower, other.sync(follower.request()))
        kept, asked = update.keep, asked + 1
        assert update.revision in ({4} if update.keep is not None else {0, 10})
    assert kept == set(other.records) - {s for s in other.records if ".machine." in s}
    assert asked <= MAX_STALE + 2
    assert follower.revision == 4


def test_a_doubt_is_settled_by_the_whole_scope_page_by_page() -> None:
    model = a_model(5, page=2)
    follower = caught_up(model)
    follower.restart()
    updates = []
    while follower.behind:
        updates.append(answered(follower, model.sync(follower.request())))
    assert [update.revision for update in updates] == [0, 0, 6]
    assert updates[-1].keep is not None
    assert len(updates[-1].keep) == 6


def test_a_doubt_is_not_settled_by_a_gateway_behind_the_times() -> None:
    follower = caught_up(a_model(5))
    follower.restart()
    assert answered(follower, a_model(2).sync(follower.request())).keep is None
    assert follower.behind
