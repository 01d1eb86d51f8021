"""The page of the log: what happened, filtered, page by page and as it happens; and one event, with what it changed."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Machine, Scene


class Story:
    """What has happened before the tests look."""

    def __init__(self, scene: Scene) -> None:
        self.office: UUID = scene.network("office", "172.16.0.0/24", is_default=True)
        self.lab: UUID = scene.network("lab", "10.9.0.0/16")
        self.db: Machine = scene.machine("db-1", self.office)
        self.web: Machine = scene.machine("web-1", self.office, self.lab)
        scene.change("PATCH", f"/mesh-networks/{self.lab}", {"name": "laboratory", "route_reflector_mode": True})
        scene.change("PATCH", f"/machines/{self.web.id}", {"transit": "always"})
        route = {"name": "lan", "prefixes": ["192.168.7.0/24"], "machine_uuids": [str(self.db.id)]}
        self.route = scene.change("POST", "/routes", route)["uuid"]
        scene.change("PATCH", f"/routes/{self.route}", {"prefixes": ["192.168.7.0/24", "192.168.8.0/24"]})
        gone = scene.network("attic", "10.77.0.0/24")
        scene.change("DELETE", f"/mesh-networks/{gone}")


@pytest.fixture(scope="module")
def story(scene: Scene) -> Story:
    return Story(scene)


def events(page: Page, text: str) -> object:
    return page.locator("#results li.event").filter(has_text=text)


def newest(scene: Scene, **query: object) -> dict[str, object]:
    return scene.get("/events", limit=1, **query)["items"][0]


def test_the_log_in_words_as_it_grows(scene: Scene, story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_role("heading", level=1, name="Events")).to_be_visible()
    expect(page.get_by_role("heading", level=2)).to_contain_text("Today")
    expect(events(page, "created network office with 172.16.0.0/24, the default")).to_be_visible()
    look(page, "events")
    assert_accessible(page)
    scene.network("fresh", "10.50.0.0/24")
    row = page.locator("#results li.event").first
    expect(row).to_contain_text("admin created network fresh with 10.50.0.0/24")
    row.get_by_role("link", name="fresh").click()
