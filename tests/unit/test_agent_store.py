"""What an agent keeps on disk."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from agent.keys import generate_private_key
from agent.store import (
    FILE_NAME,
    AgentRunningError,
    DiskStore,
    MemoryStore,
    NextKey,
    OtherMachineError,
    StateError,
    Store,
    Stored,
    Tunnel,
    erase,
    exclusive,
    is_in_use,
)

NETWORK = UUID(int=5)
SCOPE = f"network:{NETWORK}"
SCHEMA_1 = Path(__file__).parents[1] / "data" / "agent-schema-1.db"
"""Written by the agent of version 0.1.0."""


def test_a_machine_keeps_its_id(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "state")
    machine_id = store.machine_id()
    store.close()
    store = DiskStore(tmp_path / "state")
    assert store.machine_id() == store.machine_id(machine_id) == machine_id
    with pytest.raises(OtherMachineError):
        store.machine_id(uuid4())
    store.close()


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    store: Store = MemoryStore() if request.param == "memory" else DiskStore(tmp_path / "state")
    yield store
    store.close()


def test_keys_and_ports_are_kept_and_forgotten(store: Store) -> None:
    tunnel = Tunnel(generate_private_key(), 51820)
    assert store.tunnel(NETWORK) is None
    store.set_tunnel(NETWORK, tunnel)
    assert store.tunnel(NETWORK) == tunnel
    tunnel = Tunnel(tunnel.private_key, 51820, 1.8e9, 3, NextKey(generate_private_key(), 1.9e9, 4))
    store.set_tunnel(NETWORK, tunnel)
    assert store.tunnel(NETWORK) == tunnel
    store.set_tunnel(NETWORK, tunnel.switched())
    assert store.tunnel(NETWORK) == Tunnel(tunnel.next_key.private_key, 51820, 1.9e9, 4)  # type: ignore[union-attr]
    assert store.tunnels() == [NETWORK]
    store.forget_network(NETWORK)
    assert store.tunnel(NETWORK) is None
    assert store.tunnels() == []


def test_what_was_flushed_is_there_after_a_crash(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.put(SCOPE, "state.b", 1, b"1")
    store.put(SCOPE, "state.a", 2, b"2")
    store.flush()
    store.put(SCOPE, "state.c", 3, b"3")
    after = DiskStore(tmp_path)
    assert after.records(SCOPE) == [Stored("state.b", b"1"), Stored("state.a", b"2")]
    assert after.revision(SCOPE) == 2, "records and revision belong together"
    after.close()
    store.close()


def test_records_are_replaced_removed_and_retained(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    for revision, subject in enumerate(("a", "b", "c"), 1):
        store.put(SCOPE, subject, revision, subject.encode())
    store.put(SCOPE, "a", 4, b"new")
    store.put(SCOPE, "b", 5, None)
    assert store.records(SCOPE) == [Stored("c", b"c"), Stored("a", b"new")]
    store.retain(SCOPE, {"a", "x"})
    store.set_revision(SCOPE, 9)
    assert store.records(SCOPE) == [Stored("a", b"new")]
    assert store.revision(SCOPE) == 9
    store.forget_network(NETWORK)
    assert (store.records(SCOPE), store.revision(SCOPE)) == ([], 0)
    store.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "state")
    store.set_tunnel(NETWORK, Tunnel(generate_private_key(), 1))
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "state").iterdir())
    store.close()


def test_a_key_does_not_show(tmp_path: Path) -> None:
    assert "secret" not in repr(Tunnel("secret", 1, next_key=NextKey("secret", 0, 0)))


def test_an_older_agents_state_is_taken_on(tmp_path: Path) -> None:
    shutil.copy(SCHEMA_1, tmp_path / FILE_NAME)
    for _ in range(2):
        store = DiskStore(tmp_path)
        assert store.machine_id() == UUID(int=77)
        tunnel = store.tunnel(NETWORK)
        assert tunnel is not None
        assert (tunnel.private_key, tunnel.listen_port) == ("YNqHbfBQKaGvlC7VNcPnBJ3PbZL6PPZ8bnQ5mWBs4lk=", 51820)
        assert (tunnel.generation, tunnel.next_key) == (0, None)
        assert abs(tunnel.made_at - time.time()) < 60, "its age counts from now on"
        assert (store.revision(SCOPE), len(store.records(SCOPE))) == (7, 1)
        assert store.tunnels() == [NETWORK, UUID(int=6)]
        store.close()


def test_a_newer_agents_state_is_refused_and_left_alone(tmp_path: Path) -> None:
    shutil.copy(SCHEMA_1, tmp_path / FILE_NAME)
    newer = sqlite3.connect(tmp_path / FILE_NAME)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StateError, match="newer agent"):
        DiskStore(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_what_is_held_can_be_read_anew(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.put(SCOPE, "a", 4, b"a")
    store.reread()
    assert (store.revision(SCOPE), store.records(SCOPE)) == (0, [Stored("a", b"a")])
    store.close()


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with exclusive(folder):
        with pytest.raises(AgentRunningError), exclusive(folder):
            pass
        DiskStore(folder).close()
        assert is_in_use(folder)
        erase(folder)
    assert not folder.exists()
    with exclusive(folder):
        pass
    assert not is_in_use(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        DiskStore(tmp_path / "file" / "state")
    (tmp_path / "agent.db").write_text("this is no database, and longer than its header would be" * 9)
    with pytest.raises(StateError):
        DiskStore(tmp_path)
