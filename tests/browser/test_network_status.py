"""How far a network's machines have applied what was decided, as it is seen in the dashboard."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Scene


def test_who_lags_is_seen_and_when_he_has_come_up(scene: Scene, opened: Opened) -> None:
    network = scene.network("office", "172.16.0.0/24")
    oslo, bergen = scene.machine("oslo", network), scene.machine("bergen", network)
    scene.machine("narvik", network, online=False)
    revision = scene.get(f"/mesh-networks/{network}/status")["revision"]
    for machine in (oslo, bergen):
        scene.beat(machine, applied={network: revision})
    page = opened("viewer")
    page.goto(f"/networks/{network}")
    card = page.locator("#stat-status")
    expect(card).to_contain_text("Up to date")
    expect(card.locator("dd")).to_contain_text("2")
    scene.change("PATCH", f"/mesh-networks/{network}", {"name": "bureau"})
    scene.beat(oslo, applied={network: revision + 1})
    expect(card).to_contain_text("1 online lags")
    look(page, "status-overview")
    card.get_by_role("link").click()
    expect(page).to_have_url(f"{scene.url}/networks/{network}/status")
    row = page.locator(f"#lags-{bergen.id}")
    expect(row).to_contain_text("1 revision")
    expect(page.locator("#lagging")).to_contain_text("narvik")
    expect(page.locator(f"#change-{revision + 1}")).to_contain_text("1")
    assert_accessible(page)
    assert_fits(page)
    look(page, "status")
    scene.beat(bergen, applied={network: revision + 1})
    expect(row).to_have_count(0)
    expect(page.locator("#stat-current")).to_contain_text("2")


def test_on_a_phone_and_without_machines(scene: Scene, opened: Opened) -> None:
    network = scene.network("empty", "172.17.0.0/24")
    page = opened("viewer", phone=True)
    page.goto(f"/networks/{network}/status")
    expect(page.get_by_text("No machine is assigned yet.")).to_be_visible()
    assert_fits(page)
    assert_accessible(page)
