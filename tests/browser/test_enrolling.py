"""Letting machines in: the dialog, its token, and the machines as they arrive."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from services.gateway.http.access_views import join_command
from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, forgive, look
from tests.browser.scene import Scene

_README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def office(scene: Scene) -> UUID:
    """The default network; there is another."""
    scene.network("lab", "10.1.0.0/24")
    return scene.network("office", "172.16.0.0/24", is_default=True)


def test_a_machine_arrives(office: UUID, scene: Scene, opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    page = opened()
    _visit(page, "/machines")
    expect(page.get_by_text("No machine yet")).to_be_visible()
    assert_accessible(page)
    look(page, "machines-none")
    dialog = _add(page)
    expect(dialog.get_by_label("Valid for")).to_be_focused()
    expect(dialog.get_by_label("Mesh network")).to_have_value("")
    expect(dialog.get_by_label("Mesh network")).to_contain_text("The default network, now office")
    look(page, "enrol")
    assert_accessible(page)
    dialog.get_by_role("button", name="Show the line to paste").click()
    token = _token(page)
    assert dialog.locator("#join-line").inner_text() == join_command(scene.url, token, _ca(scene))
    expect(dialog).to_contain_text("shown only now")
    expect(dialog).to_contain_text(re.compile(r"is valid for 10 minutes, until \d{4}-"))
    expect(dialog.get_by_role("button", name="Copy", exact=True)).to_be_focused()
    expect(dialog.get_by_role("heading", name="Waiting for the machine")).to_be_visible()
    look(page, "enrol-waiting")
    assert_accessible(page)

    machine = scene.arrive("web-1", token)
    arrived = dialog.get_by_role("listitem").filter(has_text="web-1")
    expect(arrived).to_contain_text("172.16.0.1 office")
    expect(arrived).to_contain_text("let in, starting…")
    expect(dialog.get_by_role("heading", name="The machine is in")).to_be_visible()
    scene.beat(machine)
    expect(arrived.locator(".status-good")).to_have_text("online")
    expect(arrived.get_by_role("link", name="web-1")).to_have_attribute("href", f"/machines/{machine.id}")
    look(page, "enrol-arrived")
    assert_accessible(page)

    assert page.url == f"{scene.url}/machines"
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("main").get_by_role("link", name="web-1")).to_be_visible()
    kept = page.content() + page.evaluate(
        "JSON.stringify([localStorage, sessionStorage, history.state, performance.getEntries().map(e => e.name)])"
    )
    assert token not in kept
    assert token not in "".join(capfd.readouterr())
    page.go_back()
    page.go_forward()
    assert token not in page.content()


def test_several_machines_with_one_token(office: UUID, scene: Scene, opened: Opened, faults: list[str]) -> None:
    page = opened()
    _visit(page, "/machines")
    dialog = _add(page)
    dialog.get_by_label("Valid for").select_option("1 day")
    uses = dialog.get_by_label("How many machines")
    uses.fill("none")
    dialog.get_by_label("Mesh network").select_option("lab · 10.1.0.0/24")
    dialog.get_by_role("button", name="Show the line").click()
    expect(dialog.get_by_text("Give a number from 1 to 1,000,000")).to_be_visible()
    forgive(faults, 422)
    look(page, "enrol-refused")
    expect(dialog.get_by_label("Valid for")).to_have_value("1d")
    uses.fill("2")
    dialog.get_by_role("button", name="Show the line").click()
    token = _token(page)
    expect(dialog.get_by_role("heading", name="Waiting for machines")).to_be_visible()
    scene.arrive("edge-1", token)
    expect(dialog.get_by_role("heading", name="1 machine is in of 2, waiting for more")).to_be_visible()
    expect(dialog.get_by_role("link", name="edge-1")).to_have_attribute("target", "_blank")
    expect(dialog.get_by_role("listitem")).to_contain_text("10.1.0.1 lab")
    # A click beside the dialog does not lose what is shown only once.
    page.mouse.click(5, 5)
    expect(dialog).to_be_visible()
    scene.arrive("edge-2", token)
    expect(dialog.get_by_role("heading", name="All 2 machines are in")).to_be_visible()
    expect(dialog.get_by_role("listitem")).to_have_count(2)


def test_a_token_is_revoked_where_it_is_shown(office: UUID, scene: Scene, opened: Opened) -> None:
    page, other = opened(), opened()
    _visit(page, "/machines")
    dialog = _add(page)
    dialog.get_by_label("any number").check()
    dialog.get_by_role("button", name="Show the line").click()
    expect(dialog.locator("#join-line")).to_contain_text("wlb_")
    expect(page.get_by_role("link", name="Bootstrap tokens 1 valid")).to_be_visible()
    _visit(other, "/machines/add/tokens")
    expect(_tokens(other)).to_have_count(1)
    expect(_tokens(other)).to_contain_text("0 of any number")
    dialog.get_by_role("button", name="Revoke the token").click()
    expect(page.get_by_text("it lets nobody in any more")).to_be_visible()
    expect(dialog).to_have_count(0)
    expect(other.get_by_text("No valid tokens")).to_be_visible()


def test_the_tokens_that_count(office: UUID, scene: Scene, opened: Opened) -> None:
    page = opened()
    _visit(page, "/machines/add/tokens")
    scene.change("POST", "/bootstrap-tokens", {"lifetime": "7d", "uses": 5, "mesh_network_uuid": str(office)})
    scene.change("POST", "/bootstrap-tokens", {"uses": None})
    expect(_tokens(page)).to_have_count(2)
    week = _tokens(page).filter(has_text="0 of 5")
    expect(week).to_contain_text(re.compile("7 days"))
    expect(week).to_contain_text("account:admin/")
    expect(week.get_by_role("link", name="office")).to_have_attribute("href", f"/networks/{office}")
    look(page, "enrol-tokens")
    assert_accessible(page)
    assert_fits(page)
    waiting = _add(page)
    waiting.get_by_role("button", name="Show the line").click()
    expect(_tokens(page)).to_have_count(3)
    waiting.get_by_role("button", name="Close").last.click()
    week.get_by_role("button", name="Revoke").click()
    dialog = page.get_by_role("dialog", name="Revoke the token?")
    look(page, "enrol-revoke")
    assert_accessible(page)
    dialog.get_by_role("button", name="Revoke", exact=True).click()
    expect(week).to_have_count(0)
    expect(dialog).to_have_count(0)
    expect(_tokens(page)).to_have_count(2)
    assert "usable" not in {each["state"] for each in scene.get("/bootstrap-tokens")["items"] if each["uses"] == 5}


def test_a_dialog_learns_that_its_token_counts_no_more(office: UUID, scene: Scene, opened: Opened) -> None:
    page = opened()
    _visit(page, "/machines")
    dialog = _add(page)
    dialog.get_by_role("button", name="Show the line").click()
    source = dialog.locator("#arrivals").get_attribute("data-live-src")
    assert source is not None
    scene.change("DELETE", "/bootstrap-tokens/" + source.split("/")[4])
    expect(dialog.get_by_role("heading", name="The token is revoked")).to_be_visible()


def test_on_a_phone(office: UUID, opened: Opened) -> None:
    page = opened(phone=True)
    _visit(page, "/machines")
    dialog = _add(page)
    look(page, "enrol-phone")
    dialog.get_by_role("button", name="Show the line").click()
    expect(dialog.locator("#join-line")).to_contain_text("wlb_")
    dialog.get_by_text("What the machine needs first").click()
    assert_fits(page)
    assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    assert_accessible(page)
    look(page, "enrol-waiting-phone")


def test_what_a_machine_needs_stands_in_the_readme_too(office: UUID, opened: Opened) -> None:
    page = opened()
    _visit(page, "/machines")
    dialog = _add(page)
    dialog.get_by_text("What the machine needs first").click()
    readme = {line.strip() for line in _README.read_text().splitlines()}
    assert set(dialog.locator("#agent-lines").inner_text().splitlines()) <= readme
    look(page, "enrol-needs")
    assert_accessible(page)


def test_the_address_alone_opens_the_list(office: UUID, opened: Opened) -> None:
    page = opened()
    page.goto("/machines/add")
    assert urlsplit(page.url).path == "/machines"


def _visit(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("body")).to_have_attribute("data-live", "yes")


def _add(page: Page) -> Locator:
    page.get_by_role("button", name="Add machine").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


def _token(page: Page) -> str:
    """The secret that the line to paste holds."""
    line = page.locator("#join-line")
    expect(line).to_contain_text("--token wlb_")
    return line.inner_text().split("--token ")[1].split()[0]


def _tokens(page: Page) -> Locator:
    return page.locator("tbody tr")


def _ca(scene: Scene) -> str:
    return scene.plane.identity.ca()
