"""Since when machines have had the WireGuard keys that they announce, from the log. Shell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nats.aio.client import Client

from events.domain import MembershipRegistered
from events.log import LoggedEvent
from services.gateway import history
from services.gateway.wanted import Wanted

_REMEMBERED = 20_000
_READ = 1000


@dataclass(frozen=True, slots=True)
class KeyAge:
    """Since when a key has been announced. Where the log was not read so far back: since before then, if at all
    known."""

    since: datetime | None = None
    is_older: bool = False


class KeyAges:
    """The ages of keys. The log is read once for each key, and `history.SCANNED` events back at most: what is found
    stays true as long as the key."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, UUID, str], KeyAge] = {}

    async def of(self, client: Client, machine_id: UUID, keys: dict[UUID, str]) -> dict[UUID, KeyAge]:
        """The age of the key that a machine announces in each of these networks. Raises `UnavailableError`,
        `UnreadableEventError`."""
        missing = {item: key for item, key in keys.items() if (item, machine_id, key) not in self._known}
        if missing:
            found = await _read(client, machine_id, missing)
            self._known |= {(item, machine_id, key): found[item] for item, key in missing.items() if item in found}
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return {item: self._known.get((item, machine_id, key), KeyAge()) for item, key in keys.items()}


async def _read(client: Client, machine_id: UUID, keys: dict[UUID, str]) -> dict[UUID, KeyAge]:
    """The ages of those that the log tells of."""
    wanted = Wanted(machine=machine_id, kinds=frozenset({MembershipRegistered.kind}))
    stretch = await history.newest_first(client, None, _READ, wanted)
    ages: dict[UUID, KeyAge] = {}
    for network_id, key in keys.items():
        said = [event for event in _only_announcements(stretch.events) if event.network_id == network_id]
        age = age_of(said, key, is_all=stretch.next is None)
        if age.since is not None or age.is_older:
            ages[network_id] = age
    return ages


def _only_announcements(events: Iterable[LoggedEvent]) -> Iterator[MembershipRegistered]:
    return (logged.event for logged in events if isinstance(logged.event, MembershipRegistered))


def age_of(said: Sequence[MembershipRegistered], key: str, *, is_all: bool) -> KeyAge:
    """The age of a key, from what was announced, the newest first; what is newer than the key does not count."""
    began: datetime | None = None
    for event in said:
        if event.public_key == key:
            began = event.time
        elif began is not None:
            return KeyAge(began)
    return KeyAge(began, is_older=not is_all)
