"""The persistence module for the `eventsourcing` library on NATS JetStream (`PERSISTENCE_MODULE=events.store`).

Settings, from the application's environment: `NATS_URL`; `WIRELOOM_REPLICAS` for streams that are made here;
`STREAM_PREFIX` to keep other applications' streams apart; `ORIGINATOR_ID_TYPE` (`uuid` or `text`) as in the library.
"""

from events.store.factory import JetStreamFactory
from events.store.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)

__all__ = [
    "JetStreamAggregateRecorder",
    "JetStreamApplicationRecorder",
    "JetStreamFactory",
    "JetStreamProcessRecorder",
    "JetStreamTrackingRecorder",
]
