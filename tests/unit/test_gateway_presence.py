"""Who is online."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from events.records import Heartbeat
from services.gateway.presence import ONLINE_FOR, Presence

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
