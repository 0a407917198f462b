"""deploy/systemd: systemd itself finds nothing wrong with the unit, and it fits the product."""

import subprocess
from pathlib import Path

import pytest

from sidecar.model.bootstrap import ProcessLimits
from tests.support import needs

UNIT = Path(__file__).parents[2] / "deploy/systemd/sidecar@.service"


def settings() -> dict[str, str]:
    lines = [line for line in UNIT.read_text("utf-8").splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_its_times_and_limits_fit_the_defaults() -> None:
    found, limits = settings(), ProcessLimits()
    assert found["Type"] == "notify"
    assert int(found["TimeoutStopSec"]) > limits.drain_delay_s + 2 * limits.drain_timeout_s
    assert int(found["LimitNOFILE"]) > 2 * limits.connections
    assert found["KillMode"] == "mixed"


@pytest.mark.needs("systemd-analyze")
def test_systemd_reads_it_and_calls_it_well_shut(tmp_path: Path) -> None:
    unit = tmp_path / "sidecar@orders.service"
    unit.write_text(UNIT.read_text("utf-8").replace("/usr/local/bin/sidecar", "/bin/true"), "utf-8")
    tool = str(needs.find("systemd-analyze"))
    verified = subprocess.run([tool, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if "sidecar@" in line] == []
    judged = subprocess.run(
        [tool, "security", "--offline=yes", "--threshold=30", str(unit)], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout[-2000:] + judged.stderr
