"""Health checks of real servers and real programs."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream
from hpack import Encoder

from agent.bgp.checks import Checks
from agent.bgp.examine import examine
from events.records import VipDuty
from events.routing import HealthCheck, HealthCheckType
from services.cli.certificates import Authority, server_certificate
from tests.support.waiting import wait_until

VIP = IPv4Address("127.0.0.9")
"""An address that this machine answers, too."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


def check(kind: HealthCheckType, target: str, timeout: int = 1) -> HealthCheck:
    return HealthCheck(type=kind, target=target, timeout_seconds=timeout)


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None, host: str = str(VIP)) -> AsyncIterator[int]:
    """A server; its port. At the end all that it serves is served."""
    served: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.transport.abort()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.ensure_future(one(reader, writer)))

    server = await asyncio.start_server(begin, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*served)


def saying(answer: bytes, asked: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        writer.write(answer)
        await writer.drain()

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = server_certificate(Authority.made(), ["localhost"])
    (folder / "cert.pem").write_text(certificate)
    (folder / "key.pem").write_text(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_tcp_succeeds_where_somebody_listens_at_the_virtual_ip() -> None:
    async with serving(silent) as port:
        assert await examine(check("tcp", str(port)), VIP) == ""
        assert "refused" in await examine(check("tcp", str(port)), IPv4Address("127.0.0.10"))
        assert await examine(check("tcp", f"{VIP}:{port}"), IPv4Address("127.0.0.10")) == ""
    assert "refused" in await examine(check("tcp", str(port)), VIP)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "it answers with HTTP status 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "what answers does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "what answers does not speak HTTP"),
        (b"", "what answers does not speak HTTP"),
    ],
)
async def test_http_asks_for_a_path_and_heeds_the_status(answer: bytes, failure: str) -> None:
    asked: list[bytes] = []
    async with serving(saying(answer, asked)) as port:
        assert await examine(check("http", f":{port}/health?a=b"), VIP) == failure
    assert asked[0].startswith(f"GET /health?a=b HTTP/1.1\r\nHost: {VIP}:{port}\r\n".encode())


async def test_who_says_nothing_is_not_waited_for() -> None:
    async with serving(silent) as port:
        assert await examine(check("http", f":{port}/"), VIP) == "it does not answer within 1 s"


async def test_https_looks_at_the_certificate_only_where_a_name_is_given(tls: ssl.SSLContext) -> None:
    answer = saying(b"HTTP/1.1 200 OK\r\n\r\n")
    async with serving(answer, tls) as port:
        assert await examine(check("https", f":{port}/"), VIP) == ""
        assert await examine(check("https", f"https://{VIP}:{port}/"), VIP) == ""
    async with serving(answer, tls, "localhost") as port:
        failure = await examine(check("https", f"https://localhost:{port}/"), VIP)
    assert failure.startswith("its certificate is not good")


async def test_failures_are_told_in_words() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(plain) as port:
        assert (await examine(check("https", f":{port}/"), VIP)).startswith("TLS with it does not work")
    assert (await examine(check("tcp", "no.such.name.invalid:1"), VIP)).startswith("its name is not known")
    assert await examine(check("tcp", "nothing"), VIP) == "'nothing' is not a port"


class Raw(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class HealthService:
    """grpc.health.v1.Health, with the bytes of its messages as they are."""

    def __init__(self, statuses: dict[bytes, bytes]) -> None:
        self.statuses = statuses

    async def check(self, stream: Stream[bytes, bytes]) -> None:
        request = await stream.recv_message()
        if request not in self.statuses:
            raise GRPCError(Status.NOT_FOUND, "what is said here is not told to others: \x1b[31m")
        await stream.send_message(self.statuses[request])

    def __mapping__(self) -> dict[str, Handler]:
        return {"/grpc.health.v1.Health/Check": Handler(self.check, Cardinality.UNARY_UNARY, bytes, bytes)}


@pytest.mark.parametrize("kind", ["grpc", "grpcs"])
async def test_grpc_asks_for_a_service(kind: HealthCheckType, tls: ssl.SSLContext) -> None:
    if kind == "grpcs":
        tls.set_alpn_protocols(["h2"])
    # {} → SERVING; {service: "db"} → NOT_SERVING; {service: "lazy"} → {}, which is UNKNOWN.
    server = Server([HealthService({b"": b"\x08\x01", b"\x0a\x02db": b"\x08\x02", b"\x0a\x04lazy": b""})], codec=Raw())
    await server.start(str(VIP), 0, ssl=tls if kind == "grpcs" else None)
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]
    try:
        assert await examine(check(kind, f":{port}"), VIP) == ""
        assert await examine(check(kind, f"{VIP}:{port}/db"), VIP) == "it says that it is not serving (status 2)"
        assert await examine(check(kind, f":{port}/lazy"), VIP) == "it says that it is not serving (status 0)"
        missing = await examine(check(kind, f":{port}/other"), VIP)
        assert missing == "it answers with gRPC status NOT_FOUND"
    finally:
        server.close()
        await server.wait_closed()
    assert "refused" in await examine(check(kind, f":{port}"), VIP)


async def test_what_is_no_grpc_server_fails() -> None:
    async with serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert await examine(check("grpc", f":{port}"), VIP) != ""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def headers(*fields: tuple[str, str]) -> bytes:
    return frame(1, 4, 1, Encoder().encode(list(fields)))


HEAD = headers((":status", "200"), ("content-type", "application/grpc+proto"))


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + frame(0, 1, 1, b"\0\0\0\0\x64\x08\x01"),
        HEAD + frame(0, 1, 1, b"\1\0\0\0\2\x08\x01"),
        headers(("content-type", "application/grpc+proto")),
        headers((":status", "200")) + frame(0, 1, 1, b""),
    ],
    ids=["shorter than it says", "compressed", "without a status", "without a type"],
)
async def test_a_grpc_server_that_answers_wrongly_only_fails(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(4, 0, 0, b"") + answer)
        await writer.drain()
        await reader.read()

    async with serving(serve) as port:
        assert await examine(check("grpc", f":{port}"), VIP) in {
            "what answers does not speak gRPC",
            "it answers with gRPC status UNKNOWN",
        }


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "checks.d"
    folder.mkdir(mode=0o755)
    return folder


def program(folder: Path, script: str, mode: int = 0o755) -> str:
    path = folder / "probe"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return path.name


async def test_exec_heeds_the_exit_status(programs: Path) -> None:
    said = programs / "said"
    name = program(programs, f'echo "$WIRELOOM_VIP $# $PWD" >{said}')
    assert await examine(check("exec", name), VIP, programs) == ""
    assert said.read_text() == "127.0.0.9 0 /\n"
    program(programs, "exit 3")
    assert await examine(check("exec", name), VIP, programs) == "probe ended with status 3"
    program(programs, "kill -9 $$")
    assert await examine(check("exec", name), VIP, programs) == "probe ended by signal 9"


async def test_exec_ends_a_program_that_takes_too_long_and_all_that_it_started(programs: Path) -> None:
    started = programs / "started"
    name = program(programs, f"sleep 600 & echo $! $$ >{started}; wait")
    assert await examine(check("exec", name), VIP, programs) == "it does not answer within 1 s"
    pids = [int(pid) for pid in started.read_text().split()]
    await wait_until(lambda: not any(_runs(pid) for pid in pids), what="the processes to end")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


async def test_exec_runs_only_what_nobody_but_root_can_write(programs: Path, tmp_path: Path) -> None:
    for mode in (0o775, 0o757):
        assert "must belong to root" in await examine(check("exec", program(programs, "", mode)), VIP, programs)
    name = program(programs, "")
    os.chown(programs / name, 1000, 0)
    assert "must belong to root" in await examine(check("exec", name), VIP, programs)
    os.chown(programs / name, 0, 0)
    assert await examine(check("exec", name), VIP, programs) == ""
    os.chmod(programs, 0o777)
    assert "must belong to root" in await examine(check("exec", name), VIP, programs)
    os.chmod(programs, 0o755)
    (programs / "link").symlink_to("/bin/true")
    assert "is not a file" in await examine(check("exec", "link"), VIP, programs)
    assert "there is no" in await examine(check("exec", "other"), VIP, programs)
    program(programs, "", 0o644)
    assert "cannot be executed" in await examine(check("exec", name), VIP, programs)


async def test_none_succeeds() -> None:
    assert await examine(HealthCheck(), VIP) == ""


async def test_virtual_ips_are_checked_until_they_are_taken_away() -> None:
    changes: list[bool] = []
    tasks: list[asyncio.Task[None]] = []

    def spawn(coroutine: Any) -> asyncio.Task[None]:
        tasks.append(asyncio.ensure_future(coroutine))
        return tasks[-1]

    checks = Checks(examine, spawn, lambda: changes.append(bool(checks.healthy)))
    async with serving(silent) as port:
        fast = check("tcp", str(port)).model_copy(update={"interval_seconds": 1, "unhealthy_threshold": 1})
        duty = VipDuty(vip_id=uuid4(), address=VIP, local_pref=200, health_check=fast)
        plain = VipDuty(vip_id=uuid4(), address=IPv4Address("127.0.0.8"), local_pref=200, health_check=HealthCheck())
        checks.have([duty, plain])
        assert not checks.are_known
        await wait_until(lambda: checks.healthy == {duty.vip_id, plain.vip_id}, what="both to be healthy")
        assert checks.are_known
        first = tasks[0]
        checks.have([duty, plain.model_copy(update={"local_pref": 199})])
        assert tasks[0] is first
        assert len(tasks) == 2, "what is checked in the same way goes on"
    await wait_until(lambda: duty.vip_id not in checks.healthy, what="it to be unhealthy")
    unhealthy, healthy = (state.healthy for state in reversed(checks.states))
    assert (unhealthy, healthy) == (False, True)
    assert "refused" in checks.states[-1].reason
    checks.close()
    assert checks.states == ()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert changes
