"""`wireloom serve`: one service in the foreground."""

from __future__ import annotations

import asyncio
import importlib
import signal
from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from events.ending import StoppedError
from events.errors import InvalidInputError
from services.cli.logs import configure_logging


class Service(StrEnum):
    """The services that make up a control plane."""

    ALLOCATOR = "allocator"
    TOPOLOGY = "topology"
    GATEWAY = "gateway"


def serve(service: Annotated[Service, typer.Argument(help="Which part to run.")]) -> None:
    """Run one part of the control plane in the foreground, until SIGTERM or Ctrl-C.

    It is configured by its environment: NATS_URL (nats://127.0.0.1:7422), WIRELOOM_REPLICAS (1) and WIRELOOM_IDENTITY
    (none: whoever reaches it may do everything); the gateway also by WIRELOOM_HTTP_HOST (127.0.0.1), WIRELOOM_HTTP_PORT
    (7480), WIRELOOM_PUBLIC_URL, WIRELOOM_BUS_URLS, WIRELOOM_TLS_CERT and WIRELOOM_TLS_KEY.
    """
    configure_logging(service=service.value)
    module = importlib.import_module(f"services.{service.value}.service")

    async def until_told() -> None:
        with suppress(StoppedError):
            await module.serve(_settings(module.Settings), stop_on_signals())

    asyncio.run(until_told())


def _settings(settings_type: type[BaseSettings]) -> BaseSettings:
    """The service's settings from the environment. Raises `InvalidInputError` that names the wrong one."""
    try:
        return settings_type()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(
            f"The setting {name} cannot be {first['input']!r}: {first['msg']}.",
            hint="Correct it in the environment.",
            field=name,
        ) from error


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
