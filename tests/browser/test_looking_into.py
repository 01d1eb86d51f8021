"""What changed between two moments, why something is as it is, who held an address, and undoing a command."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, forgive, look
from tests.browser.scene import Scene
from tests.browser.test_time import Story


@pytest.fixture(scope="module")
def story(scene: Scene) -> Story:
    return Story(scene)


def test_what_changed_is_told(story: Story, opened: Opened, faults: list[str]) -> None:
    page = opened("viewer")
    page.goto(f"{story.map}?at={story.founded}")
    page.get_by_role("link", name="What changed since").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What changed")
    expect(page.locator("main")).to_contain_text("headquarters")
    expect(page.get_by_role("heading", name="Addresses")).to_be_visible()
    expect(page.locator("main")).to_contain_text("10.5.0.4")
    expect(page.get_by_label("From")).to_have_value(str(story.founded))
    assert_accessible(page)
    assert_fits(page)
    look(page, "changes")
    page.get_by_role("link", name="Compare the other way round").click()
    expect(page.locator(".changes-removed").first).to_be_visible()
    page.get_by_label("From").fill("tomorrow")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#fault-from")).to_contain_text("is no moment")
    forgive(faults, 422)


def test_a_wrong_moment_stands_at_its_field(story: Story, opened: Opened, faults: list[str]) -> None:
    page = opened("viewer", phone=True)
    page.goto(f"/networks/{story.network}/changes?from=1&to=999999")
    forgive(faults, 404)
    expect(page.locator("#fault-to")).to_contain_text("there is no position 999999")
    page.goto(f"/networks/{story.network}/changes?from={story.before}&to={story.renamed}")
    expect(page.locator("#side-from")).to_contain_text("not there")
    assert_fits(page)
    look(page, "phone-changes")


def test_why_goes_down_to_the_commands(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"/networks/{story.network}/paths/{story.machines['berlin'].id}/{story.machines['oslo'].id}")
    page.get_by_role("link", name="Why, down to the commands").click()
    chain = page.locator("#why-chain")
    expect(chain).to_contain_text(re.compile("berlin.*oslo.*through", re.DOTALL))
    expect(chain.locator(".why-command").first).to_be_visible()
    assert_accessible(page)
    look(page, "why-path")
    page.get_by_role("link", name="The record of the peer").click()
    expect(chain).to_contain_text("announced")
    look(page, "why-peer")
    page.goto(f"/machines/{story.machines['oslo'].id}?at={story.renamed}")
    page.get_by_role("link", name="Why 10.5.0.2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why: 10.5.0.2")
    expect(chain.get_by_role("link", name=re.compile("assigned oslo")).first).to_be_visible()
    expect(page.locator("#time-banner")).to_contain_text("As of")
    assert_fits(page)
    look(page, "why-address")


def test_who_had_an_address_is_told(scene: Scene, story: Story, opened: Opened) -> None:
    network = scene.network("shed", "10.9.0.0/24")
    first = scene.machine("first-1", network)
    scene.change("DELETE", f"/mesh-networks/{network}/machines/{first.id}")
    second = scene.machine("second-1", network)
    scene.change("PATCH", f"/machines/{second.id}", {"hostname": "other-1"})
    page = opened("viewer")
    page.goto(f"/networks/{network}/machines")
    page.get_by_role("link", name="Address history").click()
    rows = page.locator("#results tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("first-1")
    expect(rows.nth(1)).to_contain_text("now other-1")
    expect(rows.nth(1)).to_contain_text("has it now")
    assert_accessible(page)
    look(page, "ledger")
    page.get_by_role("searchbox").fill("10.9.0.7")
    expect(page.locator("#results")).to_contain_text("No machine ever had 10.9.0.7")
    page.get_by_role("searchbox").fill("10.9.0.1")
    expect(rows).to_have_count(2)
    rows.nth(1).get_by_role("link", name="second-1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("second-1")
    expect(page.locator("#time-banner")).to_contain_text("As of")
    scene.change("DELETE", f"/mesh-networks/{network}?force=true")
    page.goto("/events")
    page.get_by_role("link", name="deleted network shed").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shed")
    page.goto(f"/networks/{network}/addresses")
    expect(page.locator("#ledger-head")).to_contain_text("network deleted")
    expect(rows).to_have_count(2)
    assert_fits(page)


def test_a_command_is_undone(scene: Scene, story: Story, opened: Opened) -> None:
    network = scene.network("garage", "10.8.0.0/24")
    scene.change("PATCH", f"/mesh-networks/{network}", {"name": "workshop"})
    event = story.end()
    page = opened("operator")
    page.goto(f"/events/{event}")
    expect(page.get_by_role("link", name="See the map then")).to_be_visible()
    page.get_by_role("button", name="Undo…").click()
    dialog = page.get_by_role("dialog", name="Undo this command?")
    expect(dialog).to_contain_text("renamed network workshop to garage")
    expect(dialog.locator(".changes-changed").first).to_be_visible()
    assert_accessible(page)
    look(page, "undo")
    dialog.get_by_role("button", name="Undo", exact=True).click()
    page.wait_for_url(re.compile(rf"/events/(?!{event}$)\d+"))
    expect(page.locator("#notices")).to_contain_text("Undone.")
    assert scene.get(f"/mesh-networks/{network}")["name"] == "garage"
    page.goto(f"/events/{event}")
    page.get_by_role("button", name="Undo…").click()
    cannot = page.get_by_role("dialog", name=re.compile("cannot be undone|Undo this command"))
    expect(cannot).to_be_visible()
    look(page, "undo-again")


def test_a_viewer_undoes_nothing(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"/events/{story.renamed}")
    expect(page.get_by_role("heading", name="Its command")).to_be_visible()
    expect(page.get_by_role("button", name="Undo…")).to_have_count(0)
