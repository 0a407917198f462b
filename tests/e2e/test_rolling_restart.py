"""A short rolling restart: both replicas of a service, one after the other; no request is lost or done twice."""

from pathlib import Path

from bench import progress
from tests.rolling.run import play


def test_nothing_is_lost_or_doubled_when_both_replicas_restart(tmp_path: Path) -> None:
    outcome = play(tmp_path, progress.to_stderr, per_s=20, seconds=10, restarts=2)
    assert outcome.lost == []
    assert outcome.doubled == []
    assert outcome.sent == 600
    assert outcome.restarts == {"called-1": 1, "called-2": 1}
