"""The library's factory for recorders on JetStream: which stream belongs to which application. A shell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    InfrastructureFactoryError,
    ProcessRecorder,
)
from eventsourcing.utils import resolve_topic

from events import bus
from events.identity import Identity
from events.store.bridge import Bridge
from events.store.journal import Journal
from events.store.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)
from events.store.wire import token_of
from events.subjects import LOG, SNAPSHOTS, Stream

T = TypeVar("T")

DEFAULT_URL = "nats://127.0.0.1:7422"

_HOUSE = {("Allocator", "events"): LOG, ("Allocator", "snapshots"): SNAPSHOTS}
"""The streams that others know by name."""


class JetStreamFactory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """Makes recorders that share one connection. The streams they need are made if missing; the bus is waited for.

    Raises `UnavailableError` from its methods if the bus refuses.
    """

    aggregate_recorder_class = JetStreamAggregateRecorder
    application_recorder_class = JetStreamApplicationRecorder
    tracking_recorder_class = JetStreamTrackingRecorder
    process_recorder_class = JetStreamProcessRecorder

    _bridge: Bridge | None = None

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """A recorder of aggregates' events, or with the purpose `snapshots` of their snapshots."""
        return self.aggregate_recorder_class(
            *self._place(purpose, is_sparse=purpose == "snapshots"), has_text_ids=self._has_text_ids
        )

    def application_recorder(self) -> ApplicationRecorder:
        """A recorder of the application's events."""
        recorder_class = self._class(self.APPLICATION_RECORDER_TOPIC, self.application_recorder_class)
        return recorder_class(*self._place("events"), has_text_ids=self._has_text_ids)

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        """A recorder of how far other applications' events were processed."""
        recorder_class = tracking_recorder_class or self._class(
            self.TRACKING_RECORDER_TOPIC, self.tracking_recorder_class
        )
        return recorder_class(*self._place("tracking"))

    def process_recorder(self) -> ProcessRecorder:
        """A recorder of the application's events and of how far it processed others'."""
        recorder_class = self._class(self.PROCESS_RECORDER_TOPIC, self.process_recorder_class)
        return recorder_class(*self._place("events"), has_text_ids=self._has_text_ids)

    def close(self) -> None:
        """Close the connection. What waits for it is told."""
        if self._bridge is not None:
            self._bridge.close()
            self._bridge = None

    @property
    def _has_text_ids(self) -> bool:
        kind = (self.env.get("ORIGINATOR_ID_TYPE") or "uuid").lower()
        if kind not in ("uuid", "text"):
            raise InfrastructureFactoryError(f"ORIGINATOR_ID_TYPE is {kind!r}; it must be 'uuid' or 'text'")
        return kind == "text"

    def _class(self, setting: str, default: type[T]) -> type[T]:
        topic = self.env.get(setting)
        return cast("type[T]", resolve_topic(topic)) if topic else default

    def _place(self, purpose: str, *, is_sparse: bool = False) -> tuple[Bridge, Journal]:
        if self._bridge is None:
            url, folder = self.env.get("NATS_URL") or DEFAULT_URL, self.env.get("WIRELOOM_IDENTITY")
            credentials = Identity(Path(folder)).credentials("allocator") if folder else None
            self._bridge = Bridge(url, self.env.name or "events.store", credentials)
        stream = self._stream(purpose)
        replicas = int(self.env.get("WIRELOOM_REPLICAS") or 1)
        ensure = partial(bus.ensure_streams, self._bridge.client, [stream], replicas)
        self._bridge.submit(bus.when_ready(self._bridge.client, ensure)).result()
        return self._bridge, Journal(self._bridge.client, stream.name, stream.prefix, is_sparse=is_sparse)

    def _stream(self, purpose: str) -> Stream:
        prefix = self.env.get("STREAM_PREFIX") or ""
        if not prefix and (stream := _HOUSE.get((self.env.name, purpose))):
            return stream
        name = "_".join(token_of(part).replace("%", "_") for part in (prefix, self.env.name, purpose) if part)
        return Stream(name, f"es.{name}")
