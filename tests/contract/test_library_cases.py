"""The cases that the `eventsourcing` library ships for every persistence module, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from eventsourcing.persistence import Tracking
from eventsourcing.tests import application as application_cases
from eventsourcing.tests import persistence as persistence_cases
from eventsourcing.tests import projection as projection_cases
from eventsourcing.utils import Environment, get_topic

from events.store import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamFactory,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
    fetch,
)
from events.store.wire import EXPECTED_SUBJECT_SEQUENCE, Draft
from services.cli.embedded import EmbeddedServer


class OnJetStream:
    """Gives a case streams of its own, and closes what it made."""

    env: Any
    originator_id_type: ClassVar[str] = "uuid"

    @pytest.fixture(autouse=True)
    def _on_jetstream(self, shared_bus: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        settings = {
            "PERSISTENCE_MODULE": "events.store",
            "NATS_URL": shared_bus.url,
            "STREAM_PREFIX": uuid4().hex[:8],
            "ORIGINATOR_ID_TYPE": self.originator_id_type,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        self.env = Environment("Case", settings)
        self.made = JetStreamFactory(self.env)
        yield
        self.made.close()


class TestAggregateRecorder(OnJetStream, persistence_cases.AggregateRecorderTestCase):
    def create_recorder(self) -> JetStreamAggregateRecorder:
        return self.made.aggregate_recorder()


class TestAggregateRecorderOfSnapshots(OnJetStream, persistence_cases.RecorderTestCase):
    """Snapshots: versions with gaps, and only the newest two are kept."""

    def test_newest_two_are_kept(self) -> None:
        recorder = self.made.aggregate_recorder("snapshots")
        originator_id = uuid4()
        snapshots = [
            persistence_cases.StoredEvent(originator_id, version, "snapshot", b"%d" % version)
            for version in (7, 20, 33)
        ]
        for snapshot in snapshots:
            recorder.insert_events([snapshot])
        assert recorder.select_events(originator_id) == snapshots[1:]
        assert recorder.select_events(originator_id, desc=True, limit=1) == snapshots[2:]
        assert recorder.select_events(originator_id, desc=True, limit=1, lte=32) == snapshots[1:2]
        with pytest.raises(persistence_cases.IntegrityError):
            recorder.insert_events(snapshots[2:])


class TestApplicationRecorder(OnJetStream, persistence_cases.ApplicationRecorderTestCase):
    def create_recorder(self) -> JetStreamApplicationRecorder:
        return self.made.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderWithTextIds(TestApplicationRecorder):
    originator_id_type = "text"

    def new_originator_id(self) -> str:
        return f"Order no. {uuid4()} > * ü"


class TestTrackingRecorder(OnJetStream, persistence_cases.TrackingRecorderTestCase):
    def create_recorder(self) -> JetStreamTrackingRecorder:
        return self.made.tracking_recorder()


class TestProcessRecorder(OnJetStream, persistence_cases.ProcessRecorderTestCase):
    def create_recorder(self) -> JetStreamProcessRecorder:
        return self.made.process_recorder()


class TestNonInterleaving(OnJetStream, persistence_cases.NonInterleavingNotificationIDsBaseCase):
    insert_num = 1000

    def create_recorder(self) -> JetStreamApplicationRecorder:
        return self.made.application_recorder()


class OwnTrackingRecorder(JetStreamTrackingRecorder):
    pass


class TestFactory(OnJetStream, persistence_cases.InfrastructureFactoryTestCase[JetStreamFactory]):
    def expected_factory_class(self) -> type[JetStreamFactory]:
        return JetStreamFactory

    def expected_aggregate_recorder_class(self) -> type[JetStreamAggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[JetStreamApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[JetStreamTrackingRecorder]:
        return JetStreamTrackingRecorder

    def tracking_recorder_subclass(self) -> type[JetStreamTrackingRecorder]:
        return OwnTrackingRecorder

    def expected_process_recorder_class(self) -> type[JetStreamProcessRecorder]:
        return JetStreamProcessRecorder


class TestExampleApplication(OnJetStream, application_cases.ExampleApplicationTestCase):
    expected_factory_topic = get_topic(JetStreamFactory)


@pytest.mark.filterwarnings("always:'log' is deprecated:DeprecationWarning")
class TestApplication(OnJetStream, application_cases.ApplicationTestCase):
    pass


class EventCounters(JetStreamTrackingRecorder, projection_cases.EventCountersView):
    """A view that counts, and writes each count together with the position that it was made at."""

    def get_created_event_counter(self) -> int:
        return self._call(self._count("created"))[0]

    def get_subsequent_event_counter(self) -> int:
        return self._call(self._count("subsequent"))[0]

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._call(self._increment("created", tracking))

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._call(self._increment("subsequent", tracking))

    async def _count(self, name: str) -> tuple[int, int]:
        subject = f"{self._journal.prefix}.count.{name}"
        entry = await fetch.newest(self._journal.client, self._journal.stream, subject)
        return (int(entry.data), entry.sequence) if entry else (0, 0)

    async def _increment(self, name: str, tracking: Tracking) -> None:
        count, sequence = await self._count(name)
        headers = {EXPECTED_SUBJECT_SEQUENCE: str(sequence)}
        await self._track(tracking, [Draft(f"{self._journal.prefix}.count.{name}", str(count + 1).encode(), headers)])


class TestEventCountersView(OnJetStream, projection_cases.EventCountersViewTestCase):
    def construct_event_counters_view(self) -> EventCounters:
        return self.made.tracking_recorder(EventCounters)


class TestEventCountersProjection(OnJetStream, projection_cases.AggregateEventCountersProjectionTestCase):
    view_class = EventCounters


class TestEventSourcedProjection(OnJetStream, projection_cases.EventSourcedProjectionTestCase):
    pass
