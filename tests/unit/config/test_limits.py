"""The limits of a process: every setting can be given, by file and by variable, and says what it allows."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sidecar.config.bootstrap import read_bootstrap
from sidecar.config.limits import SETTINGS
from sidecar.config.problems import Problems
from sidecar.model.bootstrap import ProcessLimits

STATIC = "node: {service: orders}\nstatic: mesh.d\n"


def limits(text: str, environment: dict[str, str] | None = None) -> ProcessLimits:
    problems = Problems()
    made, _ = read_bootstrap(STATIC + text, "s.yaml", environment or {}, problems)
    assert problems.lines() == []
    return made.limits


def refused(text: str) -> list[str]:
    problems = Problems()
    read_bootstrap(STATIC + text, "s.yaml", {}, problems)
    return problems.lines()


def test_nothing_given_is_the_models_defaults() -> None:
    assert limits("limits: {}\n") == limits("") == limits("limits: {http2: {}}\n") == ProcessLimits()


def test_every_setting_can_be_given() -> None:
    text = """\
limits:
  connections: 7
  headTimeout: 1s
  firstRequest: 2s
  idle: 3s
  bodyIdle: 4s
  bodyMinRate: 5Ki
  writeProgress: 6s
  tunnelIdle: 7s
  detect: 8ms
  connectionAge: 9s
  http2: {streams: 10, pingInterval: 11s, pingTimeout: 12s}
  drainDelay: 13s
  drainTimeout: 14s
"""
    made = limits(text)

    assert made == ProcessLimits(
        connections=7,
        head_timeout_s=1.0,
        first_request_s=2.0,
        idle_s=3.0,
        body_idle_s=4.0,
        body_min_bytes_per_s=5 * 1024,
        write_progress_s=6.0,
        tunnel_idle_s=7.0,
        detect_s=0.008,
        connection_age_s=9.0,
        http2_streams=10,
        http2_ping_s=11.0,
        http2_ping_timeout_s=12.0,
        drain_delay_s=13.0,
        drain_timeout_s=14.0,
    )
    assert len(SETTINGS) == len(fields(ProcessLimits))
    for field in fields(ProcessLimits):
        assert getattr(made, field.name) != field.default


def test_a_variable_reaches_into_the_inner_section() -> None:
    assert limits("", {"SIDECAR_LIMITS_HTTP2_PING_INTERVAL": "5s"}).http2_ping_s == 5.0


@pytest.mark.parametrize("setting", ["tunnelIdle", "connectionAge", "drainDelay", "drainTimeout"])
def test_zero_switches_off_what_may_be_off(setting: str) -> None:
    assert limits(f"limits: {{{setting}: 0s}}\n") != ProcessLimits()


@pytest.mark.parametrize("setting", ["headTimeout", "firstRequest", "idle", "bodyIdle", "writeProgress", "detect"])
def test_what_protects_the_process_cannot_be_off(setting: str) -> None:
    (line,) = refused(f"limits: {{{setting}: 0s}}\n")
    assert line == f"s.yaml:3:{len(setting) + 12}: limits.{setting}: '0s' is too short; at least 1ms is needed"


def test_a_rate_is_a_size_a_second() -> None:
    assert limits("limits: {bodyMinRate: 0}\n").body_min_bytes_per_s == 0
    assert refused("limits: {bodyMinRate: fast}\n") == [
        "s.yaml:3:23: limits.bodyMinRate: 'fast' is not a size such as 65536, 64Ki or 1Mi (no fractions, no blanks)"
    ]


def test_unknown_settings_are_named_with_what_is_known() -> None:
    (line,) = refused("limits: {http2: {stream: 1}}\n")
    assert line.startswith("s.yaml:3:18: limits.http2.stream: unknown field 'stream' (did you mean 'streams'?")


PAGE = Path(__file__).parents[3] / "docs" / "limits.md"


def test_the_page_of_limits_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Za-z0-9.]+)` \| ([0-9A-Za-z]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {f"limits.{name}" for name, _ in rows} == set(SETTINGS)
    plain = "".join(f"  {name}: {value}\n" for name, value in rows if "." not in name)
    inner = ", ".join(f"{name.partition('.')[2]}: {value}" for name, value in rows if "." in name)
    assert limits(f"limits:\n{plain}  http2: {{{inner}}}\n") == ProcessLimits()
