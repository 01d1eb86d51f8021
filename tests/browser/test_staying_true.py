"""Pages stay true: through a gateway that cannot answer for a while, and when what they are about changes."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Opened
from tests.browser.scene import Scene

UNAVAILABLE = "<title>x</title><body><main id=main><h1>The gateway is still loading</h1></main>"


def break_down(page: Page) -> list[str]:
    """Have the gateway answer nothing that this page asks for; which addresses it asks for then."""
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, body=UNAVAILABLE, content_type="text/html")

    page.route("**/*", refuse)
    return asked


def forgive(faults: list[str]) -> None:
    """What browsers say of answers like 503 is what a test wanted."""
    faults[:] = [each for each in faults if "Failed to load resource" not in each]


def test_a_page_comes_through_a_gateway_that_cannot_answer_for_a_while(
    scene: Scene, opened: Opened, faults: list[str]
) -> None:
    network = scene.network("patient", "10.61.0.0/24")
    page = opened()
    page.goto(f"/networks/{network}/settings")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    asked = break_down(page)
    with page.expect_response(lambda answer: answer.status == 503):
        scene.change("PATCH", f"/mesh-networks/{network}", {"is_default": True})
    expect(page.locator("body")).to_have_attribute("data-live", "no")
    expect(page.get_by_role("heading", name="patient")).to_be_visible()
    page.unroute("**/*")
    expect(page.get_by_text("This is the default network.")).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    assert len(asked) < 5
    forgive(faults)


def test_a_page_that_could_not_be_made_comes_by_itself(scene: Scene, opened: Opened, faults: list[str]) -> None:
    network = scene.network("early", "10.62.0.0/24")
    page = opened()
    body = "<!doctype html>" + UNAVAILABLE

    def refuse(route: Route) -> None:
        answer = route.fetch(url=f"{scene.url}/networks/00000000-0000-4000-8000-000000000000")
        text = answer.text().replace('<div class="empty"', '<div class="empty" data-fades')
        route.fulfill(status=503, body=text or body, content_type="text/html")

    page.route(f"**/networks/{network}", refuse)
    page.goto(f"/networks/{network}")
    page.unroute(f"**/networks/{network}")
    expect(page.get_by_role("heading", name="early")).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    forgive(faults)


def test_a_machine_is_followed_into_the_networks_that_it_joins(scene: Scene, opened: Opened) -> None:
    first, second = scene.network("first", "10.63.0.0/24"), scene.network("second", "10.64.0.0/24")
    one, other = scene.machine("joiner", first), scene.machine("neighbour", second)
    page = opened("viewer")
    page.goto(f"/machines/{one.id}/peers")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    scene.change("POST", f"/mesh-networks/{second}/machines", {"machine_uuid": str(one.id)})
    expect(page.locator("main")).to_contain_text("neighbour")
    scene.announce(one, second, "192.0.2.9:51821")
    scene.direct(second, one, other, rtt=20)
    expect(page.locator("main")).to_contain_text("20 ms")


@pytest.mark.parametrize("tab", ["endpoints", "peers"])
def test_a_machine_in_many_networks_is_followed_in_all(scene: Scene, opened: Opened, tab: str) -> None:
    networks = [
        scene.network(f"{tab}-{number:02}", f"10.{70 + (tab == 'peers')}.{number}.0/24") for number in range(34)
    ]
    machine, other = scene.machine(f"everywhere-{tab}"), scene.machine(f"beside-{tab}")
    for network in networks:
        batch = {"machine_uuids": [str(machine.id), str(other.id)]}
        scene.change("POST", f"/mesh-networks/{network}/machines/batch", batch)
    page = opened("viewer")
    page.goto(f"/machines/{machine.id}/{tab}")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    # Of 34 or, where there is a default network, 35, the first twenty by their ids are shown with their endpoints.
    for network in sorted(networks)[-1:] if tab == "peers" else [networks[-1], networks[0], sorted(networks)[18]]:
        scene.change("PATCH", f"/mesh-networks/{network}", {"name": f"renamed-{network.hex[:6]}"})
    expect(page.locator("main")).to_contain_text("renamed-")


def test_a_page_that_is_slow_to_make_is_asked_for_more_rarely(scene: Scene, opened: Opened) -> None:
    network = scene.network("slow", "10.65.0.0/24")
    page = opened("viewer")
    page.goto(f"/networks/{network}")
    expect(page.locator("body")).to_have_attribute("data-live", "yes")

    def later(route: Route) -> None:
        time.sleep(0.2)
        route.continue_()

    page.route(f"**/networks/{network}", later)
    for number in range(3):
        scene.change("PATCH", f"/mesh-networks/{network}", {"name": f"slow-{number}"})
        expect(page.get_by_role("heading", name=f"slow-{number}", level=1)).to_be_visible()
    asked = page.evaluate(
        "path => performance.getEntriesByType('resource').filter(each => each.name.endsWith(path))"
        ".map(each => [each.startTime, each.responseEnd])",
        f"/networks/{network}",
    )
    assert len(asked) >= 3
    for (start, end), (following, _) in pairwise(asked):
        assert following - end >= 3 * (end - start)
