"""Where `wireloom up` keeps its data, that only one does, and that it finds there what it left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from events.errors import ConflictError, InvalidInputError, UnavailableError

GLOBAL_ACCOUNT = "$G"
"""The account that a nats-server keeps everything in where it does not ask who one is."""

_LOCK = "up.lock"


def default_data_dir(environment: Mapping[str, str], is_root: bool) -> Path:
    """`/var/lib/wireloom` for root, else `wireloom` in the user's data directory (XDG Base Directory)."""
    if is_root:
        return Path("/var/lib/wireloom")
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "wireloom"


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """The data directory, made if missing, private, and ours alone while the block lasts.

    Raises `InvalidInputError` if it cannot be made or written, `UnavailableError` if another program holds it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        lock = (directory / _LOCK).open("a+")
    except OSError as error:
        raise InvalidInputError(
            f"The data directory {directory} cannot be used: {error.strerror}.",
            hint="Give another one with --data-dir or WIRELOOM_DATA_DIR.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UnavailableError(
                f"Another `wireloom up` (process {lock.read().strip() or 'unknown'}) uses the data directory "
                f"{directory}.",
                hint="Stop it first, or give another directory with --data-dir or WIRELOOM_DATA_DIR.",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def refuse_other_mode(directory: Path, account: str | None, secured: bool) -> None:
    """Refuse a data directory whose log the embedded bus would not show: it keeps one for each account.

    `account` is the public key of the identity's account, None where none was made yet; without authorisation
    (`secured` False) everything is in the server's global account. Raises `ConflictError`.
    """
    kept = kept_accounts(directory / "bus" / "store")
    if not kept or (account if secured else GLOBAL_ACCOUNT) in kept:
        return
    if not secured:
        raise ConflictError(
            f"The log in {directory} was made with authorisation; with --no-auth it would not be seen.",
            hint="Leave out --no-auth, or give another directory with --data-dir.",
        )
    if GLOBAL_ACCOUNT in kept:
        raise ConflictError(
            f"The log in {directory} was made with --no-auth, and cannot be used with authorisation.",
            hint="Give another directory with --data-dir, or go on with --no-auth.",
        )
    raise ConflictError(
        f"The log in {directory} belongs to another identity than the one in {directory / 'identity'}.",
        hint="Restore the folder `identity` from a backup, or give another directory with --data-dir.",
    )


def kept_accounts(store: Path) -> set[str]:
    """The accounts that a nats-server keeps streams of in its store directory."""
    return {streams.parent.name for streams in (store / "jetstream").glob("*/streams") if any(streams.iterdir())}
