"""Restarting what dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from events.errors import InvalidInputError, UnavailableError
from services.cli import supervisor
from services.cli.datadir import default_data_dir, held
from services.cli.supervisor import Supervised, describe_exit, next_delay
from tests.support.waiting import wait_until


class Mortal:
    """A part that ends when it is told to, and refuses to start as often as it is told to."""

    def __init__(self) -> None:
        self.starts = 0
        self.refusals = 0
        self.stopped = False
        self.status: asyncio.Future[int] | None = None

    @property
    def pid(self) -> int | None:
        return self.starts or None

    async def start(self) -> None:
        self.starts += 1
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("The port is taken.")
        self.status = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        assert self.status is not None
        return await asyncio.shield(self.status)

    async def stop(self) -> None:
        self.stopped = True

    def die(self, status: int) -> None:
        assert self.status is not None
        self.status.set_result(status)


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.001)


def test_delays_double_up_to_a_limit_and_begin_again_after_a_long_run() -> None:
    delays = [0.0]
    for _ in range(20):
        delays.append(next_delay(delays[-1], ran=0.1))
    assert delays[1] == supervisor.FIRST_DELAY
    assert delays[2] == 2 * delays[1]
    assert delays[-1] == supervisor.LONGEST_DELAY
    assert next_delay(delays[-1], ran=supervisor.SETTLED_AFTER) == supervisor.FIRST_DELAY


def test_how_a_process_ended_is_said_in_words() -> None:
    assert describe_exit(3) == "ended with exit code 3"
    assert describe_exit(-signal.SIGKILL) == "was ended by SIGKILL"
    assert describe_exit(-120) == "was ended by signal 120"


async def test_what_dies_is_started_again_until_it_is_stopped() -> None:
    part = Mortal()
    supervised = Supervised("part", part)
    await supervised.start()
    part.die(1)
    await wait_until(lambda: part.starts == 2, what="started again")
    part.refusals = 2
    part.die(-9)
    await wait_until(lambda: part.starts == 5, what="started again after two refusals")
    await supervised.stop()
    await supervised.stop()
    assert part.stopped
    assert part.starts == 5


async def test_a_first_start_that_fails_is_an_error() -> None:
    part = Mortal()
    part.refusals = 1
    supervised = Supervised("part", part)
    with pytest.raises(UnavailableError, match="The port is taken"):
        await supervised.start()
    await supervised.stop()


def test_the_data_directory_follows_user_and_environment() -> None:
    assert default_data_dir({}, is_root=True) == Path("/var/lib/wireloom")
    assert default_data_dir({"XDG_DATA_HOME": "/data"}, is_root=False) == Path("/data/wireloom")
    assert default_data_dir({"XDG_DATA_HOME": "relative"}, is_root=False).parts[-3:] == (".local", "share", "wireloom")


def test_the_data_directory_is_private_and_held_by_one(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    with held(directory):
        assert directory.stat().st_mode & 0o777 == 0o700
        with pytest.raises(UnavailableError, match=f"process {os.getpid()}"), held(directory):
            pass
    with held(directory):
        pass


def test_a_data_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="cannot be used: Not a directory"), held(tmp_path / "file" / "data"):
        pass
