"""The page of one machine: its tabs, and what one can do with it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

import pytest
from nats.aio.msg import Msg
from playwright.sync_api import Page, expect

from events.records import LinkState, RibRoute, RibState, SessionState, SpeakerState, VipHealth
from events.subjects import ask
from events.subjects import look as look_at
from events.tunnels import Tunnel, TunnelPart, TunnelPeer
from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Machine, Scene

TABS = ("", "/endpoints", "/peers", "/routing", "/routes", "/vips", "/events")
HOSTILE = "<img src=x onerror=alert(1)>"
REFUSED = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def office(scene: Scene) -> UUID:
    return scene.network("office", "172.16.0.0/24")


@pytest.fixture(scope="module")
def db(scene: Scene, office: UUID) -> Machine:
    return scene.machine("db-1", office)


@pytest.fixture(scope="module")
def web(scene: Scene, office: UUID, db: Machine) -> Machine:
    return scene.machine("web-1", office)


def choose(page: Page, name: str) -> None:
    """Something in the machine's menu."""
    page.locator("#machine-menu > summary").click()
    page.locator("#machine-menu").get_by_role("button", name=name).click()


async def tell_tunnels(machine: Machine, network_id: UUID, peer: Machine) -> None:
    """Whoever looks at this machine's tunnels is told of a handshake with that peer."""

    async def told(_: Msg) -> None:
        peers = (TunnelPeer(machine_id=peer.id, handshake=12, rx_bytes=2_000_000, tx_bytes=4096),)
        tunnel = Tunnel(network_id=network_id, interface="wl-1", peers=peers)
        part = TunnelPart(boot_id=machine.boot, counter=machine.next(), tunnels=(tunnel,))
        await machine.client.publish(ask(machine.id, "tunnels"), part.model_dump_json().encode())

    await machine.client.subscribe(look_at(machine.id), cb=told)
    await machine.client.flush()


def forgive(faults: list[str]) -> None:
    """Browsers complain of what was refused, as was expected."""
    faults[:] = [fault for fault in faults if REFUSED not in fault]


def test_the_networks_it_is_in(scene: Scene, opened: Opened, office: UUID, db: Machine) -> None:
    page = opened()
    page.goto(f"/machines/{db.id}")
    card = page.get_by_role("region", name="office")
    expect(card).to_contain_text("172.16.0.1")
    expect(card).to_contain_text(f"wl-{office.hex[:8]}")
    expect(card).to_contain_text("51820")
    expect(card.get_by_text("Key announced").locator("+ dd time")).to_be_visible()
    expect(page.get_by_text(str(db.id))).to_be_visible()
    look(page, "machine")
    assert_accessible(page)
    scene.beat(db, leaving=True)
    expect(page.locator("#machine-head")).to_contain_text("seen")
    scene.beat(db)
    expect(page.locator("#machine-head")).to_contain_text("online")


def test_assign_and_unassign(scene: Scene, opened: Opened, faults: list[str]) -> None:
    machine = scene.machine("roamer")
    lab = scene.network("lab", "10.9.0.0/16")
    page = opened()
    page.goto(f"/machines/{machine.id}")
    expect(page.get_by_text("In no mesh network")).to_be_visible()
    look(page, "machine-nowhere")
    page.locator("#machine-head").get_by_role("button", name="Assign to a network").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Mesh network").select_option(str(lab))
    dialog.get_by_label("Mesh address").fill("192.168.3.3")
    look(page, "machine-assign")
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(dialog.locator(".field-fault")).to_be_visible()
    forgive(faults)
    expect(dialog.get_by_label("Mesh address")).to_have_value("192.168.3.3")
    dialog.get_by_label("Mesh address").fill("10.9.0.77")
    dialog.get_by_role("button", name="Assign", exact=True).click()
    card = page.get_by_role("region", name="lab")
    expect(card).to_contain_text("10.9.0.77")
    expect(card).to_contain_text("has not announced a key")
    expect(page.get_by_role("dialog")).to_have_count(0)
    card.get_by_role("button", name="Unassign from lab").click()
    assert_accessible(page)
    page.get_by_role("dialog").get_by_role("button", name="Unassign").click()
    expect(page.get_by_text("In no mesh network")).to_be_visible()


def test_rename_transit_and_keys(scene: Scene, opened: Opened, faults: list[str], office: UUID) -> None:
    machine = scene.machine("old-name", office)
    page, other = opened(), opened("viewer")
    other.goto(f"/machines/{machine.id}")
    page.goto(f"/machines/{machine.id}")
    choose(page, "Rename")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Hostname").fill("not a name")
    dialog.get_by_role("button", name="Rename").click()
    expect(dialog.locator(".field-fault")).to_contain_text("cannot be a machine's hostname")
    forgive(faults)
    dialog.get_by_label("Hostname").fill("new-name")
    dialog.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1, name="new-name")).to_be_visible()
    expect(other.get_by_role("heading", level=1, name="new-name")).to_be_visible()
    choose(page, "Transit")
    look(page, "machine-transit")
    page.get_by_role("dialog").get_by_label("Preferred").check()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(other.locator("#machine-traits")).to_contain_text("preferred")
    choose(page, "Rotate keys")
    page.get_by_role("dialog").get_by_role("button", name="Rotate keys").click()
    expect(page.get_by_text("was told to make new keys")).to_be_visible()
    page.get_by_role("link", name="Events", exact=True).last.click()
    expect(page.locator("#machine-events")).to_contain_text("make a new key")
    look(page, "machine-events")
    assert_accessible(page)


def test_endpoints_and_who_saw_them(scene: Scene, opened: Opened, office: UUID, db: Machine, web: Machine) -> None:
    endpoints = ("10.0.0.7:51820", "198.51.100.4:51820", "198.51.100.4:40001", "100.64.3.2:51820")
    scene.announce(db, office, *endpoints)
    scene.report(web, office, LinkState(peer_id=db.id, state="direct", rtt=5, endpoint="10.0.0.7:51820"))
    page = opened()
    page.goto(f"/machines/{db.id}/endpoints")
    card = page.get_by_role("region", name="office")
    seen = card.get_by_role("row", name="10.0.0.7:51820")
    expect(seen).to_contain_text("private")
    expect(seen).to_contain_text("web-1")
    expect(seen).to_contain_text("5 ms")
    expect(card.get_by_role("row", name="198.51.100.4:51820")).to_contain_text("Nobody reaches it here")
    expect(card.get_by_role("row", name="198.51.100.4:40001")).to_contain_text("mapped port")
    expect(card.get_by_role("row", name="100.64.3.2")).to_contain_text("carrier NAT")
    look(page, "machine-endpoints")
    assert_accessible(page)
    tried = (("10.0.0.7:51820", HOSTILE),)
    scene.report(web, office, LinkState(peer_id=db.id, state="unreachable", tried=tried))
    expect(seen).to_contain_text("1 peer tried in vain")
    seen.get_by_role("button", name="1 peer tried in vain").click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)


def test_peers(scene: Scene, opened: Opened, office: UUID, db: Machine, web: Machine) -> None:
    scene.direct(office, db, web, rtt=10)
    lost = scene.machine("lost-1", office, online=False)
    scene.apart(office, db, lost)
    scene.do(tell_tunnels(db, office, web))
    scene.beat(db)
    page = opened()
    page.goto(f"/machines/{db.id}/peers")
    row = page.get_by_role("row", name="web-1")
    expect(row).to_contain_text("direct")
    expect(row).to_contain_text("10 ms")
    expect(row).to_contain_text("2.0 MB")
    expect(row).to_contain_text("4.1 kB")
    expect(page.get_by_role("row", name="lost-1")).to_contain_text("down")
    expect(row.get_by_role("link", name="direct")).to_have_attribute(
        "href", f"/networks/{office}/paths/{db.id}/{web.id}"
    )
    look(page, "machine-peers")
    assert_accessible(page)
    page.get_by_label("Search by hostname or mesh address").fill("web")
    expect(page.get_by_role("row", name="lost-1")).to_have_count(0)
    expect(page).to_have_url(re.compile("search=web"))
    scene.apart(office, db, web)
    expect(row).to_contain_text("down")
    page.get_by_label("Path").select_option("direct")
    expect(page.get_by_text("Nothing found")).to_be_visible()
    page.get_by_role("link", name="Show all peers").click()
    expect(page.get_by_role("row", name="lost-1")).to_be_visible()


def test_routing(scene: Scene, opened: Opened, office: UUID, db: Machine, web: Machine) -> None:
    page = opened("viewer")
    page.goto(f"/machines/{db.id}/routing")
    expect(page.locator("#speakers")).to_contain_text("unknown")
    since = datetime.now(UTC) - timedelta(minutes=5)
    off = SpeakerState(state="off", reason="BIRD 2 is not installed on this machine.", since=since)
    scene.report_bgp(db, office, off)
    expect(page.locator("#speakers")).to_contain_text("BGP turns on by itself")
    prefixes = (IPv4Network("10.20.0.0/16"),)
    route = RibRoute(
        prefix=IPv4Network("10.30.0.0/16"),
        next_hop=IPv4Address("172.16.0.2"),
        best=True,
        local_pref=200,
        communities=("65000:100",),
        since=since,
    )
    scene.report_bgp(
        db,
        office,
        SpeakerState(state="running", version="2.0.12", since=since, announced=prefixes),
        SessionState(peer_id=web.id, purpose="mesh", state="active", since=since, imported=3, error=HOSTILE),
        RibState(part=0, parts=1, total=1, routes=(route,)),
    )
    expect(page.locator("#speakers")).to_contain_text("running")
    expect(page.locator("#speakers")).to_contain_text("10.20.0.0/16")
    expect(page.locator("#sessions").get_by_role("row", name="web-1")).to_contain_text(HOSTILE)
    expect(page.locator("#rib").get_by_role("row", name="10.30.0.0/16")).to_contain_text("65000:100")
    look(page, "machine-routing")
    assert_accessible(page)


def test_routes(scene: Scene, opened: Opened, faults: list[str], db: Machine) -> None:
    page, other = opened(), opened("viewer")
    for each in (page, other):
        each.goto(f"/machines/{db.id}/routes")
    page.get_by_role("button", name="New route").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("office-lan")
    dialog.get_by_label("Prefixes").fill("10.20.0.0/16\nnonsense")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.locator("#fault-prefixes")).to_be_visible()
    forgive(faults)
    look(page, "machine-route-fault")
    dialog.get_by_label("Prefixes").fill("10.20.0.0/16\n10.21.0.0/16")
    dialog.get_by_role("button", name="Create").click()
    row = page.get_by_role("row", name="office-lan")
    expect(row).to_contain_text("10.21.0.0/16")
    expect(other.get_by_role("row", name="office-lan")).to_contain_text("enabled")
    expect(other.get_by_role("button", name="New route")).to_have_count(0)
    look(page, "machine-routes")
    assert_accessible(page)
    row.get_by_role("switch").click()
    expect(row.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    expect(other.get_by_role("row", name="office-lan")).to_contain_text("disabled")
    row.locator("summary").click()
    row.get_by_role("button", name="Edit").click()
    dialog.get_by_label("Name").fill("branch-lan")
    dialog.get_by_role("button", name="Save").click()
    row = page.get_by_role("row", name="branch-lan")
    row.locator("summary").click()
    row.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No routes")).to_be_visible()


def test_virtual_ips(scene: Scene, opened: Opened, faults: list[str], office: UUID, db: Machine) -> None:
    page = opened()
    page.goto(f"/machines/{db.id}/vips")
    page.get_by_role("button", name="New virtual IP").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("web")
    dialog.get_by_label("Address").fill("203.0.113.10")
    expect(dialog.get_by_label("Target")).to_be_hidden()
    dialog.get_by_label("Health check").select_option("http")
    dialog.get_by_label("Target").fill("/healthz")
    dialog.get_by_label("Interval").fill("soon")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.locator("#fault-health_check_interval_seconds")).to_be_visible()
    forgive(faults)
    expect(dialog.get_by_label("Target")).to_have_value("/healthz")
    look(page, "machine-vip-fault")
    assert_accessible(page)
    dialog.get_by_label("Interval").fill("20")
    dialog.get_by_role("button", name="Create").click()
    row = page.get_by_role("row", name="web")
    expect(row).to_contain_text("every 20 s")
    expect(row).to_contain_text("not reported")
    vip_id = UUID(scene.get("/vips")["items"][0]["uuid"])
    now = datetime.now(UTC)
    health = VipHealth(vip_id=vip_id, healthy=False, since=now, reason=HOSTILE)
    scene.report_bgp(db, office, SpeakerState(state="running", since=now, vips=(health,)))
    expect(row).to_contain_text("unhealthy")
    expect(row).to_contain_text(HOSTILE)
    look(page, "machine-vips")
    assert_accessible(page)
    row.get_by_role("switch").click()
    expect(row.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    row.locator("summary").click()
    row.get_by_role("button", name="Edit").click()
    dialog.get_by_label("Health check").select_option("none")
    dialog.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("always healthy")
    row.locator("summary").click()
    row.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No virtual IPs")).to_be_visible()


def test_revoke_and_delete(scene: Scene, opened: Opened, faults: list[str], office: UUID) -> None:
    machine = scene.machine("stolen", office)
    page = opened()
    page.goto(f"/machines/{machine.id}")
    choose(page, "Revoke")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Revoke for good")).to_be_disabled()
    look(page, "machine-revoke")
    dialog.get_by_label("Type stolen to confirm").fill("stolen")
    dialog.get_by_role("button", name="Revoke for good").click()
    expect(page.locator("#machine-head")).to_contain_text("revoked")
    expect(page.locator("#machine-revoked")).to_contain_text("never let in again")
    look(page, "machine-revoked")
    assert_accessible(page)
    for tab in TABS:
        page.goto(f"/machines/{machine.id}{tab}")
        expect(page.get_by_role("heading", level=1, name="stolen")).to_be_visible()

    page.goto(f"/machines/{machine.id}")
    choose(page, "Delete")
    dialog.get_by_label("Type stolen to confirm").fill("stolen")
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/machines")
    expect(page.get_by_text("Deleted stolen.")).to_be_visible()


def test_one_that_is_assigned_is_deleted_only_if_one_says_so(
    scene: Scene, opened: Opened, faults: list[str], office: UUID
) -> None:
    (machine_id,) = scene.machines(1, office)
    page = opened()
    for tab in TABS:
        page.goto(f"/machines/{machine_id}{tab}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert_accessible(page)
    choose(page, "Delete")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(re.compile("Type .* to confirm")).fill("host-00001")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.locator(".banner-error")).to_be_visible()
    forgive(faults)
    dialog.get_by_label("Take it out of 1 network").check()
    dialog.get_by_label(re.compile("Type .* to confirm")).fill("host-00001")
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/machines")


def test_many_peers_come_page_by_page(scene: Scene, opened: Opened) -> None:
    crowd = scene.network("crowd", "10.77.0.0/16")
    first, *_ = scene.machines(60, crowd)
    page = opened("viewer")
    page.goto(f"/machines/{first}/peers")
    expect(page.locator("#peers")).to_contain_text("59 peers")
    expect(page.locator("#peers tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("#peers tbody tr")).to_have_count(9)
    page.get_by_role("link", name="First page").click()
    page.get_by_label("Search by hostname or mesh address").fill("10.77.0.60")
    expect(page.locator("#peers tbody tr")).to_have_count(1)


def test_viewers_see_no_buttons_and_a_phone_shows_all(opened: Opened, office: UUID, db: Machine, web: Machine) -> None:
    page = opened("viewer", phone=True)
    for tab in TABS:
        page.goto(f"/machines/{db.id}{tab}")
        expect(page.get_by_role("heading", level=1, name="db-1")).to_be_visible()
        expect(page.locator("main [hx-post], main [hx-get*='/assign'], main summary")).to_have_count(0)
        assert_fits(page)
        look(page, f"machine{tab.replace('/', '-')}-phone")
    assert_accessible(page)
