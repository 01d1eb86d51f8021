"""What one event changed: its fields, before and after, as far as the log tells. Pure.

An event says how things are from then on; how they were, the event before it of the same thing says. Secrets' hashes
are never shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from events.client import Entry
from events.domain import DomainEvent
from events.subjects import log_subject
from services.gateway.mirror import Mirror
from services.gateway.naming import NameOf

HIDDEN = {"secret_hash"}

_BESIDE = {"originator_id", "originator_version", "previous_hash", "time", "actor", "command_id"}
_PREVIOUS = "previous_"
_UNTIL_THEN: dict[str, dict[str, object]] = {
    "machine.transit_set": {"transit": "auto"},
    "routing.gateway_set": {"network_ids": ()},
    "routing.reflectors_pinned": {"machine_ids": ()},
    "network.route_reflector_mode_set": {"enabled": False},
}
"""How things are before anybody has said so."""

_LABELS = {
    "agent_version": "Agent",
    "begun_with": "Begun with API token",
    "identity_key": "Identity key",
    "is_default": "Default network",
    "network_cidr": "Network CIDR",
    "previous_network_id": "Default network before",
    "public_key": "Public key",
    "local_pref": "Local preference",
}


@dataclass(frozen=True, slots=True)
class Thread:
    """Which earlier events say how things were that an event changes: of these `kinds`, with the same `items`. Where
    one of `ends` comes first, there was nothing any more. `renamed` is what a field is called there."""

    kinds: frozenset[str]
    items: tuple[str, ...]
    ends: frozenset[str] = frozenset()
    renamed: dict[str, str] = field(default_factory=dict)


def _thread(*kinds: str, items: tuple[str, ...], ends: tuple[str, ...] = (), **renamed: str) -> Thread:
    return Thread(frozenset(kinds), items, frozenset(ends), renamed)


def _routing(what: str, item: str) -> dict[str, Thread]:
    thread = _thread(f"routing.{what}_created", f"routing.{what}_updated", items=(item,))
    return {f"routing.{what}_updated": thread, f"routing.{what}_deleted": thread}


THREADS: dict[str, Thread] = {
    "network.route_reflector_mode_set": _thread(
        "network.created",
        "network.route_reflector_mode_set",
        items=("network_id",),
        route_reflector_mode="enabled",
    ),
    "network.membership_registered": _thread(
        "network.membership_registered",
        items=("network_id", "machine_id"),
        ends=("network.machines_unassigned",),
    ),
    "network.key_rotation_requested": _thread("network.key_rotation_requested", items=("network_id", "machine_id")),
    "machine.agent_updated": _thread("machine.registered", "machine.agent_updated", items=("machine_id",)),
    "machine.transit_set": _thread("machine.transit_set", items=("machine_id",)),
    "routing.gateway_set": _thread("routing.gateway_set", items=("machine_id",)),
    "routing.reflectors_pinned": _thread("routing.reflectors_pinned", items=("network_id",)),
    **_routing("route", "route_id"),
    **_routing("vip", "vip_id"),
    **_routing("policy", "policy_id"),
}


class Before:
    """Finds, from newer to older, the event that says how things were before `event`."""

    def __init__(self, event: DomainEvent) -> None:
        self._event = event
        self._thread = THREADS.get(event.kind)
        self._subject = log_subject(event.originator_id)
        items = () if self._thread is None else self._thread.items
        self._items = [str(getattr(event, item)) for item in items]

    @property
    def is_of_use(self) -> bool:
        """Whether an earlier event could tell anything."""
        return self._thread is not None and self._event.originator_version > 1

    def may_match(self, entry: Entry) -> bool:
        """False for what is surely no such event."""
        return entry.subject == self._subject and all(item.encode() in entry.data for item in self._items)

    def matches(self, event: DomainEvent) -> bool:
        """Whether this is it, or nothing before it can be."""
        thread = self._thread
        if thread is None or event.kind not in thread.kinds | thread.ends:
            return False
        return event.kind in thread.ends or all(
            getattr(event, item) == getattr(self._event, item) for item in thread.items
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One field. `before` is None where nothing is known of it, or nothing was."""

    label: str
    before: tuple[str, ...] | None
    after: tuple[str, ...] | None

    @property
    def differs(self) -> bool:
        """Whether it is another now."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event changed, and what it left as it was."""

    changes: tuple[Change, ...]
    same: tuple[Change, ...]
    compared: bool
    """Whether there is a before to compare with."""
    incomplete: bool
    """Whether the log was not looked through far enough to tell."""


def effect_of(event: DomainEvent, before: DomainEvent | None, looked_everywhere: bool, mirror: Mirror) -> Effect:
    """What an event changed; `before` is what `Before` found."""
    thread = THREADS.get(event.kind)
    name_of = mirror.name_of
    after = _fields(event, name_of)
    old: dict[str, tuple[str, ...]] = {}
    if thread is not None and before is not None and before.kind in thread.kinds:
        old = {thread.renamed.get(name, name): value for name, value in _fields(before, name_of).items()}
    elif thread is not None and looked_everywhere:
        old = {name: _texts(name, value, name_of) for name, value in _UNTIL_THEN.get(event.kind, {}).items()}
    for name in [name for name in after if name.startswith(_PREVIOUS)]:
        old[name.removeprefix(_PREVIOUS)] = after.pop(name)
    items = {_itself(event)} if thread is None else {_itself(event), *thread.items}
    if event.kind.endswith("_deleted") or event.kind.endswith(".deleted"):
        gone = [name for name in {**old, **after} if name not in items]
        changes = [Change(_label(name), old.get(name, after.get(name)), None) for name in gone]
    else:
        changes = [Change(_label(name), old.get(name), value) for name, value in after.items() if name not in items]
    return Effect(
        changes=tuple(change for change in changes if change.differs),
        same=tuple(change for change in changes if not change.differs),
        compared=bool(old) or event.kind.endswith("deleted"),
        incomplete=thread is not None and before is None and not looked_everywhere,
    )


def _fields(event: DomainEvent, name_of: NameOf) -> dict[str, tuple[str, ...]]:
    """An event's own fields, each as lines for people; those of a model in it among them."""
    found: dict[str, tuple[str, ...]] = {}
    for name in type(event).model_fields:
        value = getattr(event, name)
        if name in _BESIDE | HIDDEN:
            continue
        if isinstance(value, BaseModel):
            inner = {part: getattr(value, part) for part in type(value).model_fields}
            found |= {f"{name}.{part}": _texts(part, given, name_of) for part, given in inner.items()}
        else:
            found[name] = _texts(name, value, name_of)
    return found


def _itself(event: DomainEvent) -> str:
    """The field that only says what the event is about: of `routing.route_created` `route_id`."""
    what = event.kind.removeprefix("routing.").partition("_")[0].partition(".")[0]
    return "" if event.kind == "network.default_set" else f"{what}_id"


def _texts(name: str, value: Any, name_of: NameOf) -> tuple[str, ...]:
    if isinstance(value, tuple | list):
        return tuple(text for item in value for text in _texts(name, item, name_of)) or ("none",)
    match value:
        case None:
            text = {"uses": "any number", "expires_at": "never"}.get(name, "none")
        case bool():
            text = "yes" if value else "no"
        case UUID():
            text = name_of(value) or str(value)
        case datetime():
            text = f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case BaseModel():
            text = _line(value, name_of)
        case _:
            text = str(value) or "none"
    return (text,)


def _line(model: BaseModel, name_of: NameOf) -> str:
    """A model within a list: what it says beyond its defaults."""
    said: Iterable[str] = (
        name for name, info in type(model).model_fields.items() if getattr(model, name) != info.default
    )
    return "; ".join(
        f"{_label(name).lower()} {', '.join(_texts(name, getattr(model, name), name_of))}" for name in said
    )


def _label(name: str) -> str:
    """`network_ids` as `Networks`, `health_check.type` as `Health check: type`."""
    whole, _, part = name.partition(".")
    if part:
        return f"{_label(whole)}: {_label(part)[0].lower()}{_label(part)[1:]}" if whole != "policy" else _label(part)
    if name in _LABELS:
        return _LABELS[name]
    plural = name.removesuffix("_ids") + "s" if name.endswith("_ids") else name.removesuffix("_id")
    return plural.replace("_", " ").capitalize()
