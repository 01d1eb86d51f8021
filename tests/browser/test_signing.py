"""Signing in with a browser, staying so, and being led back after a session's end."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.looking import assert_accessible, assert_fits, forgive, look
from tests.browser.scene import Scene


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("API token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def end_sessions(scene: Scene, account: str) -> None:
    """An admin ends all sessions of an account."""
    for token in scene.get("/tokens", limit=1000)["items"]:
        if token["use"] == "session" and token["account_name"] == account:
            scene.change("DELETE", f"/tokens/{token['uuid']}")


def test_signing_in(scene: Scene, opened: Opened, tokens: dict[str, str], faults: list[str]) -> None:
    page = opened(None, phone=True)
    page.goto("/events?actor=alice")
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))
    expect(page.get_by_label("API token")).to_be_focused()
    look(page, "sign-in")
    assert_accessible(page)
    assert_fits(page)
    sign_in(page, "wla_wrong")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The token is unknown, expired or revoked.")
    forgive(faults, 401)
    expect(page.get_by_label("API token")).to_have_value("")
    assert page.context.cookies() == []
    look(page, "sign-in-wrong")
    assert_accessible(page)
    sign_in(page, tokens["operator"])
    expect(page).to_have_url(re.compile(r"/events\?actor=alice$"))
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
        "__Host-wireloom_session",
        True,
        True,
        "Strict",
    )
    assert page.evaluate("document.cookie") == ""
    storage = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "wla_" not in storage


def test_signing_out(opened: Opened) -> None:
    page = opened("viewer")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to Wireloom")).to_be_visible()
    assert page.context.cookies() == []
    page.go_back()
    expect(page.get_by_role("heading", name="Sign in to Wireloom")).to_be_visible()
    page.goto("/machines")
    expect(page.get_by_role("heading", name="Sign in to Wireloom")).to_be_visible()


def test_a_page_whose_session_ends_leads_to_signing_in_and_back(
    scene: Scene, opened: Opened, faults: list[str]
) -> None:
    account = "leaving"
    token = scene.token("operator", account)
    page = opened(None)
    page.goto("/machines?search=db")
    sign_in(page, token)
    expect(page).to_have_url(re.compile(r"/machines\?search=db$"))
    expect(page.locator("body")).to_have_attribute("data-live", "yes")
    end_sessions(scene, account)
    # Nobody touches the page: its news end, and it asks by itself.
    expect(page.get_by_role("heading", name="Sign in to Wireloom")).to_be_visible()
    sign_in(page, token)
    expect(page).to_have_url(re.compile(r"/machines\?search=db$"))
    page.goto("/networks/new")
    page.get_by_label("Name").fill("late")
    page.get_by_label("Network CIDR").fill("10.0.0.0/24")
    end_sessions(scene, account)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Sign in to Wireloom")).to_be_visible()
    assert not any(network["name"] == "late" for network in scene.get("/mesh-networks")["items"])
    faults[:] = [fault for fault in faults if "401" not in fault]
