"""What the speaker is made of, without a BIRD: its control socket's protocol, its log, and what is said without one."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, chdir, closing, suppress
from pathlib import Path

import pytest

from agent.bgp import control, process
from agent.bgp.control import CommandError, ControlError, Line, connected
from agent.bgp.intent import BgpIntent
from agent.bgp.journal import Entry, Journal
from agent.bgp.observed import Observation
from agent.bgp.process import Bird, BirdError, RefusedError
from agent.bgp.speaker import HOW_TO_INSTALL, Speaker
from tests.support.birds import intent
from tests.support.waiting import wait_until

FINE = "router id 1.2.3.4;\nprotocol device {\n}\n"
Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def speaking(path: Path, answer: Answer, greeting: bytes = b"0001 BIRD 2.0.12 ready.\n") -> AsyncIterator[None]:
    """Something that listens as BIRD does. An empty answer ends the connection."""

    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        with suppress(ConnectionError), closing(writer):
            writer.write(greeting)
            while command := await reader.readline():
                said = answer(command)
                writer.write(said)
                if not said.endswith(b"\n"):
                    break

    # Long names of folders are no matter.
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    server = await asyncio.start_unix_server(serve, f"/proc/self/fd/{folder}/{path.name}")
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*served)
        os.close(folder)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / ("long" * 30) / "bird.ctl"


async def test_a_reply_has_lines_with_codes_and_without(socket_path: Path) -> None:
    said = b"+0 somebody watches\n1000-BIRD 2.0.12\n1011-Router ID\n Hostname is vm\n \n0013 Daemon is up\n"
    async with speaking(socket_path, lambda _: said), connected(socket_path) as bird:
        assert (bird.version, bird.pid) == ("2.0.12", os.getpid())
        assert await bird.ask("show status") == [
            Line(1000, "BIRD 2.0.12"),
            Line(1011, "Router ID"),
            Line(1011, "Hostname is vm"),
            Line(1011, ""),
            Line(13, "Daemon is up"),
        ]


async def test_a_refusal_is_one_and_the_connection_goes_on(socket_path: Path) -> None:
    answers = {b"configure\n": b"0002-Reading\n8002 bird.conf:1 syntax error\n", b"show\n": b"0000 \n"}
    async with speaking(socket_path, answers.__getitem__), connected(socket_path) as bird:
        with pytest.raises(CommandError, match=r"bird\.conf:1 syntax error"):
            await bird.ask("configure")
        assert await bird.ask("show") == [Line(0, "")]


@pytest.mark.parametrize("answer", [b"nonsense\n", b"", b"1000-more\n+but"])
async def test_what_is_no_reply_is_an_error(socket_path: Path, answer: bytes) -> None:
    async with speaking(socket_path, lambda _: answer), connected(socket_path) as bird:
        with pytest.raises(ControlError):
            await bird.ask("show status")


async def test_who_does_not_answer_or_is_not_there_is_an_error(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    async with speaking(socket_path, lambda _: b"1000-and\n"), connected(socket_path) as bird:
        with pytest.raises(ControlError):
            await bird.ask("show status")
    async with speaking(socket_path.with_name("mute"), lambda _: b"", greeting=b""):
        with pytest.raises(ControlError):
            async with connected(socket_path.with_name("mute")):
                pytest.fail("it never greeted")
    with pytest.raises(ControlError):
        async with connected(socket_path.with_name("nobody")):
            pytest.fail("there is nobody")


async def test_one_that_ends_before_it_greets_is_an_error(socket_path: Path) -> None:
    socket_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as ending, chdir(socket_path.parent):
        ending.bind(socket_path.name)
        ending.listen()
        ending.setblocking(False)

        async def ask() -> None:
            async with connected(socket_path):
                pytest.fail("it never greeted")

        asking = asyncio.create_task(ask())
        await wait_until(lambda: select.select([ending], [], [], 0)[0])
    with pytest.raises(ControlError):
        await asking


def test_the_log_is_read_as_it_grows_and_where_it_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "bird.log"
    journal = Journal(path)
    assert journal.news() == []
    path.write_text("2026-11-22 22:39:19.326 <INFO> Started\n2026-11-22 22:39:20.117 <TRACE> a: State ch")
    assert journal.news() == [Entry("info", "Started")]
    with path.open("a") as file:
        file.write("anged to up\nnot a line of its own\n2026-11-22 22:39:21.000 <ERR> no\n")
    assert journal.news() == [Entry("debug", "a: State changed to up"), Entry("error", "no")]
    path.rename(tmp_path / "bird.log.old")
    path.write_text("2026-11-22 22:39:22.000 <WARN> new\n")
    assert journal.news() == [Entry("warning", "new")]
    assert journal.news() == []
    other = Journal(path)
    other.skip()
    assert other.news() == []


async def test_without_bird_it_says_how_to_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PROGRAM", "no-such-bird")
    seen: list[Observation] = []
    speaker = Speaker(tmp_path / "run", seen.append)
    speaker.apply(BgpIntent((intent(1, 3),)))
    living = asyncio.create_task(speaker.run())
    await wait_until(lambda: seen)
    living.cancel()
    assert (seen[0].speaker.state, seen[0].speaker.reason) == ("off", HOW_TO_INSTALL)
    assert "apt install bird2" in HOW_TO_INSTALL
    assert not (tmp_path / "run").exists()


async def test_what_bird_refuses_is_not_put_in_place(tmp_path: Path) -> None:
    bird = Bird(tmp_path / "run")
    await bird.place(FINE)
    with pytest.raises(RefusedError, match="syntax error"):
        await bird.place("router id nobody;\n")
    assert bird.configuration() == FINE


async def test_a_bird_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    bird = Bird(tmp_path / "run")
    bird.folder.mkdir()
    with pytest.raises(BirdError, match=r"bird\.conf"):
        await bird.start(recover=False)
    assert await bird.find() is None
    await bird.stop()


async def test_a_bird_that_cannot_be_asked_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bird = Bird(tmp_path / "run")
    await bird.place(FINE)
    monkeypatch.setattr(process, "PROGRAM", "no-such-bird")  # it was removed while it runs
    with pytest.raises(RefusedError, match="no-such-bird"):
        await bird.place(FINE + "router id 1.2.3.4;\n")
    assert bird.configuration() == FINE


async def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(RefusedError, match=r"bird\.conf"):
        await Bird(tmp_path / "run").place(FINE)
