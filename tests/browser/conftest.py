"""Browsers that report whatever is wrong, and the control plane that the tests of a module share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    StorageState,
    expect,
    sync_playwright,
)

from tests.browser.scene import CHROMIUM, Scene, scene_in

expect.set_options(timeout=30_000)

Opened = Callable[..., Page]
"""`opened(role, viewport=…, theme=…)`: a page of a browser in which somebody with this role is signed in."""


# For a module each: while Playwright runs, its event loop does, and tests with one of their own could not.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    # Root has no sandbox, and a machine of the tests no graphics.
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A control plane for all tests of a module."""
    with scene_in(tmp_path_factory.mktemp("plane")) as scene:
        yield scene


@pytest.fixture(scope="module")
def tokens(scene: Scene) -> dict[str, str]:
    """A token of each role."""
    return {role: scene.token(role) for role in ("viewer", "operator", "admin")}


@pytest.fixture(scope="module")
def sessions() -> dict[str, StorageState]:
    """What a browser keeps in which somebody with a role has signed in, so that not every test must do that."""
    return {}


@pytest.fixture
def faults() -> list[str]:
    """What browsers complained of. A test that expects something takes it out."""
    return []


@pytest.fixture
def opened(
    browser: Browser, scene: Scene, tokens: dict[str, str], sessions: dict[str, StorageState], faults: list[str]
) -> Iterator[Opened]:
    contexts = []

    def open_page(role: str | None = "operator", *, phone: bool = False, theme: str = "light") -> Page:
        context = browser.new_context(
            base_url=scene.url,
            ignore_https_errors=True,
            color_scheme=theme,  # type: ignore[arg-type]
            viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 860},
            has_touch=phone,
            storage_state=sessions.get(role or ""),
        )
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        watch(page, urlsplit(scene.url).netloc, faults)
        if role in sessions:
            page.goto("/networks")
        elif role is not None:
            page.goto("/sign-in")
            page.get_by_label("API token").fill(tokens[role])
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/networks")
            sessions[role] = context.storage_state()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def watch(page: Page, host: str, faults: list[str]) -> None:
    """Note errors on the console and of scripts, and whatever goes anywhere else."""

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"{message.type}: {message.text}")

    def asked(request: Request) -> None:
        if urlsplit(request.url).netloc != host and not request.url.startswith("data:"):
            faults.append(f"a request left for {request.url}")

    page.on("console", heard)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("request", asked)
