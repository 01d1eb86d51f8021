"""Checking the log: what is damaged, moved, removed or forged is found and named."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from events.audit.findings import MEANINGS, Finding
from events.client import Entry
from events.domain import REGISTRY_ID, MachineRegistered
from tests.support.histories import History
from tests.support.logbook import check, checkpoint_at, checkpoints_of, entries_of, rechained, renumbered


@pytest.fixture(scope="module")
def small() -> list[Entry]:
    history = History(3)
    network = history.create_network()
    machine = history.join(network)
    history.rename_network(network, "lab")
    history.rename_machine(machine, "db-1")
    history.rename_machine(machine, "db-2")
    return entries_of(history.events, batch=3)


@pytest.fixture(scope="module")
def large() -> list[Entry]:
    history = History(4)
    networks = [history.create_network() for _ in range(5)]
    machines = [history.join(networks[number % 5]) for number in range(100)]
    dice = random.Random(4)
    while len(history.events) < 10_500:
        history.rename_machine(dice.choice(machines), f"host-{len(history.events)}")
        history.rename_network(dice.choice(networks), f"net-{len(history.events)}")
    return entries_of(history.events, batch=7)


def codes(findings: list[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def flipped(raw: bytes, bit: int) -> bytes:
    damaged = bytearray(raw)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def flips(entry: Entry) -> Iterator[Entry]:
    """A message with each of its bits turned around: subject, header block and payload."""
    for bit in range(len(entry.subject) * 8):
        yield entry._replace(subject=flipped(entry.subject.encode(), bit).decode("latin-1"))
    for bit in range(len(entry.headers) * 8):
        yield entry._replace(headers=flipped(entry.headers, bit))
    for bit in range(len(entry.data) * 8):
        yield entry._replace(data=flipped(entry.data, bit))


def test_a_log_in_order(small: list[Entry], large: list[Entry]) -> None:
    for entries in (small, large, renumbered(large)):
        marks = [checkpoint_at(entries, position) for position in (1, len(entries) // 2, len(entries))]
        assert check(entries, marks) == []
    assert check([]) == []


def test_the_running_digest_says_only_what_makes_the_events(small: list[Entry]) -> None:
    assert checkpoint_at(small, 7).digest == checkpoint_at(renumbered(small), 7).digest


def test_every_bit_counts(small: list[Entry]) -> None:
    """Of every message, the whole header block too, with a checkpoint that covers it."""
    marks = [checkpoint_at(small, len(small))]
    assert check(small, marks) == []
    tried = 0
    for index, entry in enumerate(small):
        for damaged in flips(entry):
            findings = check([*small[:index], damaged, *small[index + 1 :]], marks)
            assert findings, (index, damaged)
            assert (
                min(finding.position for finding in findings) <= index + 2
            )  # a batch's name shows at its next message
            tried += 1
    assert tried > 25_000


def test_without_a_checkpoint_every_bit_counts_of_what_another_event_follows(small: list[Entry]) -> None:
    for index, entry in enumerate(small):
        if any(later.subject == entry.subject for later in small[index + 1 :]):
            for bit in range(len(entry.data) * 8):
                damaged = entry._replace(data=flipped(entry.data, bit))
                assert check([*small[:index], damaged, *small[index + 1 :]])


def test_a_thousand_random_bits_of_a_large_log(large: list[Entry]) -> None:
    """Each in a log of its own would take long: so each between two checkpoints, and two positions apart, for what is
    wrong with a batch may show at its next message only."""
    dice = random.Random(5)
    positions = sorted(dice.sample(range(1, len(large) + 1, 2), 1000))
    marks = checkpoints_of(large)
    entries = list(large)
    for position in positions:
        entry = entries[position - 1]
        part = dice.choice(("headers", "data", "data"))
        raw = getattr(entry, part)
        entries[position - 1] = entry._replace(**{part: flipped(raw, dice.randrange(len(raw) * 8))})
    findings = check(entries, marks)
    told = {finding.position for finding in findings}
    assert all({position, position + 1} & told for position in positions)


def test_a_missing_message_is_named(large: list[Entry]) -> None:
    (gap,) = (found for found in check([*large[:41], *large[42:]]) if found.code == "missing")
    assert (gap.position, gap.problem) == (42, "position 42 is missing")
    (gap,) = (found for found in check([*large[:41], *large[44:]]) if found.code == "missing")
    assert gap.problem == "positions 42 to 44 are missing"
    assert "missing" in codes(check(large[1:]))
    (gap,) = (found for found in check(large[:-2], end=len(large)) if found.code == "missing")
    assert gap.position == len(large) - 1


def test_in_another_stream_a_removed_event_shows_by_its_aggregate(large: list[Entry]) -> None:
    following = next(i for i, entry in enumerate(large) if any(e.subject == entry.subject for e in large[i + 1 :]))
    entries = renumbered([*large[:following], *large[following + 1 :]])
    (found,) = check(entries)
    assert found.code == "version"
    assert str(found.aggregate) in large[following].subject


def test_swapped_duplicated_and_inserted_events(large: list[Entry]) -> None:
    registry = [i for i, entry in enumerate(large) if entry.subject.endswith(str(REGISTRY_ID))]
    one, other = registry[3], registry[4]
    swapped = list(large)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    found = [finding for finding in check(renumbered(swapped)) if finding.code == "version"]
    assert [finding.position for finding in found] == [one + 1, other + 1, registry[5] + 1]
    assert all(finding.aggregate == REGISTRY_ID for finding in found)
    twice = check(renumbered([*large[: one + 1], large[one], *large[one + 1 :]]))
    assert [(finding.code, finding.position) for finding in twice] == [("version", one + 2), ("version", other + 2)][
        :1
    ] + [(finding.code, finding.position) for finding in twice[1:]]
    strange = Entry(0, f"log.{uuid4()}", large[one].headers, large[one].data)
    inserted = check(renumbered([*large[:one], strange, *large[one:]]))
    assert inserted[0].position == one + 1
    assert inserted[0].code == "version"


def test_swapped_events_of_different_aggregates_show_by_a_checkpoint(large: list[Entry]) -> None:
    index = next(i for i in range(100, 200) if large[i].subject != large[i + 1].subject)
    swapped = list(large)
    swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
    marks = [checkpoint_at(large, 1000), checkpoint_at(large, len(large))]
    findings = check(renumbered(swapped), marks)
    assert codes(findings) >= {"digest"}
    assert next(f for f in findings if f.code == "digest").position == 1


def test_an_event_rewritten_with_its_chain_is_found_by_the_checkpoint(large: list[Entry]) -> None:
    index = next(i for i, entry in enumerate(large) if i > 2500 and b"host" in entry.data)
    forged = list(large)
    data = forged[index].data
    forged[index] = forged[index]._replace(data=data.replace(b'"actor":"cli:test"', b'"actor":"cli:nobody"'))
    assert forged[index].data != data
    forged = rechained(forged)
    assert check(forged) == []
    marks = [checkpoint_at(large, position) for position in (1000, 2000, 3000, len(large))]
    findings = check(forged, marks)
    assert codes(findings) == {"digest"}
    segment = index // 1000 * 1000
    assert findings[0].position == segment + 1
    assert f"from position {segment + 1} to" in findings[0].problem


def test_a_truncated_log_is_found_by_the_checkpoint(large: list[Entry]) -> None:
    marks = [checkpoint_at(large, 1000), checkpoint_at(large, len(large))]
    assert check(large[:4998]) == []
    (found,) = check(large[:4998], marks)
    assert (found.code, found.position) == ("truncated", len(large))
    assert "ends at position 4998" in found.problem
    (found,) = check([], marks[:1])
    assert found.code == "truncated"


def test_after_a_checkpoint_that_differs_later_ones_still_count(large: list[Entry]) -> None:
    marks = [checkpoint_at(large, position) for position in (1000, 2000, 3000)]
    wrong = marks[1].model_copy(update={"digest": "0" * 64})
    findings = check(large, [marks[0], wrong, marks[2]])
    assert [finding.position for finding in findings] == [1001, 2001]


def test_what_is_no_event_is_named(small: list[Entry]) -> None:
    for subject in ("log.tracking.x", "log.", "elsewhere", f"log.{str(uuid4()).upper()}"):
        findings = check([small[0]._replace(subject=subject)])
        assert codes(findings) == {"foreign"}, subject
    headers = b"NATS/1.0\r\nWl-Event: 01 network.created:1\r\n\r\n"
    assert codes(check([small[0]._replace(headers=headers)])) == {"foreign"}
    for headers in (b"", b"NATS/1.0\r\n\r\n", small[0].headers.replace(b"Wl-Event", b"Wl-Evemt")):
        assert codes(check([small[0]._replace(headers=headers)])) == {"envelope", "foreign"}
    extra = small[0].headers.replace(b"\r\n\r\n", b"\r\nX-Note: hello\r\n\r\n")
    assert codes(check([small[0]._replace(headers=extra)])) == {"envelope"}


def test_a_newer_schema_is_unreadable_and_its_chain_goes_on() -> None:
    history = History()
    history.create_network()
    history.create_network()
    entries = entries_of(history.events)
    newer = entries[0]._replace(headers=entries[0].headers.replace(b"created:1", b"created:9"))
    assert [finding.code for finding in check([newer, entries[1]])] == ["unreadable", "chain"]


def test_a_clock_that_was_set_back_is_a_notice(small: list[Entry]) -> None:
    history = History()
    history.register_machine()
    history.let_pass(timedelta(days=1))
    history.register_machine()
    history.let_pass(timedelta(days=-2))
    history.register_machine()
    history.register_machine()
    (found,) = check(entries_of(history.events))
    assert (found.code, found.position, found.is_notice) == ("time", 3, True)


def test_the_events_of_a_command_agree() -> None:
    history = History()
    history.register_machine()
    history.register_machine()
    one, other = history.events
    assert isinstance(other, MachineRegistered)
    forged = other.model_copy(update={"command_id": one.command_id, "actor": "cli:eve"})
    (found,) = check(entries_of([one, forged]))
    assert (found.code, found.position) == ("command", 2)


def test_every_code_says_what_it_means() -> None:
    assert all(meaning and advice for meaning, advice in MEANINGS.values())
