"""The map of a mesh network, and the explanation of a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from events.records import LinkState
from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Machine, Scene

Mesh = tuple[UUID, dict[str, Machine]]


@pytest.fixture
def office(scene: Scene, office_once: Mesh) -> Mesh:
    """The machines are online, however long the tests take."""
    for name, machine in office_once[1].items():
        if name != "lyon":
            scene.beat(machine)
    return office_once


@pytest.fixture(scope="module")
def office_once(scene: Scene) -> Mesh:
    """Five machines: berlin reaches neither oslo nor porto, and lyon is offline."""
    network_id = scene.network("office", "10.5.0.0/24")
    names = ("berlin", "oslo", "frankfurt", "lyon", "porto")
    machines = {name: scene.machine(name, network_id, online=name != "lyon") for name in names}
    report_all(scene, network_id, machines, apart=[("berlin", "oslo"), ("berlin", "porto")], gone=["lyon"])
    return network_id, machines


def report_all(
    scene: Scene, network_id: UUID, machines: Mapping[str, Machine], apart: list[tuple[str, str]], gone: list[str]
) -> None:
    """Everybody says whom it reaches."""
    for name, machine in machines.items():
        links = []
        for other, peer in machines.items():
            if other in gone or {name, other} in map(set, apart):
                tried = (("192.0.2.77:51820", "no answer"), ("198.51.100.4:51820", "no answer"))
                links.append(LinkState(peer_id=peer.id, state="unreachable", tried=tried))
            elif other != name:
                links.append(LinkState(peer_id=peer.id, state="direct", rtt=10, endpoint="192.0.2.77:51820"))
        if name not in gone:
            scene.report(machine, network_id, *links)


def places(page: Page) -> dict[str, str]:
    """Where each machine stands."""
    found: dict[str, str] = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.map-spot')].map("
        "spot => [spot.id, spot.querySelector('.map-place').getAttribute('transform')]))"
    )
    return found


def test_the_map_shows_machines_and_how_they_reach_each_other(office: Mesh, opened: Opened) -> None:
    network_id, _ = office
    page = opened("viewer")
    page.goto(f"/networks/{network_id}/map")
    expect(page.get_by_role("heading", name="Machines and paths")).to_be_visible()
    expect(page.get_by_role("link", name="berlin to oslo: through frankfurt, 20 ms")).to_be_attached()
    expect(page.get_by_role("link", name="oslo to frankfurt: direct, 10 ms")).to_be_attached()
    expect(page.get_by_role("link", name="oslo to lyon: down")).to_be_attached()
    expect(page.get_by_role("link", name="frankfurt, 10.5.0.3, online, passes on 2 paths")).to_be_visible()
    expect(page.get_by_role("link", name="lyon, 10.5.0.4, offline")).to_be_visible()
    kinds = page.get_by_role("navigation", name="Kinds of paths")
    expect(kinds.get_by_role("link", name="Through transit 2")).to_be_visible()
    assert_accessible(page)
    assert_fits(page)
    look(page, "map-office")
    kinds.get_by_role("link", name="Down 4").click()
    expect(page.locator("#paths tbody tr")).to_have_count(4)
    expect(page.locator(".map-line")).to_have_count(4)
    expect(page.locator(".map-spot")).to_have_count(5)


def test_a_line_is_explained_in_a_dialog_and_on_a_page(office: Mesh, opened: Opened) -> None:
    network_id, machines = office
    page = opened("viewer")
    page.goto(f"/networks/{network_id}/map")
    path = page.get_by_role("link", name="berlin to oslo: through frankfurt, 20 ms")
    path.focus()
    expect(path.locator(".map-time")).to_have_css("opacity", "1")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="berlin ↔ oslo")
    expect(dialog).to_contain_text("berlin and oslo reach each other through frankfurt.")
    expect(dialog).to_contain_text("berlin tried 2 addresses of oslo: none answered.")
    expect(dialog.locator(".hop")).to_have_text(["berlin10.5.0.1", "frankfurt10.5.0.3passes on", "oslo10.5.0.2"])
    expect(dialog).to_contain_text("The control plane chose the way through frankfurt")
    assert_accessible(page)
    look(page, "map-dialog")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_attached()
    expect(path).to_be_focused()
    page.locator("#paths").get_by_role("link", name="berlin and oslo").click()
    page.get_by_role("dialog").get_by_role("link", name="Open as a page").click()
    page.wait_for_url(f"**/paths/{machines['berlin'].id}/{machines['oslo'].id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("berlin ↔ oslo")
    expect(page.locator("#path-reports")).to_contain_text("198.51.100.4:51820")
    assert_accessible(page)
    look(page, "map-path")
    page.goto(f"/networks/{network_id}/paths/{machines['oslo'].id}/{machines['lyon'].id}")
    expect(page.locator("#path-now")).to_contain_text("oslo and lyon do not reach each other: lyon is offline.")
    expect(page.locator("#path-now")).to_contain_text("Start lyon, or its agent")
    assert_accessible(page)


def test_hovering_a_machine_shows_its_paths_and_choosing_it_only_them(office: Mesh, opened: Opened) -> None:
    network_id, _ = office
    page = opened("viewer")
    page.goto(f"/networks/{network_id}/map")
    before = places(page)
    porto = page.get_by_role("link", name="porto, 10.5.0.5, online")
    expect(page.locator(".map-ray:visible")).to_have_count(0)
    porto.hover()
    expect(page.locator("#spot-168099845 .map-ray").first).to_have_css("display", "inline")
    expect(page.locator(".map-line .map-stroke").first).to_have_css("opacity", "0.12")
    porto.click()
    expect(page.get_by_role("heading", name="How porto reaches the others")).to_be_visible()
    expect(page.locator(".map-line")).to_have_count(4)
    assert places(page) == before, "nothing moves"
    assert_accessible(page)
    look(page, "map-porto")
    page.get_by_role("link", name="All machines").click()
    expect(page.locator(".map-line")).to_have_count(10)


def test_a_machine_is_found(office: Mesh, opened: Opened) -> None:
    network_id, _ = office
    page = opened("viewer")
    page.goto(f"/networks/{network_id}/map")
    page.get_by_role("searchbox").fill("OSL")
    expect(page.locator("#map-found")).to_contain_text("1 machine found:")
    expect(page.locator(".map-hits")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.locator("#map-found").get_by_role("link", name="oslo").click()
    expect(page.get_by_role("heading", name="How oslo reaches the others")).to_be_visible()
    page.get_by_role("searchbox").fill("nobody")
    expect(page.locator("#map-found")).to_contain_text("No machine here has “nobody”")


def test_the_map_follows_what_happens_and_nothing_jumps(scene: Scene, opened: Opened) -> None:
    network_id = scene.network("lab", "10.6.0.0/24")
    machines = {name: scene.machine(name, network_id) for name in ("one", "two", "three", "four")}
    report_all(scene, network_id, machines, [], [])
    page, dialog = opened("viewer"), opened("viewer")
    for each in (page, dialog):
        each.goto(f"/networks/{network_id}/map")
        expect(each.get_by_role("link", name="one to two: direct, 10 ms")).to_be_attached()
    before = places(page)
    dialog.get_by_role("link", name="one to two: direct, 10 ms").focus()
    dialog.keyboard.press("Enter")
    shown = dialog.get_by_role("dialog")
    expect(shown).to_contain_text("directly, encrypted, with nobody between them")
    kept = page.get_by_role("link", name="three to four: direct, 10 ms")
    kept.focus()
    scene.apart(network_id, machines["one"], machines["two"])
    expect(page.get_by_role("link", name=re.compile("one to two: through"))).to_be_attached()
    expect(shown).to_contain_text("one and two reach each other through")
    expect(kept).to_be_focused()
    assert places(page) == before
    scene.beat(machines["four"], leaving=True)
    expect(page.get_by_role("link", name="four, 10.6.0.4, offline")).to_be_visible()
    assert places(page) == before
    scene.machine("five", network_id)
    expect(page.get_by_role("link", name="five, 10.6.0.5, online")).to_be_visible()


def test_hostile_names_are_only_text_and_nothing_is_shown_of_what_is_not_there(scene: Scene, opened: Opened) -> None:
    network_id = scene.network("empty", "10.7.0.0/24")
    page = opened("viewer")
    page.goto(f"/networks/{network_id}/map")
    expect(page.get_by_role("heading", name="No machines yet")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("navigation", name="empty").get_by_role("link", name="Map").click()
    one = scene.machine("solo", network_id)
    expect(page.get_by_role("heading", name="No paths yet")).to_be_visible()
    other = scene.machine("pair", network_id)
    expect(page.get_by_role("link", name="solo to pair: unknown")).to_be_attached()
    page.goto(f"/networks/{network_id}/paths/{one.id}/{other.id}")
    expect(page.locator("#path-now")).to_contain_text("neither has reported yet")
    page.goto(f"/networks/{network_id}/map?search=%3Cimg%20src=x%20onerror=alert(1)%3E")
    expect(page.locator("#map-found")).to_contain_text("<img src=x onerror=alert(1)>")


def test_on_a_phone_the_map_moves_in_its_own_box(office: Mesh, opened: Opened) -> None:
    network_id, machines = office
    page = opened("viewer", phone=True)
    page.goto(f"/networks/{network_id}/map")
    box = page.locator("#map-box")
    wide, shown = box.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert wide > shown
    assert_fits(page)
    look(page, "map-phone")
    page.goto(f"/networks/{network_id}/paths/{machines['berlin'].id}/{machines['oslo'].id}")
    assert_fits(page)
    assert_accessible(page)
    look(page, "map-phone-path")


def test_of_a_large_network_one_machine_is_shown(scene: Scene, opened: Opened) -> None:
    network_id = scene.network("large", "10.8.0.0/16")
    hub = scene.machine("hub", network_id)
    edge = scene.machine("edge", network_id)
    scene.machines(100, network_id)
    scene.direct(network_id, hub, edge)
    page = opened("viewer")
    page.goto(f"/networks/{network_id}/map")
    expect(page.get_by_role("heading", name="How hub reaches the others")).to_be_visible()
    expect(page.get_by_role("link", name="hub to edge: direct, 10 ms")).to_be_attached()
    expect(page.get_by_role("navigation", name="Kinds of paths")).to_contain_text("Unknown 100")
    assert_accessible(page)
    look(page, "map-large")
    page.get_by_role("link", name="94 more, unknown").click()
    expect(page.locator("#paths tbody tr")).to_have_count(25)
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    page.get_by_role("searchbox").fill("host-00099")
    page.locator("#map-found").get_by_role("link", name="host-00099").click()
    expect(page.get_by_role("heading", name="How host-00099 reaches the others")).to_be_visible()
