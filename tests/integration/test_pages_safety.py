"""The dashboard's pages give nothing away and let nobody change anything who may not: signing in and out, sessions,
other sites' pages, roles, headers, and the stream of news."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest
from fastapi.routing import APIRoute

from services.gateway import pulse
from services.gateway.authority import includes
from services.gateway.http.guard import COOKIE, GuardedRoute, needed_role
from services.gateway.pages import live, site
from services.gateway.settings import Limits
from tests.support.gateway import control_plane, done
from tests.support.secured_plane import API, SecuredPlane, secured_plane

CSRF = "X-CSRF-Token"
SOMETHING = "0d9f2b70-3c4e-4f0e-9d37-6f1f1f6f0b11"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path, limits=Limits(failures=100)) as running:
        yield running


class Browser:
    """What a browser keeps and sends."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.cookie = ""

    async def sign_in(self, token: str, **form: str) -> httpx2.Response:
        response = await self.http.post(
            "/sign-in", data={"token": token, **form}, headers={"Sec-Fetch-Site": "same-origin"}
        )
        if found := re.match(rf"{COOKIE}=([^;]+)", response.headers.get("set-cookie", "")):
            self.cookie = found[1]
        self.http.cookies.clear()
        return response

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(path, headers={"Cookie": f"{COOKIE}={self.cookie}", **headers})

    async def csrf(self) -> str:
        found = re.search(r'"X-CSRF-Token": "([0-9a-f]+)"', (await self.get("/networks")).text)
        assert found
        return found[1]

    async def send(self, method: str, path: str, csrf: str | None, **headers: str) -> httpx2.Response:
        told = {"Cookie": f"{COOKIE}={self.cookie}", **headers} | ({CSRF: csrf} if csrf is not None else {})
        return await self.http.request(method, path, headers=told, data={"command_id": str(uuid4())})


async def signed_in(plane: SecuredPlane, role: str) -> Browser:
    browser = Browser(await plane.client())
    assert (await browser.sign_in(await plane.token_of(f"{role}-1", role))).status_code == 303
    return browser


async def end_session(plane: SecuredPlane, browser: Browser) -> None:
    """An admin revokes it."""
    admin = await plane.admin()
    name = (await done(browser.get(f"{API}/session")))["token_name"]
    (found,) = [token for token in (await done(admin.get(f"{API}/tokens")))["items"] if token["name"] == name]
    await done(admin.delete(f"{API}/tokens/{found['uuid']}"))


def page_routes() -> list[GuardedRoute]:
    found = [route for router in site.ROUTERS for route in router.routes]
    assert all(isinstance(route, GuardedRoute) for route in found)
    return [route for route in found if isinstance(route, GuardedRoute)]


def example(route: APIRoute) -> str:
    """An address of a route: of a thing that there is not."""
    path = re.sub(r"{\w*(?:sequence|number|position)\w*}", "1", route.path)
    return re.sub(r"{[^}]+}", SOMETHING, path)


def requests() -> Iterator[tuple[GuardedRoute, str, str]]:
    for route in page_routes():
        for method in sorted(route.methods or ()):
            yield route, method, example(route)


async def test_signing_in_and_out(plane: SecuredPlane) -> None:
    token = await plane.token_of("alice", "operator")
    browser = Browser(await plane.client())
    wrong = await browser.sign_in("wla_" + "x" * 43)
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    assert "The token is unknown" in wrong.text
    assert "wla_xx" not in wrong.text
    answer = await browser.sign_in(token, next="/machines?search=db")
    assert answer.headers["location"] == "/machines?search=db"
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)
    assert COOKIE.startswith("__Host-")
    assert token not in answer.headers["set-cookie"]
    assert (await browser.get("/networks")).status_code == 200
    left = await browser.send("POST", "/sign-out", await browser.csrf())
    assert left.headers["hx-redirect"] == "/sign-in"
    assert "max-age=0" in left.headers["set-cookie"].lower()
    assert (await browser.get("/networks")).headers["location"] == "/sign-in?next=%2Fnetworks"


ELSEWHERE = (
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "javascript:alert(1)",
    "evil.example",
    " //evil.example",
    "/\r\nSet-Cookie: a=b",
    "/sign-in?next=/sign-in",
    "/api/v1/events/stream",
    "/live?topic=events",
    "",
)


async def test_signing_in_leads_to_a_page_of_ours_only(plane: SecuredPlane) -> None:
    browser = Browser(await plane.client())
    for location in ELSEWHERE:
        asked = await browser.http.get("/sign-in", params={"next": location})
        assert 'name="next" value="/networks"' in asked.text, location
        answer = await browser.sign_in(plane.admin_token, next=location)
        assert answer.headers["location"] == "/networks", location


async def test_a_session_is_always_a_new_one(plane: SecuredPlane) -> None:
    browser = Browser(await plane.client())
    planted = "wla_" + "A" * 43
    answer = await browser.http.post(
        "/sign-in", data={"token": plane.admin_token}, headers={"Cookie": f"{COOKIE}={planted}"}
    )
    assert planted not in answer.headers["set-cookie"]
    browser.cookie = planted
    assert (await browser.get("/networks")).status_code == 303
    first, second = Browser(browser.http), Browser(browser.http)
    await first.sign_in(plane.admin_token)
    await second.sign_in(plane.admin_token)
    assert first.cookie != second.cookie
    assert await first.csrf() != await second.csrf()
    # An API token is no session, nor the other way round.
    first.cookie = plane.admin_token
    assert (await first.get("/networks")).status_code == 303
    bearer = await plane.client(second.cookie)
    assert (await bearer.get(f"{API}/machines")).status_code == 401


async def test_a_session_that_ended_leads_to_signing_in_and_back(plane: SecuredPlane) -> None:
    browser = await signed_in(plane, "operator")
    csrf = await browser.csrf()
    await end_session(plane, browser)
    page = await browser.get("/machines?search=a&after=b")
    assert page.status_code == 303
    assert parse_qs(urlsplit(page.headers["location"]).query) == {"next": ["/machines?search=a&after=b"]}
    refreshed = await browser.get("/networks?search=x", **{"HX-Request": "true", "HX-Target": "main"})
    assert (refreshed.status_code, refreshed.headers["hx-redirect"]) == (401, "/sign-in?next=%2Fnetworks%3Fsearch%3Dx")
    dialog = {"HX-Request": "true", "HX-Target": "dialogs", "HX-Current-URL": f"{plane.url}/networks?search=x"}
    asked = await browser.get(f"/networks/{SOMETHING}/delete", **dialog)
    assert asked.headers["hx-redirect"] == "/sign-in?next=%2Fnetworks%3Fsearch%3Dx"
    sent = await browser.send("POST", "/networks/new", csrf, **dialog)
    assert (sent.status_code, sent.headers["hx-redirect"]) == (401, "/sign-in?next=%2Fnetworks%3Fsearch%3Dx")
    elsewhere = dialog | {"HX-Current-URL": "https://evil.example//evil.example/"}
    assert (await browser.get("/networks", **elsewhere)).headers["hx-redirect"] == "/sign-in"
    assert (await browser.get("/live?topic=networks")).status_code == 401


async def test_wrong_tokens_are_throttled(tmp_path: Path) -> None:
    async with secured_plane(tmp_path, limits=Limits(failures=5)) as plane:
        browser = Browser(await plane.client())
        answers = [await browser.sign_in("wla_" + "x" * 43) for _ in range(8)]
        assert [answer.status_code for answer in answers[:5]] == [401] * 5
        assert answers[-1].status_code == 429
        assert "too many requests" in answers[-1].text
        assert "Sign in to Wireloom" in answers[-1].text


FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
)


async def test_other_sites_pages_change_nothing(plane: SecuredPlane) -> None:
    browser = await signed_in(plane, "operator")
    csrf = await browser.csrf()
    form = {"name": "n", "network_cidr": "10.0.0.0/24", "command_id": str(uuid4())}
    before = await plane.position()
    for headers in FOREIGN:
        told = {"Cookie": f"{COOKIE}={browser.cookie}", **headers}
        refused = await browser.http.post("/networks/new", data=form, headers=told | {CSRF: csrf})
        assert refused.status_code == 403
        signing = await browser.http.post("/sign-in", data={"token": plane.admin_token}, headers=headers)
        assert (signing.status_code, "set-cookie" in signing.headers) == (403, False)
    other = await signed_in(plane, "admin")
    before = await plane.position()
    for token in (None, "", "x", csrf[:-1], await other.csrf()):
        assert (await browser.send("POST", "/networks/new", token)).status_code == 403
    for _, method, path in requests():
        if method not in ("GET", "HEAD") and path != "/sign-in":
            assert (await other.send(method, path, csrf)).status_code == 403, (method, path)
            assert (await other.send(method, path, None)).status_code == 403, (method, path)
    assert await plane.position() == before
    kept = {"Cookie": f"{COOKIE}={browser.cookie}", CSRF: csrf, "Origin": plane.url, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.http.post("/networks/new", data=form, headers=kept)).status_code == 200
    assert await plane.position() == before + 1


async def test_without_authorisation_other_sites_pages_change_nothing_either(bus_url: str) -> None:
    async with control_plane(bus_url) as http:
        found = re.search(r'"X-CSRF-Token": "([0-9a-f]+)"', (await http.get("/networks")).text)
        assert found
        before = (await done(http.get(f"{API}/events", params={"limit": 1})))["last_sequence"]
        form = {"name": "n", "network_cidr": "10.0.0.0/24", "command_id": str(uuid4())}
        for headers in FOREIGN:
            refused = await http.post("/networks/new", data=form, headers={CSRF: found[1], **headers})
            assert refused.status_code == 403
        for headers in ({}, {CSRF: ""}, {CSRF: "0" * 64}):
            for _, method, path in requests():
                if method not in ("GET", "HEAD"):
                    assert (await http.request(method, path, data=form, headers=headers)).status_code == 403
        assert (await http.get("/networks", headers={"Host": "evil.example"})).status_code == 421
        assert (await done(http.get(f"{API}/events", params={"limit": 1})))["last_sequence"] == before
        assert (await http.post("/networks/new", data=form, headers={CSRF: found[1]})).status_code == 200


def test_every_page_says_whom_it_lets_in() -> None:
    for route in page_routes():
        role = needed_role(route)
        changes = set(route.methods or ()) - {"GET", "HEAD"}
        if changes and route.path not in ("/sign-in", "/sign-out"):
            assert role is not None, route.path
            assert includes(role, "operator"), f"{route.path} lets {role}s change something"
        if role is None:
            assert route.path == "/sign-in" or route.path.startswith("/static/")
        assert not route.include_in_schema, route.path


async def test_who_may_not_is_refused(plane: SecuredPlane) -> None:
    viewer = await signed_in(plane, "viewer")
    stranger = Browser(await plane.client())
    csrf = await viewer.csrf()
    before = await plane.position()
    for route, method, path in requests():
        role = needed_role(route)
        if role is None or path == "/live":
            continue
        answer = await stranger.send(method, path, csrf)
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].startswith("/sign-in")
        if role != "viewer":
            assert (await viewer.send(method, path, csrf)).status_code == 403, (method, path)
            asked = {"HX-Request": "true", "HX-Target": "dialogs"}
            refused = await viewer.send(method, path, csrf, **asked)
            assert (refused.status_code, refused.text) == (403, "")
            assert refused.headers["x-notice-kind"] == "error"
    assert await plane.position() == before


async def test_every_answer_tells_browsers_what_they_may_do(plane: SecuredPlane) -> None:
    browser = await signed_in(plane, "admin")
    pages = [path for route, method, path in requests() if method == "GET" and path not in ("/live", "/")]
    assets = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', (await browser.get("/networks")).text))
    assert len(assets) >= 5
    for path in pages:
        answer = await browser.get(path)
        assert answer.status_code in (200, 303, 404, 409, 422), (path, answer.status_code)
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert (policy["script-src"], policy["style-src"], policy["base-uri"]) == ("'self'", "'self'", "'none'")
            assert policy["form-action"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] in ("same-origin", "no-referrer")
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    for path in assets:
        answer = await browser.http.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    for path in ("/static/0000000000000000/wireloom.css", "/static/x/../../page.py", "/static/x/..%2f..%2fpage.py"):
        assert (await browser.http.get(path)).status_code == 404


async def lines_of(browser: Browser, query: str) -> AsyncGenerator[str]:
    headers = {"Cookie": f"{COOKIE}={browser.cookie}"}
    async with browser.http.stream("GET", f"/live?{query}", headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("event:"):
                yield line.removeprefix("event:").strip()


async def test_news_end_with_the_session(plane: SecuredPlane) -> None:
    browser = await signed_in(plane, "viewer")
    admin = await plane.admin()
    async with asyncio.timeout(30), aclosing(lines_of(browser, "topic=networks")) as news:
        assert await anext(news) == "begin"
        await done(admin.post(f"{API}/mesh-networks", json={"name": "n", "network_cidr": "10.0.0.0/24"}))
        assert await anext(news) == "change"
        await end_session(plane, browser)
        with pytest.raises(StopAsyncIteration):
            await anext(news)


async def test_news_are_for_few_and_of_what_there_is(plane: SecuredPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await signed_in(plane, "viewer")
    for query in (
        "",
        "topic=",
        "topic=../x",
        "topic=a:b",
        "&".join(["topic=networks"] * (live.TOPICS + 1)),
        "topic=a&since=nan",
    ):
        assert (await browser.get(f"/live?{query}")).status_code == 422, query
    monkeypatch.setattr(pulse, "LISTENERS", 2)
    async with asyncio.timeout(20):
        async with aclosing(lines_of(browser, "topic=networks")) as one, aclosing(lines_of(browser, "topic=x")) as two:
            assert [await anext(one), await anext(two)] == ["begin", "begin"]
            assert (await browser.get("/live?topic=networks")).status_code == 429
            other = await signed_in(plane, "admin")
            async with aclosing(lines_of(other, "topic=networks")) as three:
                assert await anext(three) == "begin"
        # Who has gone makes room.
        while (await status_of(browser, "/live?topic=networks")) == 429:
            await asyncio.sleep(0.05)


async def status_of(browser: Browser, path: str) -> int:
    async with browser.http.stream("GET", path, headers={"Cookie": f"{COOKIE}={browser.cookie}"}) as answer:
        return answer.status_code


ODD = ("%ED%A0%80", "%00", "%FF", "%0d%0aSet-Cookie:a=b", "<script>alert(1)</script>", "x" * 5000, "{{7*7}}")
PLACES = (
    "/networks?search=",
    "/networks?after=",
    "/machines?search=",
    "/events?actor=",
    "/events?machine=",
    "/events?since=",
    "/events/",
    "/sign-in?next=",
)


async def test_odd_input_is_no_fault_of_ours(plane: SecuredPlane) -> None:
    browser = await signed_in(plane, "operator")
    told = {CSRF: await browser.csrf(), "Cookie": f"{COOKIE}={browser.cookie}"}
    told["Content-Type"] = "application/x-www-form-urlencoded"
    for text in ODD:
        for place in PLACES:
            answer = await browser.get(place + text, Accept="text/html")
            assert answer.headers["content-type"].startswith("text/html") or answer.is_redirect, (place, text)
            assert answer.status_code < 500, (place, text)
            assert "<script>alert" not in answer.text
            assert "set-cookie" not in answer.headers
        body = f"name={text}&network_cidr={text}&command_id={uuid4()}"
        answer = await browser.http.post("/networks/new", content=body, headers=told)
        assert answer.status_code in (403, 409, 422), (text, answer.status_code)


async def test_addresses_that_nobody_would_write_are_answered_all_the_same(plane: SecuredPlane) -> None:
    browser = await signed_in(plane, "viewer")
    admin = await plane.admin()
    network = (await done(admin.post(f"{API}/mesh-networks", json={"name": "n", "network_cidr": "10.9.0.0/24"})))[
        "uuid"
    ]
    big, far, odd = 10**30, "9" * 4000, "%00%ff%F0%9F%92%A9"
    within = [f"events?before={place}" for place in (-5, 0, big, far)]
    within += [f"{page}?after={text}" for page in ("map", "machines", "bgp") for text in (odd, "e30", "W10", "WzEsMl0")]
    within += [f"machines?search={'x' * 9000}", f"map?search={odd}", "bgp?state=%0d%0aX-A:1", "machines?state=nowhere"]
    paths = [f"/networks/{network}/{each}" for each in within]
    paths += [f"/events/{place}" for place in (-1, 0, big, far)] + [f"/events?before={big}", "/events?since=0001-01-01"]
    paths += [
        "/events?until=9999-12-31T23:59:59-23:59",
        f"/networks?after={odd}",
        f"/machines?after={odd}",
        "/networks?after=W10",
    ]
    paths += ["/machines?after=WzEsMl0", f"/sign-in?next={odd}", "/sign-in?next=//evil.example", "/networks?sort=x"]
    for path in paths:
        answer = await browser.get(path)
        assert answer.status_code < 500, (path[:100], answer.status_code)
        assert "x-a" not in answer.headers
        odd_place = await browser.get("/networks", **{"HX-Request": "true", "HX-Current-URL": "http://["})
        assert odd_place.status_code < 500
    without = await browser.http.get("/networks", headers={"HX-Request": "true", "HX-Current-URL": "http://["})
    assert without.status_code == 401
