"""How a gateway is set up."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from events.errors import InvalidInputError


class Limits(BaseModel):
    """How often somebody may ask who has not shown who he is, in each window of `seconds`. An address is an IPv4
    address or an IPv6 /64.

    Many machines may share one address, and renew all at once after an outage: hence the many requests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: int = Field(60, ge=1, le=3600)
    requests: int = Field(6_000, ge=1)
    """Of one address, without authentication."""
    all_requests: int = Field(60_000, ge=1)
    failures: int = Field(30, ge=1)
    """Refused enrolments, renewals, sign-ins and tokens of one address."""
    all_failures: int = Field(3_000, ge=1)


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address (RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.3) or localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_unspecified(host: str) -> bool:
    """Whether a server on `host` listens on every address, so that it is none to be found at."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host


def _split(value: Any) -> Any:
    return tuple(url.strip() for url in value.split(",") if url.strip()) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Where the bus is, where to listen, and who the control plane is."""

    model_config = SettingsConfigDict(populate_by_name=True)

    nats_url: str = Field("nats://127.0.0.1:7422", validation_alias="NATS_URL")
    bus_urls: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), validation_alias="WIRELOOM_BUS_URLS"
    )
    """The bus's addresses as machines and programs are told; without them, `nats_url`."""
    identity: Path | None = Field(None, validation_alias="WIRELOOM_IDENTITY")
    """The folder of the control plane's identity. None: whoever reaches the gateway may do everything."""
    replicas: int = Field(1, validation_alias="WIRELOOM_REPLICAS", ge=1, le=5)
    host: str = Field("127.0.0.1", validation_alias="WIRELOOM_HTTP_HOST")
    port: int = Field(7480, validation_alias="WIRELOOM_HTTP_PORT", ge=0, le=65535)
    public_url: str = Field("", validation_alias="WIRELOOM_PUBLIC_URL", pattern=r"^(https?://[!-~]+)?$")
    """Where machines find the gateway; without it, where it listens."""
    tls_cert: Path | None = Field(None, validation_alias="WIRELOOM_TLS_CERT")
    """A certificate (PEM, with those between it and its authority) instead of the identity's self-made one."""
    tls_key: Path | None = Field(None, validation_alias="WIRELOOM_TLS_KEY")
    limits: Limits = Field(Limits(), validation_alias="WIRELOOM_LIMITS")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        """Raises `InvalidInputError`: whoever reaches a gateway without an identity may do everything, so it is not
        offered to a network."""
        if self.identity is None and not is_loopback(self.host):
            raise InvalidInputError(
                f"The gateway does not listen on {self.host}: without authorisation, only this machine may reach it.",
                hint="Give the control plane's identity in WIRELOOM_IDENTITY, or bind to 127.0.0.1 or ::1.",
                field="host",
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidInputError(
                "A certificate and its key belong together.",
                hint="Give both WIRELOOM_TLS_CERT and WIRELOOM_TLS_KEY, or neither.",
                field="tls_cert" if self.tls_cert is None else "tls_key",
            )
        if self.tls_cert is not None and self.identity is None:
            raise InvalidInputError(
                "The gateway offers HTTPS only where it knows who may do what.",
                hint="Give the control plane's identity in WIRELOOM_IDENTITY, or leave out WIRELOOM_TLS_CERT.",
                field="tls_cert",
            )
        if not self.public_url and is_unspecified(self.host):
            raise InvalidInputError(
                f"The gateway listens on every address ({self.host or 'none is given'}), so that it does not know "
                "where machines and people find it.",
                hint="Give its address in WIRELOOM_PUBLIC_URL, like https://wireloom.example.org:7480.",
                field="public_url",
            )
        return self

    @property
    def told_bus_urls(self) -> tuple[str, ...]:
        """The bus's addresses for machines and programs."""
        return self.bus_urls or _split(self.nats_url)

    def told_url(self, port: int) -> str:
        """The gateway's own address for people, machines and programs; `port` is the one that it listens on."""
        scheme = "http" if self.identity is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url.rstrip("/") or f"{scheme}://{host}:{port}"

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """The files of the certificate and its key to answer with; None for HTTP without TLS."""
        if self.tls_cert is not None and self.tls_key is not None:
            return self.tls_cert, self.tls_key
        if self.identity is not None:
            return self.identity / "tls" / "https.pem", self.identity / "tls" / "https.key"
        return None
