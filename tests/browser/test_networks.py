"""The list of mesh networks, making one, deleting one."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Scene

LONG = "a-name-that-is-as-long-as-names-may-be-and-not-one-letter-more1"


@pytest.fixture(autouse=True)
def no_networks(scene: Scene) -> None:
    """Each test begins without networks, routes and virtual IPs."""
    for path in ("mesh-networks", "routes", "vips"):
        for each in scene.get(f"/{path}", limit=1000)["items"]:
            scene.change("DELETE", f"/{path}/{each['uuid']}" + ("?force=true" if path == "mesh-networks" else ""))


def names_in(page: Page) -> list[str]:
    return page.locator("#results tbody a.name").all_inner_texts()


def hint_of(page: Page, cidr: str) -> None:
    page.get_by_label("Network CIDR").fill(cidr)


def test_the_list_follows_what_happens(scene: Scene, opened: Opened) -> None:
    page = opened()
    expect(page.get_by_text("No mesh network yet")).to_be_visible()
    assert_accessible(page)
    look(page, "networks-none")
    office = scene.network("office", "172.16.0.0/24", is_default=True)
    scene.network("lab", "10.9.0.0/16", route_reflector_mode=True)
    expect(page.get_by_role("link", name="office")).to_be_visible()
    row = page.get_by_role("row", name="lab")
    expect(row).to_contain_text("RR")
    expect(row).to_contain_text("10.9.0.0/16")
    expect(page.get_by_role("row", name="office")).to_contain_text("default")
    menu = page.get_by_label("Actions for office")
    menu.click()
    scene.machines(3, office)
    expect(page.get_by_role("row", name="office")).to_contain_text("3 of 254")
    expect(page.get_by_role("link", name="View and edit").first).to_be_visible()
    look(page, "networks")
    assert_accessible(page)
    assert_fits(page)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="office").click()
    page.wait_for_url(f"**/networks/{office}")


def test_it_is_sorted_and_searched(scene: Scene, opened: Opened) -> None:
    scene.network("b-net", "10.3.0.0/16")
    scene.machines(2, scene.network("a-net", "192.168.7.0/24"))
    scene.network("c-net", "10.20.0.0/16")
    page = opened()
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    assert names_in(page) == ["a-net", "b-net", "c-net"]
    page.get_by_role("link", name="Name", exact=True).click()
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "descending")
    assert names_in(page) == ["c-net", "b-net", "a-net"]
    page.get_by_role("link", name="Network CIDR").click()
    expect(page.get_by_role("columnheader", name="Network CIDR")).to_have_attribute("aria-sort", "ascending")
    assert names_in(page) == ["b-net", "c-net", "a-net"]
    page.get_by_role("link", name="Machines", exact=True).last.click()
    page.wait_for_url("**sort=machine_count")
    page.keyboard.press("/")
    page.keyboard.type("10.")
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page).to_have_url(re.compile("search=10.*sort=machine_count|sort=machine_count.*search=10"))
    expect(page.get_by_role("columnheader", name="Machines")).to_have_attribute("aria-sort", "ascending")
    scene.network("d-net", "10.99.0.0/16")
    expect(page.get_by_role("link", name="d-net")).to_be_visible()
    expect(page.get_by_label("Search by name or CIDR")).to_be_focused()
    page.get_by_label("Search by name or CIDR").fill("<b>nothing")
    expect(page.get_by_text("No mesh network has “<b>nothing”")).to_be_visible()
    look(page, "networks-nothing-found")
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("row")).to_have_count(5)
    page.go_back()
    expect(page.get_by_text("No mesh network has")).to_be_visible()


def test_many_networks_stand_on_several_pages(scene: Scene, opened: Opened) -> None:
    for number in range(51):
        scene.network(f"net-{number:02}", f"10.{number}.0.0/16")
    page = opened()
    expect(page.get_by_text("50 of 51 networks")).to_be_visible()
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="net-50")).to_be_visible()
    scene.change("DELETE", f"/mesh-networks/{_id(scene, 'net-50')}")
    expect(page.get_by_text("No more networks here")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="First page").click()
    expect(page.get_by_text("50 of 50 networks")).to_be_visible()


def test_a_network_is_made_while_others_change(scene: Scene, opened: Opened) -> None:
    scene.network("office", "172.16.0.0/24", is_default=True)
    scene.change("POST", "/routes", {"name": "lan", "prefixes": ["10.9.0.0/16"], "machine_uuids": []})
    page = opened()
    page.get_by_role("link", name="Create", exact=True).click()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    expect(page.get_by_text("Now that is office; this one would take over.")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("OFFICE")
    expect(page.get_by_text("There is a network named office already.")).to_be_visible()
    hint_of(page, "172.16")
    expect(page.locator("#cidr-hint")).to_contain_text("An address and a prefix length")
    hint_of(page, "10.9.4.0/22")
    expect(page.locator("#cidr-hint")).to_contain_text("shares addresses with 10.9.0.0/16 of the route lan")
    assert_accessible(page)
    look(page, "network-new-taken")
    hint_of(page, "172.16.5.9/24")
    page.get_by_role("button", name="172.16.5.0/24", exact=True).click()
    expect(page.get_by_label("Network CIDR")).to_have_value("172.16.5.0/24")
    expect(page.get_by_label("Network CIDR")).to_be_focused()
    expect(page.locator("#cidr-hint")).to_contain_text("Holds 254 machines and overlaps nothing.")
    page.get_by_label("Name", exact=True).fill("lab")
    expect(page.locator("#name-hint")).to_be_empty()
    page.get_by_label("Default").check()

    scene.network("other", "172.16.5.0/25", is_default=True)
    expect(page.locator("#cidr-hint")).to_contain_text("172.16.5.0/25 of the network other")
    expect(page.get_by_text("Now that is other; this one would take over.")).to_be_visible()
    expect(page.get_by_label("Default")).to_be_checked()
    expect(page.get_by_label("Name", exact=True)).to_have_value("lab")

    page.get_by_role("group", name="Free ranges").get_by_role("button").first.click()
    expect(page.get_by_label("Network CIDR")).to_have_value("172.16.1.0/24")
    expect(page.locator("#cidr-hint")).to_contain_text("Holds 254")
    page.get_by_label("Route Reflector Mode").check()
    assert_accessible(page)
    assert_fits(page)
    look(page, "network-new")
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    expect(page.locator("#notices")).to_contain_text("Created lab.")
    made = scene.get(f"/mesh-networks/{_id(scene, 'lab')}")
    assert (made["network_cidr"], made["is_default"], made["route_reflector_mode"]) == ("172.16.1.0/24", True, True)


def test_what_is_wrong_stands_at_its_field(scene: Scene, opened: Opened, faults: list[str]) -> None:
    scene.network("office", "172.16.0.0/24")
    page = opened(phone=True)
    page.goto("/networks/new")
    page.get_by_label("Default").check()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    expect(page.locator("#name-hint")).to_contain_text("The network needs a name.")
    expect(page.locator("#cidr-hint")).to_contain_text("The network needs a range.")
    scene.network("another", "192.168.0.0/24", is_default=True)
    expect(page.get_by_text("Now that is another")).to_be_visible()
    expect(page.locator("#name-hint")).to_contain_text("The network needs a name.")
    page.get_by_label("Name", exact=True).press_sequentially("branch")
    expect(page.get_by_label("Name", exact=True)).not_to_have_attribute("aria-invalid", "true")
    page.get_by_label("Network CIDR").fill("172.16.0.0/23")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_label("Network CIDR")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Network CIDR")).to_be_focused()
    expect(page.locator("#cidr-hint")).to_contain_text("172.16.0.0/24 of the network office")
    expect(page.get_by_label("Name", exact=True)).to_have_value("branch")
    expect(page.get_by_label("Network CIDR")).to_have_value("172.16.0.0/23")
    expect(page.get_by_label("Default")).to_be_checked()
    assert_accessible(page)
    assert_fits(page)
    look(page, "network-new-wrong-phone")
    page.locator("#offered-cidr").click()
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    refused(faults, 422, 409)


def test_with_the_keyboard_alone(scene: Scene, opened: Opened) -> None:
    page = opened()
    page.get_by_role("link", name="Create the first one").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type("lab")
    page.keyboard.press("Tab")
    page.keyboard.type("10.1.0.7/16")
    offered = page.locator("#offered-cidr")
    expect(offered).to_be_visible()
    page.keyboard.press("Tab")
    expect(offered).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Network CIDR")).to_have_value("10.1.0.0/16")
    expect(page.locator("#cidr-hint")).to_contain_text("Holds 65,534 machines")
    while not page.get_by_label("Default").evaluate("box => box === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    assert scene.get("/mesh-networks", name="lab")["items"][0]["is_default"]
    page.goto("/networks")
    page.get_by_label("Actions for lab").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_label("Actions for lab")).to_be_focused()


def test_sent_twice_it_is_made_once_and_back_makes_another(scene: Scene, opened: Opened) -> None:
    page = opened()
    page.goto("/networks/new")
    page.get_by_label("Name", exact=True).fill("once")
    page.get_by_label("Network CIDR").fill("10.1.0.0/16")
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.get_by_role("button", name="Create").dblclick()
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    again = page.request.post("/networks/new", headers=sent[0].all_headers(), data=sent[0].post_data)
    assert again.headers["hx-redirect"] == f"/networks/{_id(scene, 'once')}"
    assert scene.get("/mesh-networks")["total"] == 1
    page.go_back()
    page.get_by_label("Name", exact=True).fill("another")
    page.get_by_label("Network CIDR").fill("10.2.0.0/16")
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    expect(page.locator("#notices")).to_contain_text("Created another.")
    assert scene.get("/mesh-networks")["total"] == 2
    scene.change("DELETE", f"/mesh-networks/{_id(scene, 'once')}")
    again = page.request.post("/networks/new", headers=sent[0].all_headers(), data=sent[0].post_data)
    assert again.status == 409
    assert "its network was deleted since" in again.text()


def test_the_list_is_true_after_going_back(scene: Scene, opened: Opened) -> None:
    page = opened()
    page.get_by_role("link", name="Create the first one").click()
    scene.network("meanwhile", "10.1.0.0/16")
    page.go_back()
    expect(page.get_by_role("link", name="meanwhile")).to_be_visible()


def test_a_form_that_meets_no_control_plane_loses_nothing(scene: Scene, opened: Opened, faults: list[str]) -> None:
    page = opened()
    page.goto("/networks/new")
    page.get_by_label("Name", exact=True).fill("patient")
    page.get_by_label("Network CIDR").fill("10.1.0.0/16")
    expect(page.locator("#cidr-hint")).to_contain_text("Holds")
    page.route("**/networks/new", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#notices")).to_contain_text("The control plane does not answer.")
    page.unroute("**/networks/new")
    expect(page.get_by_label("Name", exact=True)).to_have_value("patient")
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    assert any("ERR_FAILED" in fault for fault in faults)
    faults.clear()


def test_a_form_outlives_the_gateway_that_it_is_from(scene: Scene, opened: Opened, faults: list[str]) -> None:
    page = opened()
    page.goto("/networks/new")
    page.get_by_label("Name", exact=True).fill("patient")
    page.get_by_label("Network CIDR").fill("10.1.0.0/16")
    page.evaluate("""document.body.setAttribute("hx-headers", '{"X-CSRF-Token": "of another gateway"}')""")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#notices")).to_contain_text("X-CSRF-Token")
    refused(faults, 403)
    scene.network("another", "192.168.0.0/24", is_default=True)
    expect(page.get_by_text("Now that is another")).to_be_visible()
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(re.compile("/networks/[0-9a-f-]{36}$"))
    assert _id(scene, "patient")


def test_an_empty_network_is_deleted(scene: Scene, opened: Opened) -> None:
    scene.network("empty", "10.1.0.0/16")
    scene.network("kept", "10.2.0.0/16")
    page = opened()
    page.get_by_role("link", name="Network CIDR").click()
    _ask_to_delete(page, "empty")
    expect(page.get_by_role("dialog")).to_contain_text("No machine is assigned to it")
    assert_accessible(page)
    look(page, "network-delete-empty")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    _ask_to_delete(page, "empty")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("Deleted empty.")
    expect(page.get_by_role("link", name="empty", exact=True)).to_have_count(0)
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert names_in(page) == ["kept"]
    assert "sort=network_cidr" in page.url


def test_one_with_machines_is_deleted_by_its_name(scene: Scene, opened: Opened) -> None:
    crowded = scene.network("crowded", "10.1.0.0/16", is_default=True)
    other = scene.network("other", "10.2.0.0/16")
    machines = scene.machines(5, crowded)
    scene.change("POST", f"/mesh-networks/{other}/machines", {"machine_uuid": str(machines[0])})
    named = [str(each) for each in machines[:2]]
    scene.change("POST", "/routes", {"name": "lan", "prefixes": ["10.9.0.0/16"], "machine_uuids": named})
    scene.change("POST", "/vips", {"name": "db", "address": "10.8.0.1", "machine_uuids": named})
    scene.change("POST", "/bootstrap-tokens", {"lifetime": "1d", "mesh_network_uuid": str(crowded)})
    page = opened(phone=True)
    _ask_to_delete(page, "crowded")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("5 machines leave, lose their addresses and no longer reach each other here")
    expect(dialog).to_contain_text("4 of them are then in no mesh network")
    expect(dialog).to_contain_text("There is no default network until")
    expect(dialog).to_contain_text("Routes stay, and are announced here no more: lan.")
    expect(dialog).to_contain_text("Virtual IPs stay, and answer here no more: db.")
    expect(dialog).to_contain_text("1 bootstrap token for it lets no machine in")
    assert_accessible(page)
    assert_fits(page)
    look(page, "network-delete-phone")
    button = page.get_by_role("button", name="Delete and unassign 5 machines")
    expect(button).to_be_disabled()
    confirmation = page.get_by_label("Type crowded to confirm")
    expect(confirmation).to_be_focused()
    confirmation.fill("crowd")
    expect(button).to_be_disabled()
    confirmation.press_sequentially("ed")
    button.click()
    expect(page.locator("#notices")).to_contain_text("Deleted crowded. 5 machines left it.")
    expect(page.get_by_role("link", name="crowded")).to_have_count(0)
    assert scene.get("/mesh-networks")["total"] == 1


def test_from_its_own_page_it_is_deleted_too(scene: Scene, opened: Opened) -> None:
    lab = scene.network("lab", "10.1.0.0/16")
    page = opened()
    page.goto(f"/networks/{lab}")
    page.get_by_label("More actions for lab").click()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_url("**/networks")
    expect(page.locator("#notices")).to_contain_text("Deleted lab.")
    expect(page.get_by_text("No mesh network yet")).to_be_visible()


def test_what_others_did_meanwhile_is_said(scene: Scene, opened: Opened, faults: list[str]) -> None:
    lab = scene.network("lab", "10.1.0.0/16")
    page = opened()
    _ask_to_delete(page, "lab")
    scene.change("PATCH", f"/mesh-networks/{lab}", {"name": "precious"})
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("lab was renamed to precious in the meantime.")
    expect(page.get_by_role("heading", name="Delete precious?")).to_be_visible()
    look(page, "network-delete-renamed")
    scene.machines(1, lab)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("1 more machine joined precious in the meantime.")
    refused(faults, 409, 409)
    page.get_by_label("Type precious to confirm").fill("precious")
    scene.change("DELETE", f"/mesh-networks/{lab}?force=true")
    page.get_by_role("button", name="Delete and unassign 1 machine").click()
    expect(page.locator("#notices")).to_contain_text("precious was deleted already")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_text("No mesh network yet")).to_be_visible()
    answer = page.request.get(f"/networks/{lab}/delete", headers={"HX-Request": "true", "HX-Target": "dialogs"})
    assert "There%20is%20no%20mesh%20network" in answer.headers["x-notice"]


def test_a_viewer_sees_no_button_that_would_be_refused(scene: Scene, opened: Opened) -> None:
    network = scene.network(LONG, "192.168.100.0/24", is_default=True, route_reflector_mode=True)
    page = opened("viewer", phone=True)
    expect(page.get_by_role("link", name=LONG)).to_be_visible()
    expect(page.get_by_role("link", name="Create")).to_have_count(0)
    expect(page.locator("details.menu")).to_have_count(0)
    assert_accessible(page)
    assert_fits(page)
    look(page, "networks-viewer-phone")
    for path in ("/networks/new", "/networks/new/cidr", "/networks/new/name", f"/networks/{network}/delete"):
        assert page.request.get(path).status == 403


def refused(faults: list[str], *statuses: int) -> None:
    """Take the refusals out of what the browser complained of: exactly these."""
    assert [int(found[1]) for fault in faults if (found := re.search(r"status of (\d+)", fault))] == list(statuses)
    faults.clear()


def _ask_to_delete(page: Page, name: str) -> None:
    page.get_by_label(f"Actions for {name}").click()
    page.locator("details[open]").get_by_role("button", name="Delete…").click()


def _id(scene: Scene, name: str) -> UUID:
    return UUID(scene.get("/mesh-networks", name=name)["items"][0]["uuid"])
