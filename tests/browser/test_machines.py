"""The list of machines: what it shows, finds and follows, and what is done with many at once."""

from __future__ import annotations

import re
from time import perf_counter
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, forgive, look
from tests.browser.scene import Machine, Scene

_FEW, _MANY = 60, 300


@pytest.fixture(scope="module")
def online(scene: Scene, networks: list[UUID]) -> list[Machine]:
    """Two machines, which `networks` does not have."""
    return [scene.machine("web-1", networks[1]), scene.machine("db-1", *networks[1:])]


@pytest.fixture
def awake(scene: Scene, online: list[Machine]) -> None:
    """They are online, however long the tests before have taken."""
    for machine in online:
        scene.beat(machine)


@pytest.fixture(scope="module")
def networks(scene: Scene) -> list[UUID]:
    """Four networks, one of them the default, and some machines that are not online."""
    made = [scene.network("office", "172.16.0.0/24", is_default=True)]
    made += [scene.network(name, f"10.{number}.0.0/24") for number, name in enumerate(("lab", "edge", "backup"), 1)]
    scene.machine("web-2", online=False)
    gone = scene.machine("old-laptop", online=False)
    scene.change("POST", f"/machines/{gone.id}/revoke")
    return made


def test_the_list(awake: None, networks: list[UUID], scene: Scene, opened: Opened) -> None:
    page = opened()
    _visit(page, "/machines")
    expect(page.locator("#machines-sum")).to_have_text("4 machines, 2 online")
    db = _row(page, "db-1")
    expect(db).to_contain_text("online")
    expect(db).to_contain_text("172.16.0.3")
    expect(db.get_by_role("link", name="office")).to_have_attribute("href", f"/networks/{networks[0]}")
    expect(db.get_by_role("link", name="2 more networks of db-1")).to_have_text("+2 more")
    expect(_row(page, "web-2")).to_contain_text("not seen")
    expect(_row(page, "web-2")).to_contain_text("0.1.0")
    old = _row(page, "old-laptop")
    expect(old).to_contain_text("revoked")
    expect(old.get_by_role("checkbox")).to_be_disabled()
    assert _hostnames(page) == ["db-1", "old-laptop", "web-1", "web-2"]
    assert_accessible(page)
    assert_fits(page)
    look(page, "machines")
    db.get_by_role("link", name="db-1", exact=True).click()
    page.wait_for_url(re.compile(r"/machines/[0-9a-f-]{36}$"))


def test_it_follows_what_happens(awake: None, networks: list[UUID], scene: Scene, opened: Opened) -> None:
    page = opened("viewer")
    _visit(page, "/machines")
    machine = scene.machine("follower", online=False)
    row = _row(page, "follower")
    expect(row).to_contain_text("172.16.0.4")
    expect(row).to_contain_text("not seen")
    scene.beat(machine)
    expect(row.locator(".status-good")).to_have_text("online")
    scene.beat(machine, leaving=True)
    expect(row).to_contain_text("seen")
    scene.change("DELETE", f"/machines/{machine.id}?force=true")
    expect(row).to_have_count(0)


def test_filters_search_and_order(awake: None, networks: list[UUID], opened: Opened) -> None:
    page = opened("viewer")
    _visit(page, "/machines")
    search = page.get_by_role("searchbox")
    search.fill("WEB")
    _expect_hostnames(page, "web-1", "web-2")
    expect(page).to_have_url(re.compile(r"/machines\?search=WEB$"))
    expect(search).to_be_focused()
    search.fill("10.1.0.2")
    _expect_hostnames(page, "db-1")
    search.fill("")
    page.get_by_label("Mesh network").select_option("lab")
    _expect_hostnames(page, "db-1", "web-1")
    page.get_by_role("link", name="Hostname").click()
    _expect_hostnames(page, "web-1", "db-1")
    expect(page.get_by_role("columnheader", name="Hostname")).to_have_attribute("aria-sort", "descending")
    page.get_by_label("Status").select_option("offline")
    expect(page.get_by_text("Nothing found")).to_be_visible()
    page.get_by_role("link", name="Show all machines").click()
    page.get_by_label("Status").select_option("revoked")
    _expect_hostnames(page, "old-laptop")
    page.get_by_label("Status").select_option("online")
    _expect_hostnames(page, "db-1", "web-1")
    page.reload()
    _expect_hostnames(page, "db-1", "web-1")
    expect(page.get_by_label("Status")).to_have_value("online")
    page.get_by_role("link", name="Added").click()
    _expect_hostnames(page, "db-1", "web-1")
    page.get_by_role("link", name="Added").click()
    _expect_hostnames(page, "web-1", "db-1")


def test_a_menu_for_each_machine(
    awake: None, networks: list[UUID], scene: Scene, opened: Opened, faults: list[str]
) -> None:
    page = opened()
    _visit(page, "/machines")
    machine_id = _id(page, "web-1")
    page.get_by_label("Actions for web-1").click()
    look(page, "machines-menu")
    expect(page.get_by_role("link", name="Open")).to_have_attribute("href", f"/machines/{machine_id}")
    for verb in ("revoke", "delete"):
        opens = page.locator(f"#menu-{machine_id}").get_by_role("button", name=re.compile(verb, re.IGNORECASE))
        expect(opens).to_have_attribute("hx-get", f"/machines/{machine_id}/{verb}")
    page.locator(f"#menu-{machine_id}").get_by_role("button", name="Assign to a network").click()
    dialog = page.get_by_role("dialog", name="Assign web-1")
    expect(dialog.get_by_label("Mesh network")).to_contain_text("edge · 10.2.0.0/24 · 253 free")
    expect(dialog.get_by_label("Mesh network")).not_to_contain_text("lab")
    assert_accessible(page)
    look(page, "machines-assign")
    dialog.get_by_role("button", name="Assign").click()
    expect(dialog.get_by_text("Choose a mesh network.")).to_be_visible()
    forgive(faults, 422)
    dialog.get_by_label("Mesh network").select_option(str(networks[2]))
    dialog.get_by_role("button", name="Assign").click()
    expect(page.get_by_text("web-1 is in edge as 10.2.0.2.")).to_be_visible()
    expect(dialog).to_have_count(0)
    expect(_row(page, "web-1")).to_contain_text("+1 more")


def test_many_are_assigned_at_once(
    awake: None, networks: list[UUID], scene: Scene, opened: Opened, faults: list[str]
) -> None:
    page = opened()
    _visit(page, "/machines")
    expect(page.locator(".machines-chosen")).to_be_hidden()
    page.get_by_label("Choose web-1").check()
    page.get_by_label("Choose web-2").check()
    scene.network("news", "10.50.0.0/30")
    expect(page.get_by_label("Mesh network")).to_contain_text("news")
    bar = page.locator(".machines-chosen")
    expect(bar).to_contain_text("2 chosen")
    look(page, "machines-chosen")
    page.get_by_label("Choose all machines on this page").check()
    expect(bar).to_contain_text("3 chosen")
    bar.get_by_role("button").click()
    dialog = page.get_by_role("dialog", name="Assign 3 machines")
    expect(dialog).to_contain_text("db-1, web-1, web-2")
    dialog.get_by_label("Mesh network").select_option(label="news · 10.50.0.0/30 · 2 free")
    dialog.get_by_role("button", name="Assign").click()
    expect(dialog.locator("#fault-network")).to_contain_text("free")
    forgive(faults, 409)
    dialog.get_by_label("Mesh network").select_option(str(networks[3]))
    dialog.get_by_role("button", name="Assign").click()
    expect(page.get_by_text("3 machines are in backup.")).to_be_visible()
    expect(bar).to_be_hidden()
    members = scene.get(f"/mesh-networks/{networks[3]}/machines")["items"]
    assert {each["hostname"] for each in members} == {"db-1", "web-1", "web-2"}


def test_a_viewer_changes_nothing(awake: None, networks: list[UUID], opened: Opened, faults: list[str]) -> None:
    page = opened("viewer")
    _visit(page, "/machines")
    main = page.get_by_role("main")
    expect(main.get_by_role("row")).to_have_count(5)
    for role in ("button", "checkbox"):
        expect(main.get_by_role(role)).to_have_count(0)
    expect(main.locator("details")).to_have_count(0)
    expect(main.get_by_role("link", name="Bootstrap tokens")).to_have_count(0)
    assert_accessible(page)
    for path in ("/machines/assign?chosen=" + _id(page, "web-1"), "/machines/add/tokens", "/machines/add"):
        assert page.request.get(path, headers={"HX-Request": "true"}).status == 403


def test_on_a_phone(awake: None, networks: list[UUID], opened: Opened) -> None:
    page = opened(phone=True)
    _visit(page, "/machines")
    expect(_row(page, "db-1")).to_contain_text("172.16.0.3")
    assert_fits(page)
    assert_accessible(page)
    page.get_by_label("Choose db-1").check()
    look(page, "machines-phone")
    page.locator(".machines-chosen").get_by_role("button").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert_fits(page)
    look(page, "machines-assign-phone")


def test_a_hostile_name_is_only_a_name(scene: Scene, opened: Opened) -> None:
    page = opened()
    hostile = "<img src=x onerror=alert(1)>\"'{{7*7}}"
    page.goto("/machines?" + "search=" + "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22'%7B%7B7*7%7D%7D")
    expect(page.get_by_text(f"No machine has “{hostile}”")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value(hostile)


def test_hundreds_of_machines(networks: list[UUID], scene: Scene, opened: Opened) -> None:
    page = opened("viewer")
    scene.machines(_FEW)
    few = {path: _seconds(page, path) for path in _PATHS}
    scene.machines(_MANY)
    for path in _PATHS:
        many = _seconds(page, path)
        print(f"{path}: {_FEW} machines {few[path] * 1000:.0f} ms, {_FEW + _MANY} {many * 1000:.0f} ms")
        assert many <= 3 * few[path] + 0.1, path
    _visit(page, "/machines")
    expect(page.get_by_role("row")).to_have_count(51)
    expect(page.locator(".pages")).to_contain_text("50 of 364 machines")
    first = _ids(page)
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    assert not set(first) & set(_ids(page))
    page.get_by_role("link", name="First page").click()
    expect(page.get_by_role("link", name="First page")).to_have_count(0)
    assert _ids(page) == first


_PATHS = ("/machines", "/machines?search=host-00", "/machines?search=172.16", "/machines?status=offline")


def _visit(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("body")).to_have_attribute("data-live", "yes")


def _row(page: Page, hostname: str) -> Locator:
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=hostname, exact=True))


def _id(page: Page, hostname: str) -> str:
    href = _row(page, hostname).get_by_role("link", name=hostname, exact=True).get_attribute("href")
    assert href is not None
    return href.removeprefix("/machines/")


def _ids(page: Page) -> list[str | None]:
    return [row.get_attribute("id") for row in page.locator("tbody tr").all()]


def _hostnames(page: Page) -> list[str]:
    return page.locator("tbody .name").all_inner_texts()


def _expect_hostnames(page: Page, *hostnames: str) -> None:
    expect(page.locator("tbody .name")).to_have_text(list(hostnames))


def _seconds(page: Page, path: str) -> float:
    """How long the control plane takes to answer with a page; the fastest of some."""
    took = []
    for _ in range(5):
        started = perf_counter()
        assert page.request.get(path).ok
        took.append(perf_counter() - started)
    return min(took)
