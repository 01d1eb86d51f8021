"""The field types that events, commands and records share, and the rules for names. Pure."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, StringConstraints

from events.errors import InvalidNameError
from events.trust.keys import check_public

T = TypeVar("T")

NAME_MAX = 63
HOSTNAME_MAX = 253
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


class Frozen(BaseModel):
    """Base of every message: immutable, and refusing fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tolerant(BaseModel):
    """Base of what an older reader must still understand: immutable, and ignoring fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def check_network_name(name: str) -> str:
    """`name` if a network may have it: 1 to 63 ASCII letters, digits, '.', '_' or '-', with a letter or digit at
    both ends. Raises `InvalidNameError`."""
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"{shown(name)} cannot be a network's name.",
            hint=(
                "Use 1 to 63 letters, digits, dots, underscores or hyphens, beginning and ending with a letter or "
                "digit, for example office-mesh."
            ),
            field="name",
        )
    return name


def check_hostname(name: str) -> str:
    """`name` if a machine may have it: a host name as in RFC 1123, section 2.1. Raises `InvalidNameError`."""
    labels = name.split(".")
    if not 0 < len(name) <= HOSTNAME_MAX or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidNameError(
            f"{shown(name)} cannot be a machine's hostname.",
            hint="Use letters, digits and hyphens in parts of up to 63, joined by dots, for example db-1.example.org.",
            field="hostname",
        )
    return name


def check_label(name: str, what: str, example: str = "alice or ci-pipeline") -> str:
    """`name` if an account, API token, route or the like (`what`) may have it: by the rule for networks' names. Raises
    `InvalidNameError`."""
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"{shown(name)} cannot be the name of {what}.",
            hint=(
                "Use 1 to 63 letters, digits, dots, underscores or hyphens, beginning and ending with a letter or "
                f"digit, for example {example}."
            ),
            field="name",
        )
    return name


def shown(text: str) -> str:
    """`text` as it may stand in a message for people: shortened, and without control characters."""
    clean = "".join("�" if unicodedata.category(c)[0] == "C" else c for c in text)
    return repr(clean if len(clean) <= 60 else clean[:60] + "…")


def _check_public_key(key: str) -> str:
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a WireGuard public key is 32 bytes in base64, as `wg pubkey` prints it") from error
    if len(raw) != 32 or base64.b64encode(raw).decode() != key:
        raise ValueError("a WireGuard public key is 32 bytes in base64, as `wg pubkey` prints it")
    if raw == bytes(32):
        raise ValueError("the all-zero key is not a usable WireGuard public key")
    return key


def _known_address(value: Any) -> Any:
    return _or_itself(_address, value)


def _known_cidr(value: Any) -> Any:
    return _or_itself(_cidr, value)


def _or_itself(read: Callable[[str], T], value: Any) -> Any:
    """What text says; the text itself where nobody can read it, for whom that concerns to say so."""
    if type(value) is not str:
        return value
    try:
        return read(value)
    except ValueError:
        return value


# The same few stand in very many events and records, and to read one takes long.
_address = lru_cache(maxsize=50_000)(IPv4Address)
_cidr = lru_cache(maxsize=5_000)(IPv4Network)


def _check_text(value: Any) -> Any:
    if not isinstance(value, str | IPv4Address):
        raise ValueError("an address is written as text, for example 172.16.0.7")
    return value


def check_endpoint(endpoint: str) -> str:
    """`endpoint` in its canonical form, if another machine can send a packet there. Raises ValueError."""
    host, port = split_endpoint(endpoint)
    if host.is_unspecified or host.is_multicast or getattr(host, "scope_id", None):
        raise ValueError(f"{shown(endpoint)} is not an address that other machines can send a packet to")
    return join_endpoint(host, port)


def split_endpoint(endpoint: str) -> tuple[IPv4Address | IPv6Address, int]:
    """The address and UDP port of an endpoint such as `192.0.2.1:51820` or `[2001:db8::1]:51820`.

    Raises ValueError where it is not one.
    """
    host, colon, port = endpoint.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{shown(endpoint)} is not an endpoint: write address:port, the port from 1 to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6):
        raise ValueError(f"{shown(endpoint)} is not an endpoint: write an IPv6 address in square brackets")
    return address, int(port)


def join_endpoint(address: IPv4Address | IPv6Address, port: int) -> str:
    """The endpoint text of an address and a UDP port; IPv6 in square brackets (RFC 3986, section 3.2.2)."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _to_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time is in the years 1 to 9999, also in UTC") from error


def _utc_text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, AfterValidator(_to_utc), PlainSerializer(_utc_text, return_type=str, when_used="json")]
"""A time in UTC, in JSON always with six decimals, so that equal times are equal bytes."""

PublicKey = Annotated[str, AfterValidator(_check_public_key)]
"""A WireGuard public key: 32 bytes in base64."""

Endpoint = Annotated[str, AfterValidator(check_endpoint)]
"""Where a machine may be reached with WireGuard: address and UDP port, canonical."""


def _check_identity_key(key: str) -> str:
    return check_public(key, "user")


IdentityKey = Annotated[str, AfterValidator(_check_identity_key)]
"""A machine's public identity key: a NATS user key (`events.trust.keys`)."""

SecretHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of a token, in hex (`events.trust.tokens`)."""

AccountRole = Literal["viewer", "operator", "admin"]
"""What an account or API token may do: see; change networks and machines too; manage accounts and keys too."""

TransitMode = Literal["auto", "always", "never"]
"""Whether other machines' traffic may go through a machine: if nothing speaks against it; by preference; not at all."""

TokenUse = Literal["api", "session"]
"""What an API token is for: a program or the command line, or a browser."""

Address = Annotated[IPv4Address, BeforeValidator(_known_address)]
GivenAddress = Annotated[IPv4Address, BeforeValidator(_check_text)]
"""An address as somebody gives it: text, for a number would be taken as one too."""

Cidr = Annotated[IPv4Network, BeforeValidator(_known_cidr)]
