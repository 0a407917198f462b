"""What a service of `run -- COMMAND` waits for, on virtual time."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from sidecar.app import life
from sidecar.app.holder import Holder
from sidecar.app.one_worker import OneWorker
from sidecar.app.service import Service, check_command
from sidecar.errors import ConfigError
from sidecar.model.bootstrap import AdminConfig, Bootstrap, HostPort, MetricsConfig, NodeInfo, OutboundConfig

ANY = HostPort("127.0.0.1", 0)


async def test_a_service_whose_sidecar_is_never_ready_is_not_started(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    bootstrap = Bootstrap(
        node=NodeInfo(service="web", id="web", account="web"),
        outbound=OutboundConfig(listen=()),
        admin=AdminConfig(listen=ANY),
        metrics=MetricsConfig(listen=ANY),
    )
    holder = Holder(
        bootstrap,
        None,
        lambda rng, directory: OneWorker(bootstrap, [], rng, directory, said.append),
        said.append,
    )
    monkeypatch.setattr(holder, "not_started", lambda: ["no identity yet"])
    mark = tmp_path / "started"
    service = Service(["touch", str(mark)], (1024, 1024), said.append)
    status = await life._Life(holder, [], service, said.append).live()
    assert status == life.FAILED
    assert not mark.exists()
    assert "not ready within 60 s, so the service was not started: no identity yet" in said


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="no-such-program: no such program"):
        check_command(["no-such-program", "argument"])
