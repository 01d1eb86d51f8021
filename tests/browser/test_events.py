"""The page of the log: what happened, filtered, page by page and as it happens; and one event, with what it changed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Locator, Page, expect

from services.gateway import history
from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, forgive, look
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


def rows(page: Page, text: str = "") -> Locator:
    return page.locator("#results li.event").filter(has_text=text)


def newest(scene: Scene, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = scene.get("/events", limit=1, **query)["items"][0]
    return found


def asked(page: Page) -> dict[str, list[str]]:
    """What the address asks for."""
    return parse_qs(urlsplit(page.url).query, keep_blank_values=True)


def test_the_log_in_words_as_it_grows(scene: Scene, story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_role("heading", level=1, name="Events")).to_be_visible()
    expect(page.get_by_role("heading", level=2).first).to_contain_text("Today")
    expect(rows(page, "created network office with 172.16.0.0/24, the default")).to_be_visible()
    look(page, "events")
    assert_accessible(page)
    scene.network("fresh", "10.50.0.0/24")
    expect(rows(page).first).to_contain_text("created network fresh with 10.50.0.0/24")
    expect(rows(page).first).to_contain_text("admin")
    enrolled = rows(page, "enrolled db-1")
    expect(enrolled.get_by_role("link", name="db-1").first).to_have_attribute("href", f"/machines/{story.db.id}")
    gone = rows(page, "deleted network attic").first
    expect(gone.locator(".things")).to_contain_text("deleted network attic")
    expect(gone.get_by_role("link", name="attic")).to_have_attribute("href", re.compile(r"/networks/.*\?at=\d+$"))
    rows(page).first.get_by_role("link", name="fresh").click()
    expect(page.get_by_role("heading", level=1, name="fresh")).to_be_visible()


def test_filters(scene: Scene, story: Story, opened: Opened, faults: list[str]) -> None:
    page = opened("viewer", phone=True)
    page.goto("/events")
    page.get_by_label("Network", exact=True).fill("laboratory")
    page.get_by_label("By", exact=True).fill("admin")
    page.get_by_role("button", name="Filter").click()
    expect(rows(page, "renamed network lab to laboratory")).to_be_visible()
    assert asked(page) == {"network": [str(story.lab)], "actor": ["admin"]}
    expect(rows(page, "announced the key")).to_have_count(0)
    expect(rows(page, "office")).to_have_count(0)
    page.locator("summary", has_text="Kinds").click()
    page.get_by_label("Network renamed").check()
    page.get_by_label("Network created").check()
    look(page, "events-kinds-phone")
    assert_accessible(page)
    assert_fits(page)
    page.get_by_role("button", name="Show these kinds").click()
    expect(rows(page)).to_have_count(2)
    assert asked(page)["kind"] == ["network.created", "network.renamed"]
    look(page, "events-filtered-phone")
    assert_accessible(page)
    assert_fits(page)
    scene.change("PATCH", f"/mesh-networks/{story.lab}", {"name": "lab-2"})
    expect(rows(page).first).to_contain_text("renamed network laboratory to lab-2")
    page.get_by_role("link", name="Without Kind Network created").click()
    expect(rows(page, "created network")).to_have_count(0)
    page.get_by_role("link", name="Show all").click()
    page.get_by_label("Machine", exact=True).fill("no-such-machine")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#fault-machine")).to_contain_text("There is no machine of this name")
    forgive(faults, 422)
    expect(page.get_by_label("Machine", exact=True)).to_have_value("no-such-machine")
    assert_accessible(page)


def test_machines_are_suggested_and_times_are_utc(scene: Scene, story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto("/events")
    page.get_by_label("Machine", exact=True).press_sequentially("web")
    expect(page.locator("#known-machines option")).to_have_count(1)
    expect(page.locator("#known-machines option")).to_have_attribute("value", "web-1")
    page.get_by_label("Machine", exact=True).fill("web-1")
    now = datetime.now(UTC)
    page.get_by_label("From, UTC").fill(f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}")
    page.get_by_label("Until, UTC").fill(f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    page.get_by_role("button", name="Filter").click()
    expect(rows(page, "made web-1 a preferred transit machine")).to_be_visible()
    expect(rows(page, "enrolled db-1")).to_have_count(0)
    expect(page.get_by_label("Filters in force")).to_contain_text("UTC")
    look(page, "events-filtered")
    page.goto(f"/events?until={now - timedelta(hours=1):%Y-%m-%dT%H:%M}")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.goto(f"/events?since={now + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()


def test_older_and_newer(scene: Scene, story: Story, opened: Opened) -> None:
    for number in range(60):
        scene.change("PATCH", f"/machines/{story.db.id}", {"transit": "always" if number % 2 == 0 else "auto"})
    page = opened("viewer")
    page.goto(f"/events?machine={story.db.id}")
    expect(rows(page)).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_text("this page does not change")).to_be_visible()
    before = rows(page).first.inner_text()
    expect(rows(page, "enrolled db-1")).to_be_visible()
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    look(page, "events-older")
    assert_accessible(page)
    assert page.locator("main").get_attribute("data-topics") == ""
    scene.change("PATCH", f"/machines/{story.db.id}", {"transit": "never"})
    assert rows(page).first.inner_text() == before
    page.get_by_role("link", name="Newer", exact=True).click()
    expect(rows(page)).to_have_count(50)
    page.get_by_role("link", name="Newer", exact=True).click()
    # All that is newer fits on the newest page, which follows what happens.
    expect(rows(page).first).to_contain_text("had no traffic of others go through db-1")
    expect(page.locator("main")).to_have_attribute("data-topics", "events")


def test_a_long_log_is_looked_through_bit_by_bit(
    scene: Scene, story: Story, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SCANNED", 40)
    monkeypatch.setattr(history, "CHUNK", 20)
    page = opened("viewer")
    end = scene.get("/events", limit=1)["last_sequence"]
    page.goto(f"/events?network={story.office}&kind=network.created&before={end}")
    expect(page.get_by_role("heading", name="Nothing found so far")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Searched \d+ events, back to number \d+"))).to_be_visible()
    look(page, "events-far-back")
    for _ in range(10):
        if rows(page).count():
            break
        page.get_by_role("link", name="Look further back").click()
        page.wait_for_load_state()
    expect(rows(page)).to_contain_text("created network office")


def test_new_events_do_not_move_what_one_reads(scene: Scene, story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto("/events")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    tenth = rows(page).nth(20)
    tenth.scroll_into_view_if_needed()
    page.mouse.wheel(0, 300)
    here = page.locator(f"#{tenth.get_attribute('id')}")
    page.wait_for_function("scrollY > 200")
    before = here.bounding_box()
    scene.network("above", "10.51.0.0/24")
    expect(rows(page, "created network above")).to_be_attached()
    after = here.bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) < 2


def test_one_event_and_what_it_changed(scene: Scene, story: Story, opened: Opened) -> None:
    page = opened("viewer")
    changed = newest(scene, kind="routing.route_updated")
    page.goto("/events?kind=routing.route_updated")
    page.get_by_role("link", name=re.compile(f"^Event {changed['sequence']},")).click()
    expect(page.get_by_role("heading", level=1, name="Route changed")).to_be_visible()
    row = page.get_by_role("row", name="Prefixes")
    expect(row.get_by_role("cell").nth(0)).to_have_text("192.168.7.0/24")
    expect(row.get_by_role("cell").nth(1)).to_contain_text("192.168.8.0/24")
    expect(page.get_by_text("3 fields stayed as before")).to_be_visible()
    facts = page.locator("main")
    for text in (changed["command_id"], str(changed["sequence"]), "account:admin/first", "routing.route_updated"):
        expect(facts.get_by_text(text).first).to_be_visible()
    assert len(re.findall(r"\b[0-9a-f]{64}\b", facts.inner_text())) == 2
    look(page, "event")
    assert_accessible(page)
    page.get_by_role("link", name="All by this actor").click()
    assert asked(page) == {"actor": ["account:admin/first"]}
    expect(rows(page, "announced the key")).to_have_count(0)


def test_the_events_of_one_command_stand_together(scene: Scene, story: Story, opened: Opened) -> None:
    page = opened("viewer", phone=True)
    changed = newest(scene, kind="access.machine_enrolled", machine=str(story.web.id))
    page.goto(f"/events/{changed['sequence']}")
    together = page.locator("section", has=page.get_by_role("heading", name="Its command"))
    expect(together).to_contain_text("registered machine web-1")
    expect(together).to_contain_text("assigned web-1 to office")
    look(page, "event-phone")
    assert_accessible(page)
    assert_fits(page)
    page.get_by_role("link", name="In the log").click()
    expect(rows(page).first).to_contain_text("enrolled web-1")


def test_no_hash_of_a_token_is_shown(scene: Scene, story: Story, opened: Opened, faults: list[str]) -> None:
    page = opened("admin")
    issued = newest(scene, kind="access.api_token_issued")
    assert "secret_hash" not in issued["data"]
    page.goto(f"/events/{issued['sequence']}")
    text = page.locator("main").inner_text()
    assert "Secret" not in text
    page.goto("/events/999999")
    expect(page.get_by_text("There is no event 999999")).to_be_visible()
    forgive(faults, 404)
