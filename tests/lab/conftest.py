"""A mesh that the tests of a module share: a control plane, five machines, one network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.lab import Lab
from deploy.lab.mesh import Mesh
from tests.lab.watching import FIVE, NETWORK


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """Five machines in the network `NETWORK`, each reaching every other. Tests leave it so."""
    with Lab() as lab:
        mesh = Mesh(lab)
        mesh.start_control_plane()
        for name in FIVE:
            mesh.add(name)
        mesh.await_known(FIVE)
        mesh.wireloom("network", "create", NETWORK, "172.16.0.0/24")
        mesh.wireloom("machine", "assign", *FIVE, "--network", NETWORK)
        mesh.await_all_reach_all(NETWORK, FIVE)
        yield mesh
