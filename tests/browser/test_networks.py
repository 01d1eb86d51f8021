"""The list of mesh networks, and making one."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Scene


def test_the_list_follows_what_happens(scene: Scene, opened: Opened) -> None:
    page = opened()
    expect(page.get_by_text("No mesh network yet")).to_be_visible()
    assert_accessible(page)
    scene.network("office", "172.16.0.0/24", is_default=True)
    scene.network("lab", "10.9.0.0/16", route_reflector_mode=True)
    expect(page.get_by_role("link", name="office")).to_be_visible()
    row = page.get_by_role("row", name="lab")
    expect(row).to_contain_text("RR")
    look(page, "networks")
    assert_accessible(page)
    assert_fits(page)
