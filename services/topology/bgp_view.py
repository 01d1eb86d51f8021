"""What was seen of STATE, REACH and BGP, as far as it is about BGP plans: for each network its sight. Pure.

There are very many reports of links and sessions, and of each only a word counts here; so they are read without being
checked once more. The gateway wrote them, and checked them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import UUID

import orjson

from events.records import NetworkRecord
from events.routing import SessionKind
from events.state import decode_record
from events.subjects import BGP_STREAM, REACH_STREAM, STATE_STREAM
from services.topology.bgp_core import Settings
from services.topology.bgp_sight import Sight

_uuid = lru_cache(maxsize=50_000)(UUID)
"""The same few ids stand in very many reports."""

_KINDS: dict[str, SessionKind] = {"mesh": "mesh", "client": "client", "reflector": "reflector"}


@dataclass(slots=True)
class Seen:
    """A network, as far as it was seen."""

    sight: Sight = field(default_factory=Sight)
    settings: Settings = field(default_factory=Settings)
    is_there: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came of a stream, up to a sequence: subjects and payloads."""

    stream: str
    sequence: int
    messages: Iterable[tuple[str, bytes]] = ()


class View:
    """All networks."""

    def __init__(self) -> None:
        self.networks: dict[UUID, Seen] = {}
        self.reached = {STATE_STREAM: 0, REACH_STREAM: 0, BGP_STREAM: 0}
        """The sequences up to which each stream was seen."""
        self.changed: set[UUID] = set()
        """The networks of which something was seen since somebody looked."""
        self.deleted: set[UUID] = set()
        """Networks that were deleted, and whose plan is to be purged."""

    def take(self, arrived: Arrived) -> None:
        """See more."""
        for subject, payload in arrived.messages:
            if arrived.stream == STATE_STREAM:
                self._take_record(subject, payload)
            else:
                with suppress(ValueError, KeyError, TypeError):  # what cannot be read is no report
                    self._take_report(subject, payload)
        self.reached[arrived.stream] = max(self.reached[arrived.stream], arrived.sequence)

    def _take_record(self, subject: str, payload: bytes) -> None:
        match subject.split("."):
            case _, "network", network, "info":
                self._network(_uuid(network), payload)
            case _, "network", network, "peer", machine:
                is_member = orjson.loads(payload)["body"] is not None
                self._of(network).sight.member(_uuid(machine), is_member=is_member)

    def _take_report(self, subject: str, payload: bytes) -> None:
        match subject.split("."):
            case "reach", network, machine, peer:
                is_direct = orjson.loads(payload)["link"]["state"] == "direct"
                self._of(network).sight.link(_uuid(machine), _uuid(peer), is_direct=is_direct)
            case "bgp", network, machine, "speaker":
                self._of(network).sight.speaker(_uuid(machine), orjson.loads(payload)["state"]["state"])
            case "bgp", network, machine, "session", peer, kind if kind in _KINDS:
                is_established = orjson.loads(payload)["state"]["state"] == "established"
                ends = _uuid(machine), _uuid(peer)
                self._of(network).sight.session(*ends, _KINDS[kind], is_established=is_established)

    def _of(self, network: str) -> Seen:
        network_id = _uuid(network)
        self.changed.add(network_id)
        return self.networks.setdefault(network_id, Seen())

    def _network(self, network_id: UUID, payload: bytes) -> None:
        body = decode_record(payload).body
        seen = self._of(str(network_id))
        seen.is_there = isinstance(body, NetworkRecord)
        if isinstance(body, NetworkRecord):
            seen.settings = Settings(body.route_reflector_mode, body.reflectors)
            self.deleted.discard(network_id)
        else:
            seen.sight.clear()
            self.deleted.add(network_id)
