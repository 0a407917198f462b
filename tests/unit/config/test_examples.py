"""Every example is usable as it stands, and says in its first line what it shows."""

from pathlib import Path

import pytest

from sidecar.config.files import load
from sidecar.config.report import check

EXAMPLES = Path(__file__).parents[3] / "examples"
BOOTSTRAPS = sorted(EXAMPLES.glob("*/sidecar.yaml"))
FILES = sorted(EXAMPLES.glob("**/*.yaml"))


def test_there_are_a_handful() -> None:
    assert 4 <= len(BOOTSTRAPS) <= 12


@pytest.mark.parametrize("path", BOOTSTRAPS, ids=lambda path: path.parent.name)
def test_an_example_is_usable_without_warnings(path: Path) -> None:
    assert check(path, {}) == (0, [f"{path}: usable"], [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_opens_with_what_it_shows(path: Path) -> None:
    assert path.read_text("utf-8").startswith("# ")


def test_the_readme_lists_every_example() -> None:
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert all(f"examples/{path.parent.name}/sidecar.yaml" in readme for path in BOOTSTRAPS)


def test_the_canary_sends_one_of_ten_to_v2() -> None:
    snapshot = load(EXAMPLES / "canary" / "sidecar.yaml", {}).snapshot
    assert snapshot is not None
    assert sorted(snapshot.resources) == [
        *("Endpoints/shop/orders", "Endpoints/shop/orders-v1", "Endpoints/shop/orders-v2", "HTTPRoute/shop/orders"),
        *("Service/shop/orders", "Service/shop/orders-v1", "Service/shop/orders-v2"),
    ]


def test_with_identity_files_hops_between_sidecars_use_mutual_tls() -> None:
    snapshot = load(EXAMPLES / "authorization" / "sidecar.yaml", {}).snapshot
    assert snapshot is not None
    assert '"serverName":"8080.frontend.shop.mesh"' in snapshot.resources["Endpoints/shop/frontend"].document
    policy = snapshot.resources["AuthorizationPolicy/shop/orders"].document
    assert "spiffe://mesh.local/ns/shop/sa/web" in policy  # the account of frontend's workload
    assert "spiffe://mesh.local/ns/shop/sa/frontend" in policy  # and its default account
