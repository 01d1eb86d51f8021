"""The page of one mesh network: how it is, its machines, BGP, events and settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from time import perf_counter
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Page, expect

from events.records import SessionState, SpeakerState
from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Machine, Scene

TABS = ("", "/machines", "/bgp", "/events", "/settings")
MOST_SLOWER = 8
"""So many times as long as a page of a small network may one of a large network take."""
THEN = datetime(2026, 5, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def office(scene: Scene) -> UUID:
    """A network of four machines, of which one is away and one pair has no path."""
    network = scene.network("office", "172.16.0.0/24")
    oslo, bergen, tromso = (scene.machine(name, network) for name in ("oslo", "bergen", "tromso"))
    scene.machine("narvik", network, online=False)
    scene.direct(network, oslo, bergen)
    scene.direct(network, oslo, tromso)
    scene.report_bgp(oslo, network, SpeakerState(state="running", since=THEN), _session(bergen), _session(tromso))
    scene.report_bgp(bergen, network, SpeakerState(state="running", since=THEN), _session(oslo))
    scene.report_bgp(
        tromso, network, SpeakerState(state="failed", reason="bird: <img src=x>", since=THEN), _session(oslo, "active")
    )
    return network


def _session(peer: Machine, state: str = "established") -> SessionState:
    error = "" if state == "established" else "Hold timer expired"
    return SessionState.model_validate(
        {
            "peer_id": peer.id,
            "purpose": "mesh",
            "state": state,
            "since": THEN,
            "imported": 3,
            "exported": 2,
            "error": error,
        }
    )


def _named(scene: Scene, hostname: str) -> UUID:
    return UUID(scene.get("/machines", hostname=hostname)["items"][0]["uuid"])


def test_overview_says_how_the_network_is(office: UUID, opened: Opened) -> None:
    page = opened()
    page.goto(f"/networks/{office}")
    expect(page.get_by_role("heading", name="office", level=1)).to_be_visible()
    expect(page.locator("#stat-machines")).to_contain_text("3 online")
    expect(page.locator("#stat-addresses")).to_contain_text("of 254")
    expect(page.locator("#stat-paths")).to_contain_text(re.compile(r"2\s*direct"))
    expect(page.locator("#stat-bgp")).to_contain_text("of 6 established, full mesh")
    attention = page.locator("#attention")
    expect(attention).to_contain_text("BGP speaker failed: bird: <img src=x>")
    expect(attention).to_contain_text("narvik")
    expect(page.locator("#facts")).to_contain_text("cannot be changed")
    expect(page.locator("#recent")).to_contain_text("assigned")
    look(page, "network-overview")
    assert_accessible(page)
    assert_fits(page)


def test_overview_follows_what_happens(office: UUID, scene: Scene, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"/networks/{office}")
    expect(page.locator("#stat-machines dd")).to_contain_text("4")
    guest = scene.machines(1, office)[0]
    expect(page.locator("#stat-machines dd")).to_contain_text("5")
    scene.change("DELETE", f"/mesh-networks/{office}/machines/{guest}")
    expect(page.locator("#stat-machines dd")).to_contain_text("4")
    scene.change("DELETE", f"/machines/{guest}")


def test_paths_are_followed_as_they_change(scene: Scene, opened: Opened) -> None:
    network = scene.network("apart", "10.40.0.0/24")
    one, two = scene.machine("one", network), scene.machine("two", network)
    scene.direct(network, one, two)
    page = opened("viewer")
    page.goto(f"/networks/{network}")
    expect(page.locator("#attention")).to_contain_text("All machines are online and reach each other.")
    scene.apart(network, one, two)
    expect(page.locator("#attention")).to_contain_text(re.compile("no path to (one|two)"))
    expect(page.locator("#stat-paths")).to_contain_text(re.compile(r"1\s*down"))
    page.goto(f"/networks/{network}/machines")
    row = page.get_by_role("row", name="two")
    expect(row).to_contain_text("1 down")
    three = scene.machine("three", network)
    scene.direct(network, one, three)
    scene.direct(network, two, three)
    expect(row).to_contain_text("1 direct")
    expect(row).to_contain_text("1 through three")
    expect(row).not_to_contain_text("down")
    scene.beat(two, leaving=True)
    expect(row).to_contain_text("seen")


def test_machines_are_searched_assigned_and_unassigned(office: UUID, scene: Scene, opened: Opened) -> None:
    scene.machines(3)
    page = opened()
    page.goto(f"/networks/{office}/machines")
    expect(page.get_by_role("row", name="oslo")).to_contain_text("2 direct")
    page.get_by_role("searchbox").fill("bergen")
    expect(page.get_by_role("row", name="oslo")).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_role("row", name="oslo")).to_be_visible()
    _assign(page)
    expect(page.get_by_role("row", name="host-00001")).to_contain_text("172.16.0.5")
    look(page, "network-machines")
    assert_accessible(page)
    assert_fits(page)
    _unassign(page, scene, office)
    expect(page.get_by_role("row", name="host-00001")).to_have_count(0)
    expect(page.get_by_role("row", name="oslo")).to_be_visible()


def _assign(page: Page) -> None:
    page.get_by_role("button", name="Assign machines").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("250 addresses of 172.16.0.0/24 are free")
    expect(dialog.get_by_role("button", name="Assign", exact=True)).to_be_disabled()
    dialog.get_by_label("host-00001").check()
    dialog.get_by_role("searchbox").fill("00002")
    expect(dialog.get_by_label("host-00003")).to_have_count(0)
    expect(dialog.get_by_label("host-00001")).to_be_checked()
    dialog.get_by_label("host-00002").check()
    expect(dialog).to_contain_text("2 chosen")
    look(page, "network-assign")
    assert_accessible(page)
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(page.get_by_text("Assigned 2 machines to office.")).to_be_visible()
    expect(dialog).to_have_count(0)


def _unassign(page: Page, scene: Scene, office: UUID) -> None:
    page.get_by_label("Choose host-00001").check()
    other = _named(scene, "host-00003")
    scene.change("POST", f"/mesh-networks/{office}/machines", {"machine_uuid": str(other)})
    expect(page.get_by_role("row", name="host-00003")).to_be_visible()
    expect(page.get_by_label("Choose host-00001")).to_be_checked()
    scene.change("DELETE", f"/mesh-networks/{office}/machines/{other}")
    expect(page.get_by_role("row", name="host-00003")).to_have_count(0)
    page.get_by_label("Choose host-00002").check()
    page.locator(".machines-chosen").get_by_role("button", name="Unassign…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Unassign 2 machines from office?")
    expect(dialog).to_contain_text("172.16.0.5")
    look(page, "network-unassign")
    dialog.get_by_role("button", name="Unassign", exact=True).click()
    expect(page.get_by_text("Unassigned 2 machines from office.")).to_be_visible()


def test_an_address_may_be_given_to_one_machine(office: UUID, opened: Opened, faults: list[str]) -> None:
    page = opened()
    page.goto(f"/networks/{office}/machines")
    page.get_by_role("button", name="Assign machines").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("host-00003").check()
    for wrong, said in (("172.16.0.1", "is taken"), ("10.0.0.1", "is not an address"), ("here", "IPv4")):
        dialog.get_by_label("Mesh address optional").fill(wrong)
        dialog.get_by_role("button", name="Assign", exact=True).click()
        expect(dialog.locator(".field-fault")).to_contain_text(said)
        expect(dialog.get_by_label("Mesh address optional")).to_have_value(wrong)
        expect(dialog.get_by_label("host-00003")).to_be_checked()
    dialog.get_by_label("Mesh address optional").fill("172.16.0.77")
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(page.get_by_text("Assigned host-00003 to office at 172.16.0.77.")).to_be_visible()
    row = page.get_by_role("row", name="host-00003")
    expect(row).to_contain_text("172.16.0.77")
    row.get_by_label("Actions for host-00003").click()
    row.get_by_role("button", name="Unassign…").click()
    page.get_by_role("dialog").get_by_role("button", name="Unassign", exact=True).click()
    expect(page.get_by_text("Unassigned host-00003 from office.")).to_be_visible()
    _expect_refusals(faults)


def test_a_full_network_says_so(scene: Scene, opened: Opened, faults: list[str]) -> None:
    network = scene.network("tiny", "10.50.0.0/30")
    page = opened()
    page.goto(f"/networks/{network}")
    page.locator("#network-head").get_by_role("button", name="Assign machines").click()
    dialog = page.get_by_role("dialog")
    for number in (1, 2, 3):
        dialog.get_by_label(f"host-0000{number}").check()
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("has room for 2 machines")
    dialog.get_by_label("host-00003").uncheck()
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(page.locator("#stat-addresses dd")).to_contain_text("0")
    _expect_refusals(faults)


def test_bgp_shows_sessions_and_pins_reflectors(office: UUID, scene: Scene, opened: Opened, faults: list[str]) -> None:
    policy = {"name": "no-defaults", "direction": "import", "network_uuids": [str(office)], "rules": []}
    scene.change("POST", "/route-policies", policy)
    page = opened()
    page.goto(f"/networks/{office}/bgp")
    expect(page.locator("#stat-mode")).to_contain_text("Full mesh")
    expect(page.locator("#stat-speakers")).to_contain_text(re.compile(r"2\s*running"))
    expect(page.locator("#policies")).to_contain_text("no-defaults")
    sessions = page.locator("#sessions tbody tr")
    expect(sessions).to_have_count(2)
    page.get_by_label("State").select_option("active")
    expect(sessions).to_have_count(1)
    expect(sessions).to_contain_text("Hold timer expired")
    page.get_by_label("State").select_option("")
    expect(sessions).to_have_count(2)
    page.get_by_role("button", name="Pin…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("oslo").check()
    dialog.get_by_role("button", name="Pin", exact=True).click()
    expect(dialog.locator(".field-fault")).to_contain_text("single pinned route reflector")
    dialog.get_by_label("bergen").check()
    dialog.get_by_role("button", name="Pin", exact=True).click()
    expect(page.get_by_text("Pinned oslo and bergen.")).to_be_visible()
    expect(page.locator("#reflectors")).to_contain_text("not in use now: oslo, bergen")
    look(page, "network-bgp")
    assert_accessible(page)
    assert_fits(page)
    page.get_by_role("button", name="Choose automatically").click()
    expect(page.get_by_text("Reflectors are chosen by the control plane now.")).to_be_visible()
    expect(page.get_by_role("button", name="Choose automatically")).to_have_count(0)
    _expect_refusals(faults)


def test_settings_are_changed(scene: Scene, opened: Opened, faults: list[str]) -> None:
    scene.network("taken", "10.61.0.0/24")
    network = scene.network("plain", "10.60.0.0/24")
    page, other = opened(), opened("viewer")
    page.goto(f"/networks/{network}/settings")
    other.goto(f"/networks/{network}/settings")
    page.get_by_label("Name").fill("taken")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#fault-name")).to_contain_text("There is a network named taken already.")
    expect(page.get_by_label("Name")).to_have_value("taken")
    for name in ("fjord", "valley"):
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
        expect(other.get_by_role("heading", name=name, level=1)).to_be_visible()
    page.get_by_role("button", name="Turn on").click()
    expect(page.locator("#network-head .badge")).to_contain_text("RR")
    expect(other.locator("#network-head .badge")).to_contain_text("RR")
    page.get_by_role("button", name="Turn off").click()
    expect(page.locator("#network-head .badge")).to_have_count(0)
    page.get_by_role("button", name="Make it the default").click()
    expect(page.get_by_text("This is the default network.")).to_be_visible()
    look(page, "network-settings")
    assert_accessible(page)
    page.get_by_role("button", name="Stop using it as the default").click()
    expect(page.get_by_text("No network is the default now")).to_be_visible()
    _expect_refusals(faults)


def test_events_are_the_networks_own(office: UUID, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"/networks/{office}/events")
    expect(page.locator("#network-events")).to_contain_text("created network office")
    expect(page.locator("#network-events")).not_to_contain_text("created network tiny")
    look(page, "network-events")
    assert_accessible(page)
    assert_fits(page)


def test_a_viewer_sees_no_button_that_would_be_refused(office: UUID, opened: Opened) -> None:
    page = opened("viewer")
    for tab in TABS:
        page.goto(f"/networks/{office}{tab}")
        expect(page.locator("#network-tabs [aria-current]")).to_have_count(1)
        expect(page.locator("main button, main form:not([role=search], #session-filter, #members)")).to_have_count(0)
        expect(page.locator("main input[type=checkbox]")).to_have_count(0)
    expect(page.locator("#facts")).to_contain_text("172.16.0.0/24")


def test_what_is_not_there_is_said(opened: Opened, faults: list[str]) -> None:
    page = opened("viewer")
    page.goto(f"/networks/{uuid4()}")
    expect(page.get_by_text("There is no mesh network")).to_be_visible()
    assert all("404" in fault for fault in faults)
    faults.clear()


def test_works_on_a_phone(office: UUID, opened: Opened) -> None:
    page = opened(phone=True)
    for tab in TABS:
        page.goto(f"/networks/{office}{tab}")
        assert_fits(page)
        look(page, f"network-phone{tab.replace('/', '-') or '-overview'}")
        assert_accessible(page)
    page.goto(f"/networks/{office}/machines")
    expect(page.locator("#members .narrow-only").first).to_contain_text("172.16.0.")


def test_a_network_of_2000_machines_stays_fast(scene: Scene, opened: Opened) -> None:
    small, network = scene.network("small", "10.201.0.0/24"), scene.network("large", "10.200.0.0/16")
    scene.machine("small-1", small)
    for _ in range(4):
        scene.machines(500, network)
    page = opened()
    for tab in TABS:
        floor = min(_seconds(page, f"/networks/{small}{tab}") for _ in range(3))
        took = min(_seconds(page, f"/networks/{network}{tab}") for _ in range(3))
        look(page, f"network-large{tab.replace('/', '-') or '-overview'}")
        assert took < MOST_SLOWER * floor, f"{tab or 'overview'} took {took:.2f} s, of a small network {floor:.2f} s"
    page.goto(f"/networks/{network}/machines?search=host-0049")
    expect(page.locator("#results .pages")).to_contain_text("of 40 machines")


def _seconds(page: Page, address: str) -> float:
    started = perf_counter()
    page.goto(address, wait_until="domcontentloaded")
    return perf_counter() - started


def _expect_refusals(faults: list[str]) -> None:
    """Browsers note each answer that is a refusal."""
    assert all(re.search(r"status of 4(09|22)", fault) for fault in faults), faults
    faults.clear()
