"""What the gateway counts, for Prometheus. Each gateway has its own registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The gateway's measurements."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.commands = Counter(
            "wireloom_commands",
            "Commands, by kind and result: done, unchanged, the refusal's code, or handed-on to be answered directly.",
            ("kind", "result"),
            registry=self._registry,
        )
        self.command_seconds = Histogram(
            "wireloom_command_seconds",
            "Time to the allocator's answer, of commands that were not handed on.",
            ("kind",),
            buckets=_LATENCIES,
            registry=self._registry,
        )
        self.http_requests = Counter(
            "wireloom_http_requests",
            "HTTP requests answered, by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.http_seconds = Histogram(
            "wireloom_http_request_seconds",
            "Time to the beginning of the HTTP answer.",
            ("method", "route"),
            buckets=_LATENCIES,
            registry=self._registry,
        )
        self.sync_requests = Counter(
            "wireloom_sync_requests",
            "Agents' requests for records, by answer (records, reset, gone, or the refusal's code).",
            ("answer",),
            registry=self._registry,
        )
        self.heartbeats = Counter("wireloom_heartbeats", "Heartbeats heard of agents.", registry=self._registry)
        self.refused_admissions = Counter(
            "wireloom_refused_admissions",
            "Machines that were refused access to the bus, by what they wanted (enrol, renew) and the refusal's code.",
            ("purpose", "code"),
            registry=self._registry,
        )
        self.refused_heartbeats = Counter(
            "wireloom_refused_heartbeats",
            "Heartbeats refused: repeated, out of order, unreadable, or of a machine that may not be here.",
            registry=self._registry,
        )
        self.refused_records = Counter(
            "wireloom_refused_records",
            "Records that agents report to have refused: forged, replayed, or not theirs.",
            registry=self._registry,
        )
        self.revocations = Counter(
            "wireloom_revocations_pushed",
            "Machines whose tokens were revoked on the bus.",
            registry=self._registry,
        )
        self.mirror_position = Gauge(
            "wireloom_mirror_position", "Log position that the mirror has reached.", registry=self._registry
        )
        self.mirror_lag = Gauge(
            "wireloom_mirror_lag", "Log positions between the mirror and the log's end.", registry=self._registry
        )
        self.networks = Gauge("wireloom_networks", "Mesh networks.", registry=self._registry)
        self.machines = Gauge("wireloom_machines", "Machines.", registry=self._registry)
        self.agents_online = Gauge("wireloom_agents_online", "Machines that are online.", registry=self._registry)

    def exposition(self) -> bytes:
        """Everything in the Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)
