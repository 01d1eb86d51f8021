"""The dashboard over real machines: one is let in with the line that it shows; paths break and heal in plain sight."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from deploy.lab.lab import Lab
from deploy.lab.mesh import AGENT, Mesh
from tests.browser.conftest import watch
from tests.browser.looking import assert_accessible, look
from tests.browser.scene import CHROMIUM

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

FOUR = ("berlin", "lisbon", "oslo", "paris")
LATER = "vienna"
NETWORK = "office"
PATIENCE = 30_000


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Lab() as lab:
        mesh = Mesh(lab)
        mesh.start_control_plane()
        mesh.wireloom("network", "create", NETWORK, "172.16.0.0/24", "--default")
        token = mesh.bootstrap_token("--uses", str(len(FOUR)))
        for name in FOUR:
            mesh.add(name, token)
        mesh.await_all_reach_all(NETWORK, FOUR)
        lab.add_machine(LATER)
        yield mesh


@pytest.fixture(scope="module")
def browser_there(mesh: Mesh, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser on the control plane's machine, as far as the network goes."""
    starter = tmp_path_factory.mktemp("browser") / "chromium"
    starter.write_text(f'#!/bin/sh\nexec {shlex.join(mesh.control.inside([CHROMIUM], only_network=True))} "$@"\n')
    starter.chmod(0o755)
    browser = playwright.chromium.launch(executable_path=starter, args=["--no-sandbox", "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture
def page(mesh: Mesh, browser_there: Browser, faults: list[str]) -> Iterator[Page]:
    """A page of the first admin."""
    context = browser_there.new_context(
        base_url=mesh.url, ignore_https_errors=True, viewport={"width": 1280, "height": 860}
    )
    page = context.new_page()
    watch(page, mesh.url.removeprefix("https://"), faults)
    page.goto("/sign-in")
    page.get_by_label("API token").fill(mesh.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/networks")
    yield page
    context.close()
    assert not faults


def uuid_of_network(mesh: Mesh) -> str:
    return str(mesh.get(f"mesh-networks?name={NETWORK}")["items"][0]["uuid"])


def test_a_machine_is_let_in_with_the_line_that_the_dashboard_shows(mesh: Mesh, page: Page) -> None:
    vienna = mesh.lab.machines[LATER]
    page.goto("/machines")
    page.get_by_role("button", name="Add machine").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Show the line to paste").click()
    expect(dialog.get_by_text("Waiting for the machine")).to_be_visible()
    sudo, agent, *arguments = shlex.split(dialog.locator("#join-line").inner_text())
    assert (sudo, agent) == ("sudo", AGENT.name)
    state = vienna.directory / "state"
    vienna.run([AGENT, *arguments, "--no-service", "--hostname", LATER, "--state-dir", state])
    expect(dialog.get_by_role("link", name=LATER)).to_be_visible()
    mesh.start_agent(vienna)
    expect(dialog.get_by_text("The machine is in")).to_be_visible()
    expect(dialog.get_by_text("online")).to_be_visible(timeout=PATIENCE)
    look(page, "lab-enrolment")
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("row", name=LATER)).to_contain_text("online")
    mesh.await_all_reach_all(NETWORK, (*FOUR, LATER))


def test_paths_break_and_heal_in_plain_sight(mesh: Mesh, page: Page) -> None:
    berlin, oslo = mesh.lab.machines["berlin"], mesh.lab.machines["oslo"]
    page.goto(f"/networks/{uuid_of_network(mesh)}/map")
    line = page.get_by_role("link", name="berlin to oslo")
    expect(line).to_have_accessible_name(re.compile("direct"), timeout=PATIENCE)
    look(page, "lab-map")
    mesh.lab.cut(berlin, oslo)
    expect(line).to_have_accessible_name(re.compile("through"), timeout=PATIENCE)
    look(page, "lab-map-transit")
    line.focus()
    line.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("encrypted from end to end")).to_be_visible()
    expect(dialog.get_by_text(re.compile("no answer|answers no more")).first).to_be_visible()
    assert_accessible(page)
    look(page, "lab-path")
    page.keyboard.press("Escape")
    mesh.lab.mend(berlin, oslo)
    expect(line).to_have_accessible_name(re.compile("direct"), timeout=PATIENCE)


def test_a_machine_tells_of_its_tunnels_while_somebody_looks(mesh: Mesh, page: Page) -> None:
    machine = mesh.get("machines?hostname=paris")["items"][0]
    page.goto(f"/machines/{machine['uuid']}/peers")
    row = page.get_by_role("row", name="berlin")
    expect(row).to_contain_text("ago")
    expect(row).to_contain_text(re.compile(r"\d(\.\d)? k?B"))
    look(page, "lab-peers")
    page.goto(f"/machines/{machine['uuid']}/routing")
    expect(page.get_by_text("established").first).to_be_visible(timeout=PATIENCE)
    look(page, "lab-routing")
    assert_accessible(page)


def test_who_goes_is_seen_to_be_gone(mesh: Mesh, page: Page) -> None:
    page.goto("/machines")
    row = page.get_by_role("row", name=LATER)
    expect(row).to_contain_text("online")
    mesh.agents[LATER].stop()
    expect(row).to_contain_text("seen", timeout=PATIENCE)
    expect(row).not_to_contain_text("online")
