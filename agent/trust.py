"""Whom the agent believes: which of what it hears the control plane has said. Pure.

A record is judged before anything follows from it: that its signature is the control plane's, that it belongs where it
was heard, and that it can be read. What is refused is counted by reason, and told with the heartbeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from events.cidr import parse_network_cidr
from events.errors import InvalidCidrError
from events.records import (
    AnnouncementRecord,
    BgpPlanRecord,
    MachineRecord,
    MembershipRecord,
    NetworkPolicyRecord,
    NetworkRecord,
    PathRecord,
    PeerRecord,
    Record,
    RelayRecord,
    RoutingRecord,
)
from events.subjects import (
    PATHS_PREFIX,
    STATE_PREFIX,
    bgp_plan,
    machine_info,
    machine_membership,
    machine_routing,
    network_announcement,
    network_info,
    network_peer,
    network_policy,
    path,
    relay,
    scope_of,
)
from events.trust.signing import Ring, Verifier

Reason = Literal["forged", "misdirected", "replayed", "older", "unusable"]
"""Why a record is refused: it is not the control plane's; it belongs to somebody else; it was heard before; it would
take a scope back; it is genuine, but the machine cannot obey it."""

SAY_AGAIN_AFTER = 60.0
"""For how many seconds a reason for refusing is not logged again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that may be believed, with the subject it stands under and its bytes."""

    subject: str
    record: Record
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record is not to be believed."""

    reason: Reason
    why: str
    unknown_key: bool = False
    """Whether it is signed with a key that the ring at hand does not have: a newer ring may."""


class Refusals:
    """How many records were refused, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: dict[Reason, float] = {}

    def count(self, reason: Reason, now: float) -> bool:
        """Count one, at `now` in seconds. Returns whether to log it: once a minute is enough for each reason."""
        self.counts[reason] += 1
        is_news = now - self._said.get(reason, -SAY_AGAIN_AFTER) >= SAY_AGAIN_AFTER
        if is_news:
            self._said[reason] = now
        return is_news


class Judge:
    """Tells what to believe."""

    def __init__(self, verifier: Verifier | None) -> None:
        """Without a verifier signatures are not looked at: the control plane has no keys."""
        self._verifier = verifier

    @property
    def is_strict(self) -> bool:
        """Whether records must be signed."""
        return self._verifier is not None

    @property
    def ring_version(self) -> int:
        """The version of the ring at hand; 0 for none."""
        return self._verifier.ring.version if self._verifier is not None else 0

    def adopt(self, ring: Ring) -> bool:
        """Take on another ring; whether it is newer. Raises `UntrustedRingError`."""
        return self._verifier is not None and self._verifier.adopt(ring)

    def judge(self, scope: str, subject: str, payload: bytes, signature: str) -> Entry | Refusal:
        """What to make of a record that was heard in a scope, said to stand under a STATE subject."""
        if self._verifier is not None and not self._verifier.is_genuine(subject, payload, signature):
            return self._not_genuine(self._verifier, subject, payload, signature)
        if not _is_of(scope, subject):
            return Refusal("misdirected", f"it belongs to {subject}, and was heard in {scope}")
        try:
            record = Record.model_validate_json(payload)
        except ValidationError as error:
            return Refusal("unusable", f"it cannot be read: {error}")
        if (true := _true_subject(record)) not in {None, subject}:
            return Refusal("misdirected", f"it is about {true}, and stands under {subject}")
        return Entry(subject, record, payload)

    def _not_genuine(self, verifier: Verifier, subject: str, payload: bytes, signature: str) -> Refusal:
        if signature and not verifier.knows(signature):
            return Refusal("forged", "its key is not one of the control plane's", unknown_key=True)
        try:
            true = _true_subject(Record.model_validate_json(payload))
        except ValidationError:
            true = None
        if true not in {None, subject} and verifier.is_genuine(true or "", payload, signature):
            return Refusal("misdirected", f"it is about {true}, and was shown under {subject}")
        return Refusal("forged", "it has no valid signature" if signature else "it is not signed")


def _is_of(scope: str, subject: str) -> bool:
    """Whether a subject is one of those that a network's or machine's scope has."""
    try:
        prefix, kind, _, *rest = subject.split(".")
        if scope_of(subject) != scope or prefix != (PATHS_PREFIX if kind in {"paths", "bgp"} else STATE_PREFIX):
            return False
        return _is_placed(kind, rest)
    except ValueError:
        return False


def _is_placed(kind: str, rest: list[str]) -> bool:
    """Whether this may follow a scope in a subject. Raises ValueError where it should hold an id and does not."""
    match kind, rest:
        case (("network" | "machine"), ["info"]) | ("machine", ["routing"]) | ("bgp", ["plan"]):
            return True
        case ("network", ["policy", direction]):
            return direction in {"import", "export"}
        case ("network", [("peer" | "announcement"), item]) | ("machine", ["network", item]):
            return str(UUID(item)) == item
        case ("paths", [("path" | "relay"), network, peer]):
            return str(UUID(network)) == network and str(UUID(peer)) == peer
    return False


_SUBJECTS: dict[type[Any], Callable[[Any], str]] = {
    NetworkRecord: lambda network: network_info(network.network_id),
    PeerRecord: lambda peer: network_peer(peer.network_id, peer.machine_id),
    MachineRecord: lambda machine: machine_info(machine.machine_id),
    MembershipRecord: lambda membership: machine_membership(membership.machine_id, membership.network_id),
    PathRecord: lambda way: path(way.machine_id, way.network_id, way.peer_id),
    RelayRecord: lambda passage: relay(passage.machine_id, passage.network_id, passage.peer_id),
    AnnouncementRecord: lambda said: network_announcement(said.network_id, said.machine_id),
    NetworkPolicyRecord: lambda said: network_policy(said.network_id, said.policy.direction),
    RoutingRecord: lambda duties: machine_routing(duties.machine_id),
    BgpPlanRecord: lambda plan: bgp_plan(plan.network_id),
}


def _true_subject(record: Record) -> str | None:
    """The subject that a record's body names; None for a tombstone, which names none."""
    if record.body is None:
        return None
    subject = _SUBJECTS.get(type(record.body))
    return "the access list" if subject is None else subject(record.body)


def why_unusable(membership: MembershipRecord) -> str:
    """Why a machine does not obey a membership; empty where it does. An interface routes its network's whole range: it
    must be one that a network may have."""
    try:
        parse_network_cidr(str(membership.network_cidr))
    except InvalidCidrError as error:
        return error.detail
    if membership.address not in membership.network_cidr:
        return f"its address {membership.address} lies outside {membership.network_cidr}"
    return ""
