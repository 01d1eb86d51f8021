"""What every page must be, whatever is on it."""

from __future__ import annotations

import os
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_AXE = Axe()
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def assert_accessible(page: Page) -> None:
    """Axe-core finds nothing wrong, in either theme."""
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        found = _AXE.run(page, options=_RULES)
        assert not found.response["violations"], f"{page.url}, {theme}:\n{found.generate_report()}"


def assert_fits(page: Page) -> None:
    """Nothing sticks out at the side."""
    width, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= shown, f"{page.url} is {width} wide on a screen of {shown}"


def look(page: Page, name: str) -> None:
    """Take a screenshot in both themes for who wants some: `WIRELOOM_SHOTS` names a folder."""
    folder = os.environ.get("WIRELOOM_SHOTS")
    if folder:
        for theme in ("light", "dark"):
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            page.screenshot(path=Path(folder, f"{name}-{theme}.png"), full_page=True)


def forgive(faults: list[str], status: int) -> None:
    """Browsers complain of every answer that is a refusal; one with this status was expected."""
    complaint = next(fault for fault in faults if f"status of {status}" in fault)
    faults.remove(complaint)
