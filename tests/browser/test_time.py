"""The time machine: pages as they were, and the time line that leads there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Page, expect

from events.records import LinkState
from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, forgive, look
from tests.browser.scene import Machine, Scene
from tests.support.waiting import wait_until_sync


class Story:
    """A network, and what happened to it; positions of the log, and times, after each step."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.before = self.end()
        self.network = scene.network("office", "10.5.0.0/24")
        self.founded = self.end()
        names = ("berlin", "oslo", "frankfurt")
        self.machines: dict[str, Machine] = {name: scene.machine(name, self.network) for name in names}
        self.report(apart=[])
        self.wait("direct")
        self.three = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.change(name="headquarters")
        self.renamed = self.end()
        self.machines["porto"] = scene.machine("porto", self.network)
        self.report(apart=[("berlin", "oslo")])
        self.wait("transit")

    @property
    def map(self) -> str:
        """Where the network's map is."""
        return f"/networks/{self.network}/map"

    def end(self) -> int:
        """How far the log goes."""
        return int(self.scene.get("/events", limit=1)["last_sequence"])

    def change(self, **fields: str) -> None:
        """Change the network."""
        self.scene.change("PATCH", f"/mesh-networks/{self.network}", fields)

    def report(self, apart: list[tuple[str, str]]) -> None:
        """Everybody says whom it reaches."""
        report_all(self.scene, self.network, self.machines, apart)

    def wait(self, kind: str) -> None:
        """Until berlin reaches oslo in this way."""
        path = f"/mesh-networks/{self.network}/paths/{self.machines['berlin'].id}/{self.machines['oslo'].id}"
        wait_until_sync(lambda: self.scene.get(path)["kind"] == kind, what=f"berlin reaches oslo: {kind}")


def report_all(scene: Scene, network: UUID, machines: Mapping[str, Machine], apart: list[tuple[str, str]]) -> None:
    for name, machine in machines.items():
        links = []
        for other, peer in machines.items():
            if {name, other} in map(set, apart):
                tried = (("192.0.2.77:51820", "no answer"),)
                links.append(LinkState(peer_id=peer.id, state="unreachable", tried=tried))
            elif other != name:
                links.append(LinkState(peer_id=peer.id, state="direct", rtt=10, endpoint="192.0.2.77:51820"))
        scene.report(machine, network, *links)


@pytest.fixture(scope="module")
def story(scene: Scene) -> Story:
    return Story(scene)


def at_of(page: Page) -> str:
    """The moment that the address names."""
    return parse_qs(urlsplit(page.url).query).get("at", [""])[0]


def names(page: Page) -> list[str]:
    """The machines on the map."""
    return sorted(page.locator(".map-spot .map-name").all_inner_texts())


def places(page: Page) -> dict[str, str]:
    """Where each machine stands."""
    found: dict[str, str] = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.map-spot')].map("
        "spot => [spot.id, spot.querySelector('.map-place').getAttribute('transform')]))"
    )
    return found


def test_the_map_is_as_it_was(story: Story, opened: Opened) -> None:
    page = opened("operator")
    page.goto(f"{story.map}?at={story.founded}")
    expect(page.get_by_role("heading", level=1)).to_have_text("office")
    expect(page.get_by_role("heading", name="No machines yet")).to_be_visible()
    page.goto(f"{story.map}?at={story.three}")
    expect(page.get_by_role("heading", level=1)).to_have_text("office")
    expect(page.get_by_role("link", name="berlin to oslo: direct, 10 ms")).to_be_attached()
    expect(page.locator("#map")).to_contain_text("10.5.0.2")
    assert len(places(page)) == 3
    expect(page).to_have_title(re.compile("Map of office, as of .* UTC · Wireloom"))
    page.goto(f"{story.map}?at={story.renamed}")
    expect(page.get_by_role("heading", level=1)).to_have_text("headquarters")
    banner = page.locator("#time-banner")
    expect(banner).to_contain_text(f"after event {story.renamed}: admin renamed network office to headquarters")
    expect(page.locator(".map-spot").first).not_to_have_class(re.compile("map-off"))
    expect(page.get_by_text("who was online is not recorded")).to_be_visible()
    assert_accessible(page)
    assert_fits(page)
    look(page, "map-renamed")
    banner.get_by_role("link", name="Back to now").click()
    expect(page.get_by_role("link", name=re.compile("berlin to oslo: through"))).to_be_attached()
    expect(banner).to_contain_text("Now")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    assert at_of(page) == ""
    look(page, "map-now")


def test_the_slider_goes_through_time_and_the_address_follows(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(story.map)
    slider = page.get_by_role("slider", name="Moment")
    count = int(slider.get_attribute("max") or 0)
    assert count >= 8
    expect(slider).to_have_value(str(count))
    slider.focus()
    page.keyboard.press("Home")
    expect(page.get_by_role("heading", name="No machines yet")).to_be_visible()
    expect(slider).to_be_focused()
    expect(slider).to_have_value("0")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("created network office"))
    assert at_of(page) == str(story.founded)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#time-banner")).to_contain_text("assigned berlin to headquarters as 10.5.0.1")
    page.keyboard.press("End")
    expect(page.get_by_role("link", name=re.compile("berlin to oslo: through"))).to_be_attached()
    expect(slider).to_have_value(str(count))
    assert at_of(page) == ""
    stands = places(page)
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 9, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()
    page.wait_for_url(re.compile(r"at="))
    expect(slider).not_to_have_value(str(count))
    page.locator("#time-strip a").last.dispatch_event("click")
    expect(page.locator(".map-spot")).to_have_count(4)
    assert places(page) == stands, "nothing jumps"
    page.reload()
    expect(page.locator(".map-spot")).to_have_count(4)


def test_lines_that_changed_are_pointed_out(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(story.map)
    page.locator(f"#time-strip a[href$='at={story.renamed}']").dispatch_event("click")
    expect(page.locator(".map-spot")).to_have_count(3)
    expect(page.locator(".map-changed")).to_have_count(1)
    expect(page.get_by_role("link", name="berlin to oslo: direct, 10 ms")).to_have_class(re.compile("map-changed"))


def test_one_steps_from_moment_to_moment(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"/networks/{story.network}?at={story.renamed}")
    page.get_by_role("link", name=re.compile("Moment after: ")).click()
    expect(page.locator("#time-banner")).to_contain_text("assigned porto to headquarters")
    expect(page.locator("#stat-machines")).to_contain_text("4")
    page.get_by_role("link", name=re.compile("Moment before: ")).click()
    expect(page.locator("#time-banner")).to_contain_text("renamed network office")
    before = page.get_by_role("link", name=re.compile("Moment before: ")).get_attribute("aria-label") or ""
    assert "reach each other" in before, "a change of paths is a moment too"
    page.get_by_role("link", name=re.compile("Moment before: ")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("office")
    expect(page.locator("#stat-paths")).to_contain_text("3direct")
    assert at_of(page).endswith("Z")


def test_one_goes_to_a_time_that_one_knows(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"{story.map}?kind=direct")
    page.get_by_label("Go to a time").fill(story.three)
    page.get_by_role("button", name="Go", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("office")
    expect(page.locator(".map-line")).to_have_count(3)
    assert at_of(page) == story.three
    assert "kind=direct" in page.url


def test_a_search_finds_what_there_was_then_also_after_one_slid_there(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(story.map)
    page.locator(f"#time-strip a[href$='at={story.renamed}']").dispatch_event("click")
    expect(page.locator(".map-spot")).to_have_count(3)
    page.get_by_role("searchbox").fill("porto")
    expect(page.locator("#map-found")).to_contain_text("No machine here has “porto”")
    assert at_of(page) == str(story.renamed)
    page.get_by_role("link", name="Back to now").click()
    expect(page.locator(".map-spot")).to_have_count(4)
    page.get_by_role("searchbox").fill("port")
    expect(page.locator("#map-found")).to_contain_text("1 machine found")
    assert at_of(page) == ""


def test_what_happened_is_played(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"{story.map}?at={story.renamed}")
    page.get_by_role("button", name="Play what happened").click()
    expect(page.get_by_role("button", name="Play what happened")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".map-spot")).to_have_count(4)
    page.get_by_role("button", name="Play what happened").click()
    expect(page.get_by_role("button", name="Play what happened")).to_have_attribute("aria-pressed", "false")


TABS = ("", "/endpoints", "/peers", "/routing", "/routes", "/vips", "/events")


def test_every_page_of_then_leads_to_others_of_then_and_changes_nothing(story: Story, opened: Opened) -> None:
    page = opened("operator")
    oslo = f"/machines/{story.machines['oslo'].id}"
    paths = [f"/networks/{story.network}{tab}" for tab in ("", "/machines", "/map", "/bgp", "/events")]
    paths += [oslo + tab for tab in TABS]
    paths += [f"/networks/{story.network}/paths/{story.machines['berlin'].id}/{story.machines['oslo'].id}"]
    for path in ("/networks", "/machines", *paths):
        page.goto(f"{path}?at={story.renamed}")
        main = page.locator("main")
        expect(page.locator("#time-banner")).to_contain_text("As of")
        assert main.get_attribute("data-topics") == "", path
        changing = "[hx-post], [hx-put], [hx-patch], [hx-delete], [hx-get$='delete'], input[type=checkbox], .menu"
        assert main.locator(changing).count() == 0, path
        links = main.locator("a[href^='/networks'], a[href^='/machines'], a[href^='paths/']")
        hrefs: list[str] = links.evaluate_all(
            "links => links.filter(l => !l.matches('[data-now]')).map(l => l.getAttribute('href'))"
        )
        assert all(f"at={story.renamed}" in href for href in hrefs), (path, hrefs)
        text = main.evaluate("main => [...main.children].filter(c => c.id !== 'time').map(c => c.innerText).join()")
        assert "porto" not in text, path
        assert "offline" not in text, path
        name = re.sub(r"[^a-z]+", "-", re.sub(r"[0-9a-f-]{36}", "", path)).strip("-")
        look(page, f"then-{name}")
    for path in (paths[0], paths[1], oslo, f"{oslo}/peers", paths[-1], "/machines"):
        page.goto(f"{path}?at={story.renamed}")
        assert_accessible(page)
    page.goto(f"/networks/{story.network}/machines?at={story.renamed}")
    page.get_by_role("searchbox").fill("osl")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    assert at_of(page) == str(story.renamed)
    page.get_by_role("link", name="oslo", exact=True).click()
    page.wait_for_url(f"**{oslo}?at={story.renamed}")


def test_a_path_is_explained_as_it_was(story: Story, opened: Opened) -> None:
    page = opened("viewer")
    page.goto(f"{story.map}?at={story.three}")
    page.get_by_role("link", name="berlin to oslo: direct, 10 ms").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="berlin ↔ oslo")
    expect(dialog).to_contain_text("berlin and oslo reach each other directly")
    assert dialog.locator("[data-live-src]").count() == 0
    dialog.get_by_role("link", name="Open as a page").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("berlin ↔ oslo")
    expect(page.locator("#path-now")).to_contain_text("directly")
    assert at_of(page) == story.three


def test_what_is_open_in_the_present_follows_and_what_is_past_does_not(
    scene: Scene, story: Story, opened: Opened
) -> None:
    network = scene.network("lab", "10.6.0.0/24")
    then = story.end()
    now, past = opened("viewer"), opened("viewer")
    now.goto(f"/networks/{network}/map")
    past.goto(f"/networks/{network}/map?at={then}")
    before = now.locator("#time-strip a").count()
    scene.machine("one", network)
    expect(now.get_by_role("heading", name="No paths yet")).to_be_visible()
    expect(now.locator("#time-strip a")).to_have_count(before + 2)
    expect(past.get_by_role("heading", name="No machines yet")).to_be_visible()
    expect(past.locator("body")).not_to_have_attribute("data-live", "yes")
    now.get_by_role("navigation", name="lab").get_by_role("link", name="Overview").click()
    now.get_by_role("link", name="Look back").click()
    expect(now.locator("#time-banner")).to_contain_text("As of")


def test_what_was_deleted_can_be_looked_at(scene: Scene, story: Story, opened: Opened, faults: list[str]) -> None:
    network = scene.network("attic", "10.7.0.0/24")
    machine = scene.machine("old-1", network)
    scene.change("DELETE", f"/mesh-networks/{network}?force=true")
    scene.change("DELETE", f"/machines/{machine.id}")
    page = opened("viewer")
    page.goto(f"/networks/{network}")
    expect(page.get_by_role("heading", level=1)).to_have_text("It is no more")
    expect(page.locator("main")).to_contain_text("deleted network attic")
    forgive(faults, 404)
    assert_accessible(page)
    look(page, "gone")
    page.get_by_role("link", name="See it as it was").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("attic")
    page.get_by_role("navigation", name="attic").get_by_role("link", name="Machines").click()
    expect(page.locator("#results")).to_contain_text("10.7.0.1")
    page.get_by_role("link", name="old-1", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("old-1")
    page.goto(f"/networks/{network}?at={story.before}")
    expect(page.get_by_role("heading", level=1)).to_have_text("It was not there then")
    expect(page.locator("main")).to_contain_text("There was no such network yet: admin created network attic")
    forgive(faults, 404)
    look(page, "not-yet")
    page.get_by_role("link", name="See how it began").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("attic")


@pytest.mark.parametrize(
    ("at", "status", "said"),
    [
        ("yesterday-ish", 422, "is no moment"),
        ("99999999", 404, "there is no position 99999999 yet"),
        ("2999-01-01", 422, "has not come yet"),
    ],
)
def test_what_is_no_moment_is_said(
    story: Story, opened: Opened, faults: list[str], at: str, status: int, said: str
) -> None:
    page = opened("viewer")
    page.goto(f"{story.map}?at={at}")
    forgive(faults, status)
    expect(page.locator("main")).to_contain_text(said)
    page.get_by_role("link", name="Back to now").click()
    expect(page.get_by_role("heading", name="Machines and paths")).to_be_visible()


def test_the_past_cannot_be_changed(story: Story, opened: Opened, faults: list[str]) -> None:
    page = opened("operator")
    page.goto(f"{story.map}?at={story.renamed}")
    status = page.evaluate(
        """([path, id]) => fetch(path, {method: "POST", body: new URLSearchParams({command_id: id, name: "x"}),
           headers: JSON.parse(document.body.getAttribute("hx-headers"))}).then(answer => answer.status)""",
        [f"/networks/{story.network}/settings/name?at={story.renamed}", str(uuid4())],
    )
    assert status == 422
    forgive(faults, 422)
    assert story.scene.get(f"/mesh-networks/{story.network}")["name"] == "headquarters"


def test_without_scripts_links_do(story: Story, opened: Opened) -> None:
    signed_in = opened("viewer")
    context = signed_in.context.browser
    assert context is not None
    bare = context.new_context(
        base_url=story.scene.url,
        ignore_https_errors=True,
        java_script_enabled=False,
        storage_state=signed_in.context.storage_state(),
    )
    page = bare.new_page()
    page.goto(f"{story.map}?at={story.renamed}")
    expect(page.get_by_role("slider")).to_have_count(0)
    page.get_by_role("link", name=re.compile("Moment after: ")).click()
    expect(page.locator("#time-banner")).to_contain_text("assigned porto")
    page.get_by_role("link", name="Back to now").click()
    expect(page.locator(".map-spot")).to_have_count(4)
    bare.close()


def test_on_a_phone(story: Story, opened: Opened) -> None:
    page = opened("operator", phone=True)
    for name, path in (("map", story.map), ("machine", f"/machines/{story.machines['oslo'].id}/peers")):
        page.goto(f"{path}?at={story.renamed}")
        assert_fits(page)
        look(page, f"phone-{name}")
    assert_accessible(page)
