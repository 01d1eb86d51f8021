"""What the topology service is told from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.topology.past.snapshots import LEAST_BETWEEN


class Settings(BaseSettings):
    """The settings, from the environment unless given."""

    model_config = SettingsConfigDict(populate_by_name=True)

    nats_url: Annotated[str, Field(validation_alias="NATS_URL")] = "nats://127.0.0.1:7422"
    """The bus; several servers of one cluster separated by commas."""
    replicas: Annotated[int, Field(validation_alias="WIRELOOM_REPLICAS", ge=1, le=5)] = 1
    """How many servers keep each stream."""
    events_between_snapshots: Annotated[int, Field(validation_alias="WIRELOOM_EVENTS_BETWEEN_SNAPSHOTS", ge=1)] = (
        LEAST_BETWEEN
    )
    """At least so many events lie between two snapshots of what STATE held."""
    identity: Annotated[Path | None, Field(validation_alias="WIRELOOM_IDENTITY")] = None
    """The folder of the control plane's identity; None for a bus that does not ask who one is, and unsigned records."""
