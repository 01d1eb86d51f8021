"""The net under all pages: whoever wrote them, each is whole, accessible, fits a phone, offers a viewer nothing that
would be refused, and shows the worst that anybody may write as the text that it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page
from starlette.routing import Match

from services.gateway.authority import includes
from services.gateway.http.app import routes
from services.gateway.http.guard import GuardedRoute, needed_role
from tests.browser.conftest import Opened
from tests.browser.crowded import EVIL_ASCII, Crowd
from tests.browser.looking import assert_accessible, assert_fits, look
from tests.browser.scene import Scene

OF_EACH = 2
"""So many pages of one route are looked at."""

REFERENCES = """
([html, path]) => {
  const page = html === null ? document : new DOMParser().parseFromString(html, "text/html");
  const found = [];
  const here = new URL(path ?? "", location.href);
  const add = (method, address) => address && found.push([method, new URL(address, here)]);
  for (const method of ["get", "post", "put", "patch", "delete"]) {
    for (const each of page.querySelectorAll(`[hx-${method}]`)) add(method, each.getAttribute(`hx-${method}`));
  }
  for (const form of page.querySelectorAll("form")) {
    if (form.hasAttribute("action")) add(form.method, form.getAttribute("action"));
  }
  for (const link of page.querySelectorAll("a[href]")) add("link", link.getAttribute("href"));
  for (const part of page.querySelectorAll("[data-live-src]")) add("get", part.dataset.liveSrc);
  const ours = found.filter(([, url]) => url.origin === location.origin);
  return ours.map(([how, url]) => [how, url.pathname + url.search]);
}
"""
"""What a page refers to, and how."""

FETCH = "path => fetch(path, {headers: {'HX-Request': 'true', 'HX-Target': 'main'}}).then(answer => answer.text())"


@pytest.fixture(scope="module")
def crowd(scene: Scene) -> Crowd:
    return Crowd(scene)


def route_of(method: str, address: str) -> GuardedRoute | None:
    """The route that answers at an address."""
    wanted = {"type": "http", "method": method.upper(), "path": urlsplit(address).path, "headers": []}
    return next((route for route in routes() if route.matches(wanted)[0] is Match.FULL), None)


def references(page: Page, path: str | None = None) -> list[tuple[str, str]]:
    """What a page refers to: the one that is open, or the one at a path. In the page's order: ids are random."""
    html = None if path is None else page.evaluate(FETCH, path)
    return list(dict.fromkeys((how, address) for how, address in page.evaluate(REFERENCES, [html, path])))


class Crawl:
    """Goes from page to page, of each route only to some."""

    def __init__(self, start: str) -> None:
        self._waiting = [start]
        self._seen = {start}
        self.visited: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        """The pages' paths. What each refers to is followed once the next is asked for."""
        while self._waiting:
            path = self._waiting.pop(0)
            route = route_of("GET", path)
            assert route is not None, f"nothing is at {path}"
            place = route.path + ("?" if "?" in path else "")
            if self.visited[place] >= OF_EACH or not route.path.startswith(("/networks", "/machines", "/events")):
                continue
            self.visited[place] += 1
            yield path

    def follow(self, found: list[tuple[str, str]], *hows: str) -> None:
        """Go on to these."""
        for how, address in found:
            if how in hows and address not in self._seen:
                self._seen.add(address)
                self._waiting.append(address)


def test_every_page_is_whole(crowd: Crowd, opened: Opened, faults: list[str]) -> None:
    page = opened("operator")
    page.on("dialog", lambda dialog: pytest.fail(f"a page opened the dialog {dialog.message}"))
    crawl = Crawl(f"/networks/{crowd.office}")
    looked_at: set[str] = set()
    wrong: list[str] = []
    evil_seen = 0
    for path in crawl:
        answer = page.goto(path)
        assert answer is not None
        crawl.follow(references(page), "link")
        checks: list[Callable[[], None]] = [partial(check_whole, page, answer.status)]
        route = route_of("GET", path)
        if route is not None and route.path not in looked_at:
            looked_at |= {other.path for other in routes() if other.endpoint is route.endpoint}
            checks += [partial(check, page) for check in (assert_accessible, assert_fits, check_on_a_phone)]
        wrong += [f"{path}: {error}" for check in checks if (error := error_of(check))]
        evil_seen += EVIL_ASCII[:32] in page.locator("main").inner_text()
        wrong += [f"{path}: {fault}" for fault in faults]
        faults.clear()
    wanted = {route.path for route in routes() if "GET" in (route.methods or ()) and is_page(route)}
    wrong += [f"no link leads to {path}" for path in sorted(wanted - looked_at)]
    assert not wrong, "\n\n".join(wrong)
    assert evil_seen >= 5, "the worst that one may write stands on some pages, as text"


def error_of(check: Callable[[], None]) -> str:
    """What is wrong, if something is."""
    try:
        check()
    except AssertionError as error:
        return str(error)
    return ""


def check_whole(page: Page, status: int) -> None:
    assert status == 200, f"the status is {status}"
    assert re.fullmatch(r".+ · Wireloom", page.title()), f"the title is {page.title()}"
    assert page.locator("h1").count() == 1, f"it has {page.locator('h1').count()} h1"
    assert page.locator("html[lang]").count() == 1, "it does not say its language"
    assert page.evaluate("window.hacked === undefined && !document.querySelector('[onload], [onerror]')"), (
        "it is hacked"
    )


def check_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        assert_fits(page)
        look(page, "crawl" + re.sub(r"[^a-z]+", "-", re.sub(r"[0-9a-f-]{36}", "", urlsplit(page.url).path)))
    finally:
        page.set_viewport_size({"width": 1280, "height": 860})


def is_page(route: GuardedRoute) -> bool:
    """Whether a route is of a page that viewers may see, rather than of a part of one."""
    parts = ("/suggestions/", "/seen")
    return (
        route.path.startswith(("/networks", "/machines", "/events"))
        and needed_role(route) == "viewer"
        and not any(part in route.path for part in parts)
    )


def test_a_viewer_is_offered_nothing_that_is_refused(crowd: Crowd, opened: Opened) -> None:
    page = opened("viewer")
    crawl = Crawl(f"/networks/{crowd.office}")
    for path in crawl:
        found = references(page, path)
        for how, address in found:
            if address.startswith("/static/"):
                continue
            method = "GET" if how == "link" else how.upper()
            route = route_of(method, address)
            assert route is not None, f"{path} refers to {method} {address}, which there is not"
            role = needed_role(route)
            assert role is None or includes("viewer", role), f"{path} offers a viewer {method} {address}"
        crawl.follow(found, "link", "get")
    assert sum(crawl.visited.values()) > 20


def test_an_operator_is_offered_only_what_there_is(crowd: Crowd, opened: Opened) -> None:
    page = opened("operator")
    crawl = Crawl(f"/networks/{crowd.office}")
    for path in crawl:
        found = references(page, path)
        for how, address in found:
            method = "GET" if how == "link" else how.upper()
            assert route_of(method, address) is not None, f"{path} refers to {method} {address}, which there is not"
        crawl.follow(found, "link")
