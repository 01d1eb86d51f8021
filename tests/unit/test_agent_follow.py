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


def strict(model: StateModel) -> Follower:
    """A follower that never goes back and has caught up."""
    follower = Follower(SCOPE, never_back=True)
    while follower.behind:
        answered(follower, model.sync(follower.request()))
    return follower


def test_one_that_never_goes_back_refuses_an_older_history_however_often_it_is_told() -> None:
    follower, older = strict(a_model(9)), a_model(3, page=2)
    for doubt in (follower.resync, follower.restart):
        doubt()
        for _ in range(3 * MAX_STALE):
            update = answered(follower, older.sync(follower.request()))
            assert (update.records, update.keep, update.revision) == ((), None, 10)
        assert update.older
        assert follower.behind
        assert follower.shown == 10


def test_after_new_keys_it_believes_one_older_history_and_no_second_one() -> None:
    follower, older = strict(a_model(9)), a_model(3, page=2)
    follower.resync()
    follower.may_go_back = True
    while follower.behind:
        update = answered(follower, older.sync(follower.request()))
    assert update.keep is not None
    assert follower.shown == update.revision == 4
    follower.resync()
    for _ in range(3 * MAX_STALE):
        assert answered(follower, a_model(1).sync(follower.request())).older
    assert follower.shown == 4


def test_it_takes_in_a_whole_scope_only_when_the_last_page_has_come() -> None:
    model = a_model(5, page=2)
    follower = strict(model)
    follower.restart()
    updates = []
    while follower.behind:
        updates.append(answered(follower, model.sync(follower.request())))
    assert [(len(update.records), update.revision) for update in updates] == [(0, 6), (0, 6), (6, 6)]
    assert updates[-1].keep is not None
    assert len(updates[-1].keep) == 6


def test_what_an_answer_claims_without_a_record_is_not_held() -> None:
    model = a_model(1)
    follower = strict(model)
    follower.resync()
    update = answered(follower, model.sync(follower.request()).model_copy(update={"revision": 99}))
    assert (follower.revision, follower.shown, update.revision) == (99, 2, 2)
    said = announce(model, 2)
    assert not follower.hear(entry_of(said))
    assert follower.behind
    update = answered(follower, model.sync(follower.request()))
    assert [entry.subject for entry in update.records] == [said.subject]
    assert follower.revision == follower.shown == 3


def test_a_live_record_is_a_replay_if_it_was_heard_before_and_is_not_what_is_held() -> None:
    model = a_model(2)
    follower = strict(model)
    first, second = announce(model, 3), announce(model, 3)
    for said in (first, second):
        assert not follower.is_replay(entry_of(said))
        assert follower.hear(entry_of(said))
    assert follower.is_replay(entry_of(first))
    assert not follower.is_replay(entry_of(second)), "it is what is held, signed anew"


def test_a_live_record_that_an_answer_overtook_is_no_replay() -> None:
    model = a_model(2)
    follower = strict(model)
    said = [announce(model, 3), announce(model, 3), announce(model, 3)]
    follower.resync()
    answered(follower, model.sync(follower.request()))
    for late in said:
        assert not follower.is_replay(entry_of(late))
        assert not follower.hear(entry_of(late))
    assert not follower.behind
