"""Undo over random histories: a command's effects are gone and nothing else is, or everything stays as it was."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events.commands import DeleteNetwork
from events.domain import ApiTokenRevoked
from events.errors import CannotUndoError
from events.records import SubjectRecord
from events.state import decode_record
from services.allocator.undo import NEVER
from services.topology.core import Topology
from services.topology.restore import restore
from services.topology.shelf import Shelf
from tests.support.undoing import Given, World

seeds = st.integers(0, 2**32)
lengths = st.integers(1, 40)


def _differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@given(seeds, lengths, st.integers(1, 4))
def test_undoing_the_newest_commands_one_after_the_other_leads_back(seed: int, length: int, count: int) -> None:
    world = World(seed)
    for _ in range(length):
        world.step(is_watched=False)
    newest = [world.step() for _ in range(count)]
    for done in reversed([each for each in newest if each is not None]):
        before, log = world.state(), len(world.recorder.stored_events)
        assert not _differences(before, done.after)
        undone = _undone(world, done)
        if undone is None:
            assert len(world.recorder.stored_events) == log, "a refused undo changes nothing"
            assert not _differences(world.state(), before)
            return
        assert undone.outcome.changed or not _differences(done.before, done.after)
        assert not _differences(world.state(), done.before), "undo then diff is empty"


@given(seeds, lengths)
def test_an_undo_can_be_undone(seed: int, length: int) -> None:
    world = World(seed)
    for _ in range(length):
        world.step(is_watched=False)
    done = world.step()
    undone = None if done is None else _undone(world, done)
    if done is None or undone is None or not undone.outcome.changed:
        return
    events = [placed.event for placed in world.events() if placed.event.command_id == undone.command.command_id]
    if _undone(world, undone) is None:
        assert any(type(event) in NEVER or isinstance(event, ApiTokenRevoked) for event in events)
    else:
        assert not _differences(world.state(), done.after)


@given(seeds, lengths, st.integers(1, 20))
def test_undoing_an_older_command_touches_nothing_else(seed: int, length: int, since: int) -> None:
    world = World(seed)
    for _ in range(length):
        world.step(is_watched=False)
    done = world.step()
    if done is None:
        return
    for _ in range(since):
        world.step(is_watched=False)
    before, log = world.state(), len(world.recorder.stored_events)
    if _undone(world, done) is None:
        assert len(world.recorder.stored_events) == log, "a refused undo changes nothing"
        assert not _differences(world.state(), before)
        return
    own = _differences(done.before, done.after)
    for key, (_, now) in _decided(_differences(before, world.state()).items()):
        assert key in own, f"{key} was no effect of the command"
        assert now == own[key][0], f"{key} is not as it was before the command"


def _undone(world: World, done: Given) -> Given | None:
    """The undo of a command; None where it is refused."""
    refusal: CannotUndoError | None = None
    try:
        return world.undo(done)
    except CannotUndoError as error:
        refusal = error
    assert refusal.hint
    return None


def _decided(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Without the records, and the index, which follow from several things."""
    return [(key, value) for key, value in items if not key.startswith("state.") and key != "claims"]


@settings(max_examples=30)
@given(seeds, lengths)
def test_a_network_that_comes_back_is_derived_the_same_wherever_the_topology_service_begins(
    seed: int, length: int
) -> None:
    world = World(seed)
    for _ in range(length):
        world.step(is_watched=False)
    if not world.registry.networks:
        return
    gone = world.give(DeleteNetwork, is_watched=False, network_id=min(world.registry.networks), force=True)
    restarts = len(world.recorder.stored_events)
    if _undone(world, gone) is None:
        return
    for _ in range(5):
        world.step(is_watched=False)
    for position in range(restarts, len(world.recorder.stored_events) + 1):
        topology, shelf = Topology(), Shelf()
        for sequence, event in world.events():
            shelf.take(topology.apply(sequence, event))
            if sequence == position:
                records = [SubjectRecord(subject=at, record=decode_record(it)) for at, it in shelf.contents().items()]
                topology, due = restore(records)
                assert not due
        world.records()
        assert shelf.contents() == world.shelf.contents()
