"""How a gateway is set up."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.errors import InvalidInputError


def check_loopback(host: str) -> str:
    """`host` if it is a loopback address (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3) or localhost.

    Raises `InvalidInputError`: whoever reaches the gateway may do everything, so it is not offered to a network.
    """
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise InvalidInputError(
            f"The gateway does not listen on {host}: without authorisation, only this machine may reach it.",
            hint="Bind it to a loopback address, 127.0.0.1 or ::1; reach it from elsewhere through an SSH tunnel.",
            field="host",
        )
    return host


class Settings(BaseSettings):
    """Where the bus is, and where to listen."""

    model_config = SettingsConfigDict(populate_by_name=True)

    nats_url: str = Field("nats://127.0.0.1:7422", validation_alias="NATS_URL")
    identity: Path | None = Field(None, validation_alias="WIRELOOM_IDENTITY")
    """The folder of the control plane's identity. None: whoever reaches the gateway may do everything."""
    replicas: int = Field(1, validation_alias="WIRELOOM_REPLICAS", ge=1, le=5)
    host: Annotated[str, AfterValidator(check_loopback)] = Field("127.0.0.1", validation_alias="WIRELOOM_HTTP_HOST")
    port: int = Field(7480, validation_alias="WIRELOOM_HTTP_PORT", ge=0, le=65535)
