"""Makes one health check, over the network or with a program: a shell.

`https` and `grpcs`: where the target names a host by its name, its certificate must be valid for that name and come
from an authority that the system trusts. Where the target is this machine itself, or an address, the certificate is not
looked at: a check asks whether the service answers, tells it nothing, and mostly asks it where nobody stands between.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import signal
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from agent.bgp.health import Target, target_of
from events.routing import HealthCheck

CHECKS = Path("/etc/wireloom/checks.d")
"""Where a machine's administrator puts the programs that `exec` checks may run."""

_MAX_HEAD = 64 * 1024
_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = 1
_MOST_SAID = 300


async def examine(check: HealthCheck, vip: IPv4Address, folder: Path = CHECKS) -> str:
    """Make a check of a virtual IP once. Returns how it failed, for people to read; empty if it did not."""
    try:
        async with asyncio.timeout(check.timeout_seconds):
            await _make(check, vip, folder)
    except TimeoutError:
        return f"it does not answer within {check.timeout_seconds} s"
    except (OSError, ValueError, _FailedCheckError) as error:
        return _in_words(error)[:_MOST_SAID]
    return ""


def _in_words(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not good: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS with it does not work: {error.reason}"
        case socket.gaierror():
            return f"its name is not known: {error.strerror}"
        case OSError() if error.errno:
            return os.strerror(error.errno)  # asyncio puts words of its own in the place of the system's
    return str(error) or type(error).__name__


class _FailedCheckError(Exception):
    """Raised where what answers says that it is not well, or nothing that can be understood."""


async def _make(check: HealthCheck, vip: IPv4Address, folder: Path) -> None:
    match check.type:
        case "none":
            return
        case "exec":
            await _run(folder / check.target, vip)
        case "tcp":
            async with _connection(target_of(check, vip), None):
                return
        case "http" | "https":
            target = target_of(check, vip)
            await _ask_http(target, _trust(target) if check.type == "https" else None)
        case "grpc" | "grpcs":
            target = target_of(check, vip)
            await _ask_grpc(target, _trust(target) if check.type == "grpcs" else None)


def _trust(target: Target) -> ssl.SSLContext:
    if target.is_named:
        return ssl.create_default_context()
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    return anybody


@asynccontextmanager
async def _connection(
    target: Target, trust: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=trust, limit=_MAX_HEAD)
    try:
        yield reader, writer
    finally:
        # Not closed in order: whoever is slow to say goodbye would hold up what comes next.
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _ask_http(target: Target, trust: ssl.SSLContext | None) -> None:
    """Redirects are answers like others and not followed."""
    async with _connection(target, trust) as (reader, writer):
        asked = f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: wireloom-agent\r\n"
        writer.write(f"{asked}Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii"))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            answer = http.client.HTTPResponse(_Said(head))  # type: ignore[arg-type]
            answer.begin()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, http.client.HTTPException) as error:
            raise _FailedCheckError("what answers does not speak HTTP") from error
    if not 200 <= answer.status < 400:
        raise _FailedCheckError(f"it answers with HTTP status {answer.status}")


class _Said:
    """What was read, where the standard library wants a socket."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def makefile(self, _mode: str) -> io.BytesIO:
        """As of a socket."""
        return io.BytesIO(self._head)


async def _ask_grpc(target: Target, trust: ssl.SSLContext | None) -> None:
    """The gRPC health checking protocol: its request is one text, its answer one number."""
    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.encoding.base import CodecBase
    from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

    class Raw(CodecBase):
        __content_subtype__ = "proto"

        def encode(self, message: Any, message_type: Any) -> bytes:
            return bytes(message)

        def decode(self, data: bytes, message_type: Any) -> bytes:
            return data

    if trust is not None:
        trust.set_alpn_protocols(["h2"])
    channel = Channel(target.host, target.port, codec=Raw(), ssl=trust)
    try:
        answer = await UnaryUnaryMethod(channel, _METHOD, bytes, bytes)(_request(target.path))
    except GRPCError as error:
        # What else it says may be no business of those who read why a check failed.
        raise _FailedCheckError(f"it answers with gRPC status {error.status.name}") from error
    except (ProtocolError, StreamTerminatedError, AssertionError, LookupError, NotImplementedError) as error:
        # The last three are what grpclib makes of messages that are cut off, or compressed, or without a status.
        raise _FailedCheckError("what answers does not speak gRPC") from error
    finally:
        channel.close()
    if _status(answer) != _SERVING:
        raise _FailedCheckError(f"it says that it is not serving (status {_status(answer)})")


def _request(service: str) -> bytes:
    """`HealthCheckRequest {service}` in the encoding of Protocol Buffers: field 1, a text."""
    name = service.encode()
    if len(name) > 127:
        raise ValueError("the name of the gRPC service is too long")
    return bytes([0x0A, len(name)]) + name if name else b""


def _status(answer: bytes) -> int:
    """Field 1 of `HealthCheckResponse`, a small number; 0 (unknown) where it is left out."""
    return answer[1] if len(answer) == 2 and answer[0] == 0x08 else 0


async def _run(program: Path, vip: IPv4Address) -> None:
    """Run a program of the machine's administrator; its exit status tells."""
    _check_program(program)
    process = await asyncio.create_subprocess_exec(
        program,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath, "WIRELOOM_VIP": str(vip)},
        cwd="/",
        start_new_session=True,
    )
    try:
        status = await process.wait()
    finally:
        # The whole group, also where the program has ended: what it left behind is part of the check.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
    if status:
        ended = f"with status {status}" if status > 0 else f"by signal {-status}"
        raise _FailedCheckError(f"{program.name} ended {ended}")


def _check_program(program: Path) -> None:
    """Raise unless only this machine's administrator can say what runs."""
    for path, is_right, what in ((program.parent, stat.S_ISDIR, "a folder"), (program, stat.S_ISREG, "a file")):
        try:
            found = path.lstat()
        except FileNotFoundError:
            raise _FailedCheckError(f"there is no {path} on this machine") from None
        if not is_right(found.st_mode):
            raise _FailedCheckError(f"{path} is not {what}")
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _FailedCheckError(f"{path} must belong to root, and nobody else may write to it")
    if not os.access(program, os.X_OK):
        raise _FailedCheckError(f"{program} cannot be executed")
