"""What an agent keeps between its lives: its identity, its keys and ports, and the records it last held."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

from events.errors import ConflictError, InternalError
from events.fields import Tolerant
from events.records import LinkState, SpeakerState

FILE_NAME = "agent.db"
_LOCK_NAME = "lock"
_SCHEMA_VERSION = 4
_SCHEMA = """
CREATE TABLE machine (machine_id TEXT NOT NULL);
CREATE TABLE tunnel (network_id TEXT PRIMARY KEY, private_key TEXT NOT NULL, listen_port INTEGER NOT NULL,
                     made_at REAL NOT NULL, generation INTEGER NOT NULL,
                     next_key TEXT, next_made_at REAL, next_generation INTEGER);
CREATE TABLE scope (scope TEXT PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE record (scope TEXT NOT NULL, subject TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
                     PRIMARY KEY (scope, subject)) WITHOUT ROWID;
"""
_LINKS = """
CREATE TABLE link (network_id TEXT NOT NULL, peer_id TEXT NOT NULL, since REAL NOT NULL, state TEXT NOT NULL,
                   PRIMARY KEY (network_id, peer_id)) WITHOUT ROWID;
"""
_SPEAKER = """
CREATE TABLE speaker (network_id TEXT PRIMARY KEY, note TEXT NOT NULL) WITHOUT ROWID;
"""
_FROM_1 = """
ALTER TABLE tunnel ADD COLUMN made_at REAL NOT NULL DEFAULT 0;
ALTER TABLE tunnel ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tunnel ADD COLUMN next_key TEXT;
ALTER TABLE tunnel ADD COLUMN next_made_at REAL;
ALTER TABLE tunnel ADD COLUMN next_generation INTEGER;
UPDATE tunnel SET made_at = unixepoch();
"""
"""How old the keys are, nobody wrote down then: their age counts from now on."""

_STEPS = ("", _FROM_1, _LINKS, _SPEAKER)
"""What leads from each version of the schema to the next."""

_TUNNEL_COLUMNS = "private_key, listen_port, made_at, generation, next_key, next_made_at, next_generation"


class OtherMachineError(ConflictError):
    """Raised when a state folder belongs to another machine id than the one given."""

    code = "other-machine"
    title = "The state folder belongs to another machine"


class AgentRunningError(ConflictError):
    """Raised when an agent uses the state folder already."""

    code = "agent-running"
    title = "An agent is running"


class StateError(InternalError):
    """Raised when the state folder cannot be used."""

    code = "state"
    title = "The state folder cannot be used"


@dataclass(frozen=True, slots=True)
class NextKey:
    """A key to come: announced, and used as soon as the network's records show it."""

    private_key: str = field(repr=False)
    made_at: float
    generation: int


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What this machine alone decides about its interface in one network."""

    private_key: str = field(repr=False)
    listen_port: int
    made_at: float = 0.0
    """When the key was made, in seconds since 1970."""
    generation: int = 0
    """The last of the control plane's requests for a new key (`MembershipRecord.key_generation`) that it answers."""
    next_key: NextKey | None = None

    def switched(self) -> Tunnel:
        """This tunnel once the key to come, if there is one, is the one in use."""
        following = self.next_key
        if following is None:
            return self
        return Tunnel(following.private_key, self.listen_port, following.made_at, following.generation)


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it is kept: JSON."""

    subject: str
    body: bytes


@dataclass(frozen=True, slots=True)
class LinkNote:
    """What probes found of a link, for people to see."""

    link: LinkState
    since: float
    """Seconds since 1970."""


class SpeakerNote(Tolerant):
    """How BGP does in a network, for people to see."""

    speaker: SpeakerState
    established: int
    planned: int
    vips: tuple[str, ...] = ()
    """The addresses of the virtual IPs that `speaker.vips` tells of, in the same order."""


class Store(Protocol):
    """Where an agent keeps its state. What is written counts once `flush` has returned."""

    def tunnel(self, network_id: UUID) -> Tunnel | None:
        """This machine's key and port in a network."""

    def tunnels(self) -> list[UUID]:
        """The networks that this machine has a key and port for: those whose interfaces it may have made."""

    def set_tunnel(self, network_id: UUID, tunnel: Tunnel) -> None:
        """Keep keys and port; lasting at once, also after a power cut, unlike the rest."""

    def forget_network(self, network_id: UUID) -> None:
        """Forget a network: its key, its port, its records."""

    def revision(self, scope: str) -> int:
        """The revision held of a scope; 0 for nothing."""

    def records(self, scope: str) -> list[Stored]:
        """The records held of a scope, by revision."""

    def put(self, scope: str, subject: str, revision: int, body: bytes | None) -> None:
        """Keep a record and the scope's revision with it; no body forgets the record."""

    def retain(self, scope: str, subjects: Iterable[str]) -> None:
        """Forget the records of every other subject."""

    def set_revision(self, scope: str, revision: int) -> None:
        """The revision that the scope's records add up to."""

    def note_link(self, network_id: UUID, note: LinkNote) -> None:
        """Keep how a link is now; `since` counts from the last change of its state."""

    def forget_link(self, network_id: UUID, peer_id: UUID) -> None:
        """Forget a link."""

    def note_speaker(self, network_id: UUID, note: SpeakerNote) -> None:
        """Keep how BGP does in a network."""

    def flush(self) -> None:
        """Make what was written last."""

    def close(self) -> None:
        """Flush, and let go."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Have a state folder to oneself for as long as the block lasts. Raises `AgentRunningError`, `StateError`."""
    try:
        _make(folder)
        handle = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise AgentRunningError(
            f"An agent uses {folder} already.", hint="Stop it first, or give another --state-dir."
        ) from error
    finally:
        os.close(handle)


def is_in_use(folder: Path) -> bool:
    """Whether an agent has a state folder to itself, as far as can be seen. Takes no lock, so no agent that begins just
    now is turned away."""
    try:
        number = (folder / _LOCK_NAME).stat().st_ino
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    return any(" FLOCK " in line and f":{number} " in line for line in locks)


def erase(folder: Path) -> None:
    """Remove everything that a store left in its folder. Raises `StateError`."""
    try:
        for name in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", _LOCK_NAME):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
    except OSError as error:
        raise _unusable(folder, error) from error


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _unusable(folder: Path, error: Exception) -> StateError:
    return StateError(f"The state in {folder} cannot be used: {error}.", hint="Give another --state-dir.")


class MemoryStore:
    """Keeps keys, ports and revisions for as long as the process lives, and no records: for simulations of thousands
    of agents, which start from nothing."""

    def __init__(self) -> None:
        self._tunnels: dict[UUID, Tunnel] = {}

    def tunnel(self, network_id: UUID) -> Tunnel | None:
        """See `Store.tunnel`."""
        return self._tunnels.get(network_id)

    def tunnels(self) -> list[UUID]:
        """See `Store.tunnels`."""
        return list(self._tunnels)

    def set_tunnel(self, network_id: UUID, tunnel: Tunnel) -> None:
        """See `Store.set_tunnel`."""
        self._tunnels[network_id] = tunnel

    def forget_network(self, network_id: UUID) -> None:
        """See `Store.forget_network`."""
        self._tunnels.pop(network_id, None)

    def revision(self, scope: str) -> int:
        """Always 0."""
        return 0

    def records(self, scope: str) -> list[Stored]:
        """Always none."""
        return []

    def put(self, scope: str, subject: str, revision: int, body: bytes | None) -> None:
        """Keeps nothing."""

    def retain(self, scope: str, subjects: Iterable[str]) -> None:
        """Keeps nothing."""

    def set_revision(self, scope: str, revision: int) -> None:
        """Keeps nothing."""

    def note_link(self, network_id: UUID, note: LinkNote) -> None:
        """Keeps nothing."""

    def forget_link(self, network_id: UUID, peer_id: UUID) -> None:
        """Keeps nothing."""

    def note_speaker(self, network_id: UUID, note: SpeakerNote) -> None:
        """Keeps nothing."""

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class DiskStore:
    """A SQLite file that only its owner can read. A write costs microseconds; `flush` commits what gathered. After a
    power cut the file is as after some earlier flush, which the next sync repairs."""

    def __init__(self, folder: Path) -> None:
        """Opens the state in `folder`, or begins one. Raises `StateError`."""
        try:
            _make(folder)
            path = folder / FILE_NAME
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise _unusable(folder, error) from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA secure_delete = ON")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version < _SCHEMA_VERSION:
            steps = " ".join(_STEPS[version:]) if version else f"{_SCHEMA} {_LINKS} {_SPEAKER}"
            self._db.executescript(f"BEGIN; {steps} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT")
        elif version > _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer agent (schema {version})")

    def machine_id(self, given: UUID | None = None, make: Callable[[], UUID] = uuid4) -> UUID:
        """This machine's id, for good: `given` or a made one the first time. Raises `OtherMachineError`."""
        row = self._db.execute("SELECT machine_id FROM machine").fetchone()
        if row is None:
            machine_id = given or make()
            self._db.execute("INSERT INTO machine VALUES (?)", (str(machine_id),))
            self.flush()
            return machine_id
        kept = UUID(row[0])
        if given not in {None, kept}:
            raise OtherMachineError(
                f"The state folder is that of machine {kept}, not of {given}.",
                hint="Leave --machine-id out, or give another --state-dir.",
            )
        return kept

    def tunnel(self, network_id: UUID) -> Tunnel | None:
        """See `Store.tunnel`."""
        row = self._db.execute(
            f"SELECT {_TUNNEL_COLUMNS} FROM tunnel WHERE network_id = ?",  # noqa: S608 - the columns are ours
            (str(network_id),),
        ).fetchone()
        if row is None:
            return None
        private_key, listen_port, made_at, generation, *following = row
        next_key = None if following[0] is None else NextKey(*following)
        return Tunnel(private_key, listen_port, made_at, generation, next_key)

    def tunnels(self) -> list[UUID]:
        """See `Store.tunnels`."""
        return [UUID(row[0]) for row in self._db.execute("SELECT network_id FROM tunnel ORDER BY network_id")]

    def set_tunnel(self, network_id: UUID, tunnel: Tunnel) -> None:
        """See `Store.set_tunnel`."""
        following = tunnel.next_key
        self.flush()
        # Others know a key that this machine must not lose with the power: FULL waits for the disk.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            f"INSERT OR REPLACE INTO tunnel (network_id, {_TUNNEL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (
                str(network_id),
                tunnel.private_key,
                tunnel.listen_port,
                tunnel.made_at,
                tunnel.generation,
                *((following.private_key, following.made_at, following.generation) if following else (None,) * 3),
            ),
        )
        self._db.execute("PRAGMA synchronous = NORMAL")

    def forget_network(self, network_id: UUID) -> None:
        """See `Store.forget_network`."""
        self._write("DELETE FROM tunnel WHERE network_id = ?", str(network_id))
        for scope in (f"network:{network_id}", f"bgp:{network_id}"):
            self._write("DELETE FROM scope WHERE scope IN (?, ?)", scope, f"ring:{scope}")
            self._write("DELETE FROM record WHERE scope = ?", scope)
        self._write("DELETE FROM link WHERE network_id = ?", str(network_id))
        self._write("DELETE FROM speaker WHERE network_id = ?", str(network_id))
        self.flush()

    def revision(self, scope: str) -> int:
        """See `Store.revision`."""
        row = self._db.execute("SELECT revision FROM scope WHERE scope = ?", (scope,)).fetchone()
        return int(row[0]) if row else 0

    def records(self, scope: str) -> list[Stored]:
        """See `Store.records`."""
        rows = self._db.execute("SELECT subject, body FROM record WHERE scope = ? ORDER BY revision", (scope,))
        return [Stored(subject, body) for subject, body in rows]

    def put(self, scope: str, subject: str, revision: int, body: bytes | None) -> None:
        """See `Store.put`."""
        if body is None:
            self._write("DELETE FROM record WHERE scope = ? AND subject = ?", scope, subject)
        else:
            self._write("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", scope, subject, revision, body)
        self.set_revision(scope, revision)

    def retain(self, scope: str, subjects: Iterable[str]) -> None:
        """See `Store.retain`."""
        kept = set(subjects)
        held = [row[0] for row in self._db.execute("SELECT subject FROM record WHERE scope = ?", (scope,))]
        for subject in held:
            if subject not in kept:
                self._write("DELETE FROM record WHERE scope = ? AND subject = ?", scope, subject)

    def set_revision(self, scope: str, revision: int) -> None:
        """See `Store.set_revision`."""
        self._write("INSERT OR REPLACE INTO scope VALUES (?, ?)", scope, revision)

    def reread(self) -> None:
        """Have every scope read from its start at the next connection. What is held counts until then."""
        self._write("DELETE FROM scope")
        self.flush()

    def note_link(self, network_id: UUID, note: LinkNote) -> None:
        """See `Store.note_link`."""
        key = str(network_id), str(note.link.peer_id)
        row = self._db.execute("SELECT since, state FROM link WHERE network_id = ? AND peer_id = ?", key).fetchone()
        is_same = row is not None and LinkState.model_validate_json(row[1]).state == note.link.state
        values = *key, row[0] if is_same else note.since, note.link.model_dump_json()
        self._write("INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?)", *values)

    def forget_link(self, network_id: UUID, peer_id: UUID) -> None:
        """See `Store.forget_link`."""
        self._write("DELETE FROM link WHERE network_id = ? AND peer_id = ?", str(network_id), str(peer_id))

    def links(self, network_id: UUID) -> dict[UUID, LinkNote]:
        """What was noted of a network's links, by peer."""
        rows = self._db.execute("SELECT since, state FROM link WHERE network_id = ?", (str(network_id),))
        notes = [LinkNote(LinkState.model_validate_json(state), since) for since, state in rows]
        return {note.link.peer_id: note for note in notes}

    def note_speaker(self, network_id: UUID, note: SpeakerNote) -> None:
        """See `Store.note_speaker`."""
        self._write("INSERT OR REPLACE INTO speaker VALUES (?, ?)", str(network_id), note.model_dump_json())

    def speaker(self, network_id: UUID) -> SpeakerNote | None:
        """What was noted of the BGP speaker in a network."""
        row = self._db.execute("SELECT note FROM speaker WHERE network_id = ?", (str(network_id),)).fetchone()
        return SpeakerNote.model_validate_json(row[0]) if row else None

    def _write(self, statement: str, *values: str | float | bytes) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._db.execute(statement, values)

    def flush(self) -> None:
        """See `Store.flush`."""
        if self._db.in_transaction:
            self._db.commit()

    def close(self) -> None:
        """See `Store.close`."""
        self.flush()
        self._db.close()
