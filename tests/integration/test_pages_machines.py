"""What the pages of machines answer, without a browser: with and without authorisation."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.support.gateway import control_plane, done, register_machine
from tests.support.secured_plane import API, SecuredPlane, secured_plane

SCRIPT = {"HX-Request": "true"}
ADD = "/machines/add"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path) as plane:
        yield plane


async def test_without_authorisation_the_dialog_says_how_machines_register(bus_url: str) -> None:
    async with control_plane(bus_url) as http:
        await register_machine(http, "web-1")
        page = await http.get("/machines", headers=SCRIPT)
        assert "web-1" in page.text
        assert "Bootstrap tokens" not in page.text
        dialog = await http.get(ADD, headers=SCRIPT)
        assert dialog.status_code == 200
        assert f"sudo wireloom-agent run --nats {bus_url}" in dialog.text
        assert (await http.get(f"{ADD}/tokens")).status_code == 409


async def test_a_form_that_is_sent_twice_makes_one_token(plane: SecuredPlane) -> None:
    alice, bob = await plane.account("alice", "operator"), await plane.account("bob", "operator")
    form = {"command_id": str(uuid4()), "lifetime": "1d", "uses": "3"}
    first, again = [await _made(alice, form) for _ in range(2)]
    assert first == again
    # Whoever repeats another's command gets nothing that counts.
    refused = await bob.post(ADD, data=form, headers=SCRIPT)
    assert refused.status_code == 409
    assert "wlb_" not in refused.text
    tokens = await _tokens(alice)
    assert [each["uses"] for each in tokens] == [3]
    arrivals = await alice.get(f"{ADD}/tokens/{tokens[0]['uuid']}/arrivals", headers=SCRIPT)
    assert "Waiting for machines" in arrivals.text
    assert "wlb_" not in arrivals.text
    assert arrivals.headers["cache-control"] == "no-store"


async def test_what_is_wrong_with_a_form_is_said(plane: SecuredPlane) -> None:
    operator = await plane.account("olga", "operator")
    for wrong in ({"lifetime": "2h"}, {"uses": "0"}, {"network": str(uuid4())}, {"network": "office"}):
        form = {"command_id": str(uuid4()), "lifetime": "1d", "uses": "1"} | wrong
        answer = await operator.post(ADD, data=form, headers=SCRIPT)
        assert 400 <= answer.status_code < 500
        assert "field-fault" in answer.text or answer.headers["x-notice"], wrong
        assert "wlb_" not in answer.text
    assert await _tokens(operator) == []


async def test_a_viewer_lets_nobody_in(plane: SecuredPlane) -> None:
    viewer = await plane.account("vera", "viewer")
    token = (await done((await plane.admin()).post(f"{API}/bootstrap-tokens", json={})))["uuid"]
    form = {"command_id": str(uuid4())}
    assert (await viewer.get(ADD, headers=SCRIPT)).status_code == 403
    assert (await viewer.post(ADD, data=form, headers=SCRIPT)).status_code == 403
    assert (await viewer.get(f"{ADD}/tokens/{token}/arrivals", headers=SCRIPT)).status_code == 403
    assert (await viewer.post(f"{ADD}/tokens/{token}/revoke", data=form, headers=SCRIPT)).status_code == 403
    assert (await viewer.post("/machines/assign", data=form, headers=SCRIPT)).status_code == 403


async def _made(http: httpx2.AsyncClient, form: dict[str, str]) -> str:
    """The secret that a form is answered with."""
    answer = await http.post(ADD, data=form, headers=SCRIPT)
    found = re.search(r"wlb_\w+", answer.raise_for_status().text)
    return found[0] if found else ""


async def _tokens(http: httpx2.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await done(http.get(f"{API}/bootstrap-tokens")))["items"]
    return items
