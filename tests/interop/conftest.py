"""One world for all interop tests of a run: servers and sidecars start once."""

from collections.abc import Iterator

import pytest

from tests.interop.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Upstreams and sidecars, each started when first needed."""
    made = World(tmp_path_factory.mktemp("interop"))
    try:
        yield made
    finally:
        made.stop()
