"""Who is online."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from events.records import Heartbeat
from services.gateway.presence import FORMER_BOOTS, ONLINE_FOR, Presence

NOW = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
MACHINE, BOOT = uuid4(), uuid4()


def test_a_machine_is_online_for_as_long_as_it_is_heard_of() -> None:
    presence = Presence()
    assert not presence.is_online(MACHINE, NOW)
    assert presence.last_seen_at(MACHINE) is None
    assert presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=1), NOW)
    assert presence.is_online(MACHINE, NOW + ONLINE_FOR)
    assert not presence.is_online(MACHINE, NOW + ONLINE_FOR + timedelta(seconds=1))
    assert presence.last_seen_at(MACHINE) == NOW
    assert presence.online_count(NOW) == 1


def test_a_leaving_machine_is_offline_at_once_and_may_come_back() -> None:
    presence = Presence()
    presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=1), NOW)
    presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=2, leaving=True), NOW)
    assert not presence.is_online(MACHINE, NOW)
    assert presence.beat(MACHINE, Heartbeat(boot_id=uuid4(), counter=1), NOW)
    assert presence.is_online(MACHINE, NOW)


def test_a_repeated_heartbeat_proves_nothing() -> None:
    presence = Presence()
    presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=5), NOW)
    for counter in (4, 5):
        assert not presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=counter), NOW + ONLINE_FOR)
    assert presence.last_seen_at(MACHINE) == NOW


def test_a_deleted_machine_is_forgotten() -> None:
    presence = Presence()
    presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=1), NOW)
    presence.forget(MACHINE)
    assert presence.last_seen_at(MACHINE) is None


def test_an_agents_run_that_is_over_proves_nothing() -> None:
    """Somebody who recorded heartbeats of earlier runs plays them again."""
    presence = Presence()
    boots = [uuid4() for _ in range(FORMER_BOOTS + 1)]
    for boot in boots:
        assert presence.beat(MACHINE, Heartbeat(boot_id=boot, counter=1), NOW)
    for boot in boots[:-1]:
        assert not presence.beat(MACHINE, Heartbeat(boot_id=boot, counter=99), NOW + ONLINE_FOR)
    assert presence.last_seen_at(MACHINE) == NOW
    assert presence.beat(MACHINE, Heartbeat(boot_id=boots[-1], counter=2), NOW)


def test_what_a_machine_has_applied_and_refused() -> None:
    presence, network = Presence(), uuid4()
    assert (presence.applied(MACHINE, network), presence.refused(MACHINE)) == (0, {})
    told = Heartbeat(boot_id=BOOT, counter=1, applied={network: 7}, refused={"forged": 2})
    presence.beat(MACHINE, told, NOW)
    assert (presence.applied(MACHINE, network), presence.applied(MACHINE, uuid4())) == (7, 0)
    assert presence.refused(MACHINE) == {"forged": 2}
    replayed = Heartbeat(boot_id=BOOT, counter=1, applied={network: 99})
    assert not presence.beat(MACHINE, replayed, NOW)
    assert presence.applied(MACHINE, network) == 7


def test_a_machine_cannot_report_anything_it_likes() -> None:
    refused = {"<script>": 1, "forged": -5, "replayed": 10**400, "x" * 40: 1, "": 1, "a\x1b": 1}
    refused |= {f"reason-{letter}": 1 for letter in "abcdefghijklmnopqrstuvwxyz"}
    presence = Presence()
    presence.beat(MACHINE, Heartbeat(boot_id=BOOT, counter=1, refused=refused), NOW)
    shown = presence.refused(MACHINE)
    assert len(shown) == 16
    assert (shown["forged"], "<script>" in shown, "" in shown) == (0, False, False)
    assert all(0 <= number <= 2**53 for number in shown.values())
