"""The log in a file: whole and undamaged or refused, and what can be taken out of it."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.archive.checking import Checked, entry_of
from events.archive.forgetting import Forgetting, Survey, placeholder
from events.archive.format import MAX_LINE, Archived, ArchiveError, Header, Reader, Writer
from events.audit.checkpoints import Checkpoint, make
from events.audit.verifier import LogVerifier
from events.codec import digest_of, encode, topic_of
from events.domain import DomainEvent
from events.errors import ConflictError, NotFoundError
from events.log import read_entry
from events.subjects import (
    BGP_STREAM,
    CHECKPOINTS_STREAM,
    LOG_STREAM,
    PLANS_STREAM,
    REACH_STREAM,
    log_subject,
    reach,
)
from events.trust.keys import Key, generate
from events.trust.signing import Ring, Signer
from services.cli.archive import opened_file
from services.cli.archive import written as written_file
from services.topology.core import Topology
from services.topology.shelf import Shelf
from tests.support.histories import History

NOW = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
ROOT, RECORDS = generate("operator"), generate("operator")


def messages(events: Iterable[DomainEvent]) -> list[Archived]:
    return [
        Archived(
            LOG_STREAM,
            sequence,
            log_subject(event.originator_id),
            f"{event.originator_version} {topic_of(type(event))}",
            encode(event),
        )
        for sequence, event in enumerate(events, 1)
    ]


def checkpointed(log: list[Archived]) -> list[Archived]:
    """The log with a signed checkpoint at its end before it."""
    verifier = LogVerifier()
    for message in log:
        assert not verifier.take(entry_of(message))
    checkpoint = Checkpoint(position=len(log), count=len(log), digest=verifier.digest.hex(), time=NOW)
    signed = make(checkpoint, Signer(RECORDS))
    subject = f"checkpoint.{len(log)}"
    return [Archived(CHECKPOINTS_STREAM, 1, subject, signed.signature, signed.checkpoint.encode()), *log]


def header(root: Key | None = ROOT) -> Header:
    ring = Ring(version=1, keys=(RECORDS.public,)).signed_by(root) if root else None
    return Header(release="1", made_at=NOW, root=root.public if root else "", ring=ring)


def written(found: Iterable[Archived]) -> list[bytes]:
    writer = Writer()
    return [writer.header(header()), *(writer.message(message) for message in found), writer.footer()]


def read(lines: Iterable[bytes]) -> list[Archived]:
    return list(Reader(lines).messages())


def sound(found: Iterable[Archived]) -> Checked:
    checked = Checked(header())
    for _ in checked.messages(found):
        pass
    checked.require_sound()
    return checked


@pytest.fixture(scope="module")
def history() -> History:
    history = History(seed=3)
    for _ in range(60):
        history.step()
    return history


@pytest.fixture(scope="module")
def log(history: History) -> list[Archived]:
    return checkpointed(messages(history.events))


def test_what_is_written_is_read(log: list[Archived]) -> None:
    assert read(written(log)) == log
    checked = sound(log)
    assert (checked.events, checked.covered) == (len(log) - 1, len(log) - 1)


def test_every_line_that_is_cut_swapped_doubled_or_missing_shows(log: list[Archived]) -> None:
    lines = written(log)
    for place in range(len(lines)):
        for damaged in (lines[:place], lines[:place] + lines[place + 1 :], [*lines[: place + 1], *lines[place:]]):
            with pytest.raises(ArchiveError):
                read(damaged)
    for place in range(1, len(lines) - 1):
        swapped = [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]
        with pytest.raises(ArchiveError):
            read(swapped)


@given(st.data())
def test_every_bit_that_is_flipped_shows(data: st.DataObject) -> None:
    history = History(seed=5)
    for _ in range(8):
        history.step()
    lines = written(checkpointed(messages(history.events)))
    number = data.draw(st.integers(0, len(lines) - 1))
    bit = data.draw(st.integers(0, len(lines[number]) * 8 - 1))
    damaged = bytearray(lines[number])
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ArchiveError):
        sound(read([*lines[:number], bytes(damaged), *lines[number + 1 :]]))


def test_what_is_no_export_is_refused() -> None:
    newer = b'{"format":"wireloom-log","version":99,"release":"1","made_at":"2026-01-01T00:00Z"}\n'
    for lines in ([], [b"\n"], [b"[]\n"], [newer]):
        with pytest.raises(ArchiveError):
            read(lines)


def test_a_log_that_does_not_verify_is_refused(log: list[Archived]) -> None:
    rewritten = [log[0], *log[2:]]
    with pytest.raises(ArchiveError, match="does not verify"):
        sound(read(written(rewritten)))


class Story:
    """An account and a machine that were deleted, and others that were not."""

    def __init__(self) -> None:
        self.history = History(seed=1)
        self.network = self.history.create_network()
        self.alice, self.bob = self.history.create_account(), self.history.create_account("admin")
        self.names = {event.account_id: event.name for event in self.history.events if hasattr(event, "role")}
        self.history.actor = f"account:{self.names[self.alice]}/laptop"
        self.history.issue_api_token(self.alice)
        self.gone, self.stays = self.history.register_machine("annas-phone"), self.history.register_machine("db-1")
        self.history.rename_machine(self.gone, "annas-tablet")
        self.history.assign(self.network, self.gone, self.stays)
        self.history.announce(self.network, self.gone)
        self.history.announce(self.network, self.stays)
        self.history.unassign(self.network, self.gone)
        self.history.actor = f"account:{self.names[self.bob]}/desk"
        self.history.delete_machine(self.gone)
        self.history.delete_account(self.alice)
        self.log = checkpointed(messages(self.history.events))
        self.reports = [
            Archived(REACH_STREAM, 1, reach(self.network, self.gone, self.stays), "", b"{}"),
            Archived(REACH_STREAM, 2, reach(self.network, self.stays, self.gone), "", b"{}"),
            Archived(REACH_STREAM, 3, reach(self.network, self.stays, uuid4()), "", b"{}"),
            Archived(BGP_STREAM, 4, f"bgp.{self.network}.{self.gone}.speaker", "", b"{}"),
        ]

    def forgetting(self, account: str, machine: str) -> Forgetting:
        survey = Survey(self.log)
        return Forgetting([survey.account(account)], [survey.machine(machine)], (), NOW, ROOT)


@pytest.fixture
def story() -> Story:
    return Story()


def test_who_is_forgotten_is_in_the_log_no_more_and_its_chain_and_checkpoints_hold(story: Story) -> None:
    name = story.names[story.alice]
    forgetting = story.forgetting(name, "annas-tablet")
    left = list(forgetting.messages([*story.log, *story.reports]))
    text = b"".join(message.payload for message in left)
    for gone in (name.encode(), b"annas-", f'"{name}/laptop"'.encode()):
        assert gone not in text
    assert story.names[story.bob].encode() in text
    assert (forgetting.dropped, [message.sequence for message in left if message.stream == REACH_STREAM]) == (3, [3])
    checked = sound(read(written(left)))
    assert checked.covered == len(story.log) - 1
    for before, after in zip(story.log[1:], left[1:], strict=False):
        assert read_entry(entry_of(after)).digest == read_entry(entry_of(before)).digest


def test_what_was_done_stays(story: Story) -> None:
    left = list(story.forgetting(str(story.alice), str(story.gone)).messages(story.log))
    assert derived(left) == derived(story.log)


def derived(log: Iterable[Archived]) -> dict[str, bytes]:
    """What follows from a log; the names of those who are gone are nowhere in it."""
    topology, shelf = Topology(), Shelf()
    for message in log:
        if message.stream == LOG_STREAM:
            logged = read_entry(entry_of(message))
            shelf.take(topology.apply(logged.sequence, logged.event))
    return shelf.contents()


def test_forgetting_twice_removes_no_more_and_the_chain_holds(story: Story) -> None:
    once = list(story.forgetting(str(story.alice), str(story.gone)).messages(story.log))
    survey = Survey(once)
    again = Forgetting([survey.account(placeholder(story.alice))], [], ["account:admin/desk"], NOW, ROOT)
    sound(again.messages(once))


def test_only_what_is_deleted_can_be_forgotten(story: Story) -> None:
    survey = Survey(story.log)
    with pytest.raises(ConflictError, match="not deleted"):
        survey.account(str(story.bob))
    with pytest.raises(ConflictError, match="not deleted"):
        survey.machine("db-1")
    with pytest.raises(NotFoundError):
        survey.machine("nobody")
    with pytest.raises(NotFoundError, match="nobody account:nobody who gave commands"):
        survey.actor("account:nobody")
    desk = f"account:{story.names[story.bob]}/desk"
    assert survey.actor(desk) == desk
    story.history.register_machine("annas-tablet")
    with pytest.raises(ConflictError, match="Several"):
        Survey(messages(story.history.events)).machine("annas-tablet")


def test_nobody_else_can_pretend_that_something_was_removed(story: Story) -> None:
    survey = Survey(story.log)
    for key in (generate("operator"), None):
        forged = Forgetting([survey.account(str(story.alice))], [], (), NOW, key)
        with pytest.raises(ArchiveError, match="removed"):
            sound(forged.messages(story.log))


def test_what_is_left_of_an_event_cannot_be_changed(story: Story) -> None:
    left = list(story.forgetting(str(story.alice), str(story.gone)).messages(story.log))
    chance = random.Random(1)
    marked = [place for place, message in enumerate(left) if b"$redacted" in message.payload]
    for _ in range(300):
        place = chance.choice(marked)
        damaged = bytearray(left[place].payload)
        bit = chance.randrange(len(damaged) * 8)
        damaged[bit // 8] ^= 1 << bit % 8
        changed = left[place]._replace(payload=bytes(damaged))
        verifier = LogVerifier(root=ROOT.public)
        found = [finding for each in (*left[1:place], changed) for finding in verifier.take(entry_of(each))]
        assert any(finding.position == changed.sequence for finding in found), damaged


def test_events_of_those_who_are_forgotten_keep_their_digests() -> None:
    history = History(seed=2)
    history.create_account()
    (event,) = history.events
    assert isinstance(event.originator_id, UUID)
    assert digest_of(event) == read_entry(entry_of(messages([event])[0])).digest


@pytest.mark.parametrize(
    "foreign",
    [
        Archived(REACH_STREAM, 1, f"log.{UUID(int=7)}", "", b"{}"),
        Archived(REACH_STREAM, 1, "allocator.execute", "", b"{}"),
        Archived(REACH_STREAM, 1, "reach.>", "", b"{}"),
        Archived(REACH_STREAM, 1, "reach.a b", "", b"{}"),
        Archived(REACH_STREAM, 1, "reach.a\r\nPUB log.a 0", "", b"{}"),
        Archived(REACH_STREAM, 1, "reach.a.b.c", "signed", b"{}"),
        Archived(BGP_STREAM, 1, "$JS.API.STREAM.PURGE.STATE", "", b""),
        Archived(PLANS_STREAM, 1, f"state.network.{UUID(int=7)}.info", "", b"{}"),
        Archived(CHECKPOINTS_STREAM, 1, "checkpoint.1", "a\r\nNats-Msg-Id: b", b"{}"),
        Archived(LOG_STREAM, 1, f"log.{UUID(int=7)}", "1 a:1\r\nNats-Msg-Id: b", b"{}"),
    ],
    ids=lambda message: f"{message.stream} {message.subject}",
)
def test_nothing_in_a_file_is_written_where_it_does_not_belong(foreign: Archived) -> None:
    with pytest.raises(ArchiveError, match="Line 2 of the file is damaged"):
        read(written([foreign]))


def test_a_file_without_the_ring_of_its_root_vouches_for_nothing() -> None:
    for lies in (header().model_copy(update={"ring": None}), header().model_copy(update={"root": ""})):
        with pytest.raises(ArchiveError, match="lacks the keys"):
            Checked(lies)


def test_a_line_without_end_is_not_taken_into_memory(tmp_path: Path) -> None:
    file = tmp_path / "bomb.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(written([])[0])
        packed.write(b"[" * (MAX_LINE + 2))
    with opened_file(file) as reader, pytest.raises(ArchiveError, match="longer than any message"):
        list(reader.messages())


def test_an_export_goes_into_no_file_of_anybody_else(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"")
    theirs.chmod(0o666)
    (tmp_path / "log.gz.part").symlink_to(theirs)
    with written_file(tmp_path / "log.gz") as draft:
        draft.write_bytes(b"names")
    assert theirs.read_bytes() == b""
    assert not (tmp_path / "log.gz").is_symlink()
    assert (tmp_path / "log.gz").stat().st_mode & 0o777 == 0o600
