"""Taking personal data out of an exported log, so that its chain and checkpoints still hold. Pure.

Who or what is to be forgotten must be deleted first: what still counts needs its name. Ids stay, for they are random;
so does what was done: who did it is then told apart by the first part of an id alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from events.archive.format import Archived
from events.audit.redaction import Stored, redacted
from events.codec import decode
from events.errors import ConflictError, NotFoundError
from events.subjects import BGP_STREAM, LOG_STREAM, REACH_STREAM
from events.trust.keys import Key

_ACCOUNT = "account:"
_NAMED_ACCOUNT = ("access.account_created", "access.account_deleted")
_NAMED_MACHINE = ("machine.registered", "machine.renamed", "machine.deleted")


@dataclass(slots=True)
class _Known:
    """An account or machine, and when there was one."""

    id: UUID
    names: set[str] = field(default_factory=set)
    first: int = 0
    last: int | None = None


class Survey:
    """Which accounts and machines a log tells of."""

    def __init__(self, messages: Iterable[Archived]) -> None:
        self._accounts: dict[UUID, _Known] = {}
        self._machines: dict[UUID, _Known] = {}
        self._actors: set[str] = set()
        for message in messages:
            if message.stream == LOG_STREAM:
                self._take(message)

    def account(self, called: str) -> _Known:
        """The deleted account with this name or id. Raises `NotFoundError`, and `ConflictError` where it is not deleted
        or several had the name."""
        return _found(self._accounts, called, "account")

    def machine(self, called: str) -> _Known:
        """The deleted machine with this hostname or id. Raises as `account` does."""
        return _found(self._machines, called, "machine")

    def actor(self, called: str) -> str:
        """Who gave commands, as the log has it. Raises `NotFoundError` where nobody of that name did."""
        if called not in self._actors:
            raise NotFoundError(
                f"The log tells of nobody {called} who gave commands.",
                hint="Give it just as `wireloom log --json` has it: cli:anna, or account:anna/laptop.",
            )
        return called

    def _take(self, message: Archived) -> None:
        kind, fields = _kind(message), orjson.loads(message.payload)
        self._actors.add(fields["actor"])
        if kind not in (*_NAMED_ACCOUNT, *_NAMED_MACHINE):
            return
        is_account = kind in _NAMED_ACCOUNT
        known = self._accounts if is_account else self._machines
        item = UUID(fields["account_id" if is_account else "machine_id"])
        entry = known.setdefault(item, _Known(item, first=message.sequence))
        entry.names.add(fields["name" if is_account else "hostname"])
        if kind.endswith("deleted"):
            entry.last = message.sequence


class Forgetting:
    """Rewrites the messages of a log without what is to be forgotten."""

    def __init__(
        self,
        accounts: Iterable[_Known],
        machines: Iterable[_Known],
        actors: Iterable[str],
        now: datetime,
        root: Key | None,
    ) -> None:
        """`actors` are forgotten where they gave commands, each as the log has it; `root` signs what is done."""
        self.changed = 0
        """How many events were rewritten."""
        self.dropped = 0
        """How many reports were left out."""
        self._accounts = {known.id: known for known in accounts}
        self._machines = {known.id: known for known in machines}
        self._actors = frozenset(actors)
        self._now = now
        self._root = root

    def messages(self, messages: Iterable[Archived]) -> Iterator[Archived]:
        """The messages, without what is to be forgotten."""
        forgotten = {str(machine_id) for machine_id in self._machines}
        for message in messages:
            if message.stream == LOG_STREAM:
                yield self._event(message)
            elif message.stream in (REACH_STREAM, BGP_STREAM) and not forgotten.isdisjoint(message.subject.split(".")):
                self.dropped += 1
            else:
                yield message

    def _event(self, message: Archived) -> Archived:
        fields = orjson.loads(message.payload)
        left = fields | self._renamed(_kind(message), fields) | self._without_actor(message.sequence, fields)
        if left == fields:
            return message
        self.changed += 1
        stored = Stored(message.subject, message.beside, message.payload)
        state = redacted(stored, left, self._now, self._root)
        version, _, topic = message.beside.partition(" ")
        decode(UUID(message.subject.rpartition(".")[2]), int(version), topic, state)  # it can still be read
        return message._replace(payload=state)

    def _renamed(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields that name what is forgotten, as they are to be."""
        if kind in _NAMED_ACCOUNT and (account := _in(self._accounts, fields["account_id"])):
            return {"name": placeholder(account.id)}
        if kind == "access.api_token_issued" and _in(self._accounts, fields["account_id"]):
            return {"name": placeholder(UUID(fields["token_id"]))}
        if kind in _NAMED_MACHINE and (machine := _in(self._machines, fields["machine_id"])):
            names = ("hostname", "previous_hostname")
            return {name: placeholder(machine.id) for name in names if name in fields}
        if kind == "network.membership_registered" and _in(self._machines, fields["machine_id"]):
            return {"endpoints": []}
        return {}

    def _without_actor(self, sequence: int, fields: dict[str, Any]) -> dict[str, Any]:
        actor = fields["actor"]
        if actor in self._actors:
            return {"actor": "removed"}
        name = actor.removeprefix(_ACCOUNT).partition("/")[0]
        for account in self._accounts.values():
            was_there = account.first <= sequence and (account.last is None or sequence <= account.last)
            if actor.startswith(_ACCOUNT) and name in account.names and was_there:
                return {"actor": f"{_ACCOUNT}{placeholder(account.id)}"}
        return {}


def placeholder(item: UUID) -> str:
    """What stands in the place of a name."""
    return f"removed-{str(item)[:8]}"


def _kind(message: Archived) -> str:
    return message.beside.partition(" ")[2].partition(":")[0]


def _in(known: dict[UUID, _Known], item: str) -> _Known | None:
    return known.get(UUID(item))


def _found(known: dict[UUID, _Known], called: str, what: str) -> _Known:
    found = [each for each in known.values() if called in each.names or called == str(each.id)]
    if not found:
        raise NotFoundError(f"The log tells of no {what} {called}.", hint="Give its name or uuid as the log has it.")
    if len(found) > 1:
        listed = ", ".join(str(each.id) for each in found)
        raise ConflictError(f"Several {what}s were called {called}: {listed}.", hint="Give one's uuid.")
    if found[0].last is None:
        raise ConflictError(
            f"The {what} {called} is not deleted: what still counts needs its name.",
            hint=f"Delete the {what}, then export the log again.",
        )
    return found[0]
