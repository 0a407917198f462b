"""A short rolling restart: replicas and the caller's sidecar in turn; nothing is lost or done twice."""

from pathlib import Path

from bench import progress
from tests.rolling.run import play


def test_nothing_is_lost_or_doubled_when_every_sidecar_restarts(tmp_path: Path) -> None:
    outcome = play(tmp_path, progress.to_stderr, per_s=20, seconds=12, restarts=3)
    assert outcome.lost == []
    assert outcome.doubled == []
    assert outcome.sent == 720
    assert outcome.restarts == {"called-1": 1, "called-2": 1, "calling": 1}
