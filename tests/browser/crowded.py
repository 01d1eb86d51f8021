"""A scene with something of everything on it, and with the worst that machines and people may write anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

from events import bus
from events.commands import CreateNetwork
from events.records import LinkState, RibRoute, RibState, SessionState, SpeakerState, VipHealth
from tests.browser.scene import Scene

EVIL_ASCII = "<script>window.hacked=1</script>\"><img src=x onerror=window.hacked=1>'{{7*7}}${7*7}"
"""Script, markup, the end of an attribute, templates."""

EVIL = EVIL_ASCII + "\u202edrow\u202c"
"""And text that turns around."""

EVIL_WORD = "\"><svg/onload=window.hacked=1>'<script>window.hacked=1</script>{{7*7}}"
"""As much of it as goes without spaces, in ASCII."""

LONG = "x" * 100


class Crowd:
    """Networks, machines, paths, sessions, routes, virtual IPs, policies, and what happened to them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.office = scene.network("office", "172.16.0.0/24", is_default=True, route_reflector_mode=True)
        self.lab = scene.network(("long-name." * 7)[:63], "10.9.0.0/16")
        scene.network("empty", "10.10.0.0/24")
        self.db = scene.machine("db-1", self.office, self.lab)
        self.web = scene.machine("web-1.a-rather-long-domain-name.of-an-organisation.example.com", self.office)
        self.far = scene.machine("far-1", self.office)
        self.gone = scene.machine("gone-1", self.office, online=False)
        scene.change("POST", f"/machines/{self.gone.id}/revoke")
        attic = scene.network("attic", "10.77.0.0/24")
        scene.change("DELETE", f"/mesh-networks/{attic}")
        scene.change("POST", "/bootstrap-tokens", {"mesh_network_uuid": str(self.office)})
        self.vip = self._routing()
        self.write_badly()
        self._speak()

    def _routing(self) -> UUID:
        scene, db = self.scene, str(self.db.id)
        scene.change("POST", "/routes", {"name": "lan", "prefixes": ["192.168.7.0/24"], "machine_uuids": [db]})
        vip = scene.change(
            "POST",
            "/vips",
            {
                "name": "web",
                "address": "203.0.113.10",
                "machine_uuids": [db, str(self.web.id)],
                "health_check_type": "http",
                "health_check_target": f"/{EVIL_WORD}",
            },
        )
        rule = {"sequence": 10, "description": EVIL}
        policy = {"name": "edge", "direction": "import", "description": EVIL, "rules": [rule]}
        made = scene.change("POST", "/route-policies", policy | {"network_uuids": [str(self.office)]})
        scene.change("PATCH", f"/route-policies/{made['uuid']}", {"description": EVIL + LONG[:50]})
        return UUID(vip["uuid"])

    def write_badly(self) -> None:
        """Machines report their paths, and a program at the console does not say who it is."""
        scene = self.scene
        scene.direct(self.office, self.db, self.web)
        for here, there in ((self.db, self.far), (self.far, self.db)):
            tried = ((EVIL_ASCII, EVIL_ASCII), (LONG, LONG))
            scene.report(here, self.office, LinkState(peer_id=there.id, state="unreachable", tried=tried))
        for here, there in ((self.web, self.far), (self.far, self.web)):
            link = LinkState(peer_id=there.id, state="direct", rtt=20, endpoint=EVIL_ASCII)
            scene.report(here, self.office, link)
        scene.do(self._at_the_console())

    async def _at_the_console(self) -> None:
        plane = self.scene.plane
        console = await bus.connect(plane.bus_url, "console", plane.identity.credentials("console"))
        try:
            command = CreateNetwork(
                command_id=uuid4(),
                actor=EVIL_WORD + LONG[:100],
                network_id=uuid4(),
                name="evil",
                network_cidr="10.66.0.0/24",
            )
            outcome = await bus.execute(console, command)
        finally:
            await console.close()
        assert outcome.changed

    def _speak(self) -> None:
        scene, since = self.scene, datetime.now(UTC) - timedelta(minutes=5)
        health = VipHealth(vip_id=self.vip, healthy=False, since=since, reason=EVIL + LONG)
        route = RibRoute(
            prefix=IPv4Network("10.30.0.0/16"),
            next_hop=IPv4Address("172.16.0.2"),
            best=True,
            local_pref=200,
            communities=(EVIL_ASCII[-40:], EVIL_ASCII[:40]),
            since=since,
        )
        scene.report_bgp(
            self.db,
            self.office,
            SpeakerState(state="running", version=EVIL_WORD[:60], since=since, vips=(health,)),
            SessionState(peer_id=self.web.id, purpose="mesh", state="idle", since=since, error=EVIL + LONG[:50]),
            RibState(part=0, parts=1, total=1, routes=(route,)),
        )
        scene.report_bgp(self.far, self.office, SpeakerState(state="failed", reason=EVIL + LONG * 2, since=since))
