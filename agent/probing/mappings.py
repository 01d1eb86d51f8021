"""Where this machine's packets are seen to come from, by the word of its peers. Pure.

An address that two peers see alike is a mapping that others can use. A NAT that gives each destination another port
(endpoint-dependent mapping, RFC 4787, section 4.1) shows as one host with several ports: nothing to tell others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from agent.probing.places import is_endpoint
from events.fields import split_endpoint

_MOST = 4
_MOST_OF_ONE = 2
"""So many endpoints are believed on the word of one peer."""

_Key = tuple[UUID, str]
"""A peer, and which of its candidates our ping went to."""


class Mappings:
    """What peers saw. A change costs what it touches, whatever the number of peers."""

    def __init__(self) -> None:
        self.own: frozenset[str] = frozenset()
        """This machine's own endpoints: no news."""
        self._seen: dict[_Key, str] = {}
        self._witnesses: defaultdict[str, defaultdict[UUID, int]] = defaultdict(lambda: defaultdict(int))
        self._of_host: defaultdict[str, set[str]] = defaultdict(set)
        self._by_two: dict[str, None] = {}
        self._alone: dict[str, None] = {}

    def saw(self, machine_id: UUID, candidate: str, endpoint: str) -> bool:
        """A peer saw us at this endpoint. Returns whether that changes anything: not where no machine can be."""
        key = (machine_id, candidate)
        if self._seen.get(key) == endpoint or not is_endpoint(endpoint):
            return False
        self.forget(machine_id, (candidate,))
        self._seen[key] = endpoint
        self._witnesses[endpoint][machine_id] += 1
        self._of_host[_host(endpoint)].add(endpoint)
        self._weigh(endpoint)
        return True

    def forget(self, machine_id: UUID, candidates: Iterable[str]) -> None:
        """What the peer saw of pings to these candidates of its counts no more."""
        for candidate in candidates:
            endpoint = self._seen.pop((machine_id, candidate), None)
            if endpoint is None:
                continue
            witnesses = self._witnesses[endpoint]
            witnesses[machine_id] -= 1
            if not witnesses[machine_id]:
                del witnesses[machine_id]
            if not witnesses:
                del self._witnesses[endpoint]
                self._of_host[_host(endpoint)].discard(endpoint)
            self._weigh(endpoint)

    def known(self) -> tuple[str, ...]:
        """The endpoints that others may use."""
        sure = [endpoint for endpoint in self._by_two if endpoint not in self.own]
        alone = [endpoint for endpoint in self._alone if endpoint not in self.own][:_MOST_OF_ONE]
        return tuple(sorted((sure + alone)[:_MOST]))

    def _weigh(self, endpoint: str) -> None:
        """Put the endpoint where it belongs, and the only other one of its host, if there is one."""
        host = _host(endpoint)
        together = self._of_host[host]
        others = together if len(together) <= 2 else {endpoint}
        for each in {endpoint, *others}:
            count = len(self._witnesses[each]) if each in self._witnesses else 0
            _place(self._by_two, each, count >= 2)
            _place(self._alone, each, count == 1 and len(together) == 1)
        if not together:
            del self._of_host[host]


def _place(where: dict[str, None], endpoint: str, belongs: bool) -> None:
    if belongs:
        where.setdefault(endpoint)
    else:
        where.pop(endpoint, None)


def _host(endpoint: str) -> str:
    return str(split_endpoint(endpoint)[0])
