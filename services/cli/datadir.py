"""Where `wireloom up` keeps its data, and that only one does."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from events.errors import InvalidInputError, UnavailableError

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
