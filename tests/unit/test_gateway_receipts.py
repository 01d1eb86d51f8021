"""Who has dropped a revoked machine, and who has not yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.errors import NotFoundError
from events.records import Heartbeat, IdentityRecord
from events.subjects import access, machine_membership, network_peer
from events.trust.keys import generate
from services.gateway.presence import ONLINE_FOR, Presence
from services.gateway.receipts import Revocation, revocation_of
from tests.unit.test_gateway_mirror import START, Story

NOW = START + timedelta(hours=1)


@pytest.fixture
def story() -> Story:
    return Story()


def identity(machine_id: UUID, revoked: bool) -> IdentityRecord:
    return IdentityRecord(
        machine_id=machine_id,
        identity_key=generate("user").public,
        enrolled_at=START,
        token_id=uuid4(),
        revoked_at=NOW if revoked else None,
    )


def joined(story: Story, network_id: UUID, machine_id: UUID, address: str) -> None:
    story.assign(network_id, machine_id, address)
    story.peer(network_id, machine_id, address)


def revoke(story: Story, machine_id: UUID, *networks: UUID) -> None:
    for network_id in networks:
        story.put(machine_membership(machine_id, network_id), None)
        story.put(network_peer(network_id, machine_id), None)
    story.put(access("identity", machine_id), identity(machine_id, revoked=True))


def applied(presence: Presence, machine_id: UUID, counter: int, **fields: Any) -> None:
    assert presence.beat(machine_id, Heartbeat(boot_id=UUID(int=1), counter=counter, **fields), NOW)


def told(revocation: Revocation) -> dict[str, tuple[list[str], list[str]]]:
    return {
        network.name: ([r.hostname for r in network.dropped], [r.hostname for r in network.pending])
        for network in revocation.networks
    }


def test_receipts_come_in(story: Story) -> None:
    presence = Presence()
    office, lab = story.network("office"), story.network("lab", "10.0.0.0/24")
    bad, one, two = (story.machine(name) for name in ("bad", "one", "two"))
    for number, machine_id in enumerate((bad, one, two), 1):
        joined(story, office, machine_id, f"172.16.0.{number}")
    for number, machine_id in enumerate((bad, two), 1):
        joined(story, lab, machine_id, f"10.0.0.{number}")
    with pytest.raises(NotFoundError, match="not revoked"):
        revocation_of(story.mirror, presence, bad, NOW)
    revoke(story, bad, office, lab)
    first = revocation_of(story.mirror, presence, bad, NOW)
    assert (first.revoked_at, first.complete) == (NOW, False)
    assert told(first) == {"lab": ([], ["two"]), "office": ([], ["one", "two"])}
    office_revision = {network.name: network.revision for network in first.networks}["office"]

    applied(presence, one, 1, applied={office: office_revision - 1})
    assert told(revocation_of(story.mirror, presence, bad, NOW))["office"] == ([], ["one", "two"])
    applied(presence, one, 2, applied={office: office_revision})
    applied(presence, two, 1, applied={office: office_revision + 3})
    second = revocation_of(story.mirror, presence, bad, NOW)
    assert told(second) == {"lab": ([], ["two"]), "office": (["one", "two"], [])}
    (pending,) = second.networks[0].pending
    assert (pending.is_online, pending.last_seen_at) == (True, NOW)
    later = revocation_of(story.mirror, presence, bad, NOW + ONLINE_FOR * 2)
    assert not later.networks[0].pending[0].is_online

    applied(presence, two, 2, applied={lab: 99, office: 99})
    assert revocation_of(story.mirror, presence, bad, NOW).complete
    assert told(revocation_of(story.reloaded(), presence, bad, NOW)) == told(
        revocation_of(story.mirror, presence, bad, NOW)
    )


def test_members_that_go_are_waited_for_no_more(story: Story) -> None:
    office = story.network("office")
    bad, one = story.machine("bad"), story.machine("one")
    joined(story, office, bad, "172.16.0.1")
    joined(story, office, one, "172.16.0.2")
    revoke(story, bad, office)
    assert not revocation_of(story.mirror, Presence(), bad, NOW).complete
    story.put(machine_membership(one, office), None)
    assert revocation_of(story.mirror, Presence(), bad, NOW).complete


def test_a_machine_that_nobody_had_a_key_of(story: Story) -> None:
    office = story.network("office")
    bad, one = story.machine("bad"), story.machine("one")
    story.assign(office, bad, "172.16.0.1")
    joined(story, office, one, "172.16.0.2")
    story.put(machine_membership(bad, office), None)
    story.put(access("identity", bad), identity(bad, revoked=True))
    revocation = revocation_of(story.mirror, Presence(), bad, NOW)
    assert (revocation.complete, revocation.networks) == (True, ())
