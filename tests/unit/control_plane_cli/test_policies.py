"""The manual of policies has a line for every field, and says what models, metrics and flags say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.flags import PAGES
from control_plane.cli.policies import FIELDS, OFF, default_of, fields_below, markdown
from sidecar.config.policy.traffic import encode_policy
from sidecar.model.policies import DEFAULT_POLICY
from sidecar.telemetry import families
from tests.support import crds

DOCUMENT = Path(__file__).parents[3] / "docs" / "policies.md"


def leaves(schema: Any, at: str = "") -> Iterator[str]:
    """Every field of a CRD's schema that has no fields of its own; what is in a list is said of the list."""
    below = schema.get("properties")
    if not below:
        yield at
        return
    for name, each in below.items():
        yield from leaves(each, f"{at}.{name}" if at else name)


def written(value: Any, at: str = "") -> Iterator[str]:
    """Every field that the default policy is written with."""
    if not isinstance(value, dict):
        yield at
        return
    for name, each in value.items():
        yield from written(each, f"{at}.{name}" if at else name)


def test_every_field_that_a_document_may_have_has_one_line() -> None:
    spec = dict(crds.load_all()["TrafficPolicy"]["properties"]["spec"]["properties"])
    del spec["targetRefs"]
    assert sorted(field.name for field in FIELDS) == sorted(leaves({"properties": spec}))


def test_defaults_are_the_models() -> None:
    without = {field.name for field in FIELDS} - set(written(encode_policy(DEFAULT_POLICY)))
    defaults = {field.name: default_of(field) for field in FIELDS}
    assert defaults["retries.attempts"] == str(DEFAULT_POLICY.retries.attempts)
    assert defaults["retries.budget.percent"] == "20"
    assert defaults["timeouts.request"] == f"{DEFAULT_POLICY.timeouts.request_s:g}s"
    assert {name: defaults[name] for name in without if defaults[name] != OFF} == {
        "timeouts.request": "15s",
        "balancing.subset.otherwise": "none",
    }


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_metrics_and_flags_are_known(field: Any) -> None:
    names = set(vars(families)["_TABLE"])
    assert not field.metric or field.metric in names
    assert not field.flag or field.flag in {page.flag for page in PAGES}
    for words in (field.means, field.source):
        assert words
        assert not words.endswith(".")
        assert "|" not in words


def test_the_document_is_the_table() -> None:
    assert DOCUMENT.read_text() == markdown(), "python -m control_plane.cli.policies > docs/policies.md"


def test_a_section_is_all_its_fields() -> None:
    assert [field.name for field in fields_below("retries.backoff")] == ["retries.backoff.base", "retries.backoff.max"]
    assert fields_below("") == FIELDS


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(Complaint, match=r"unknown field 'retries.atempts'") as caught:
        fields_below("retries.atempts")
    assert caught.value.status == USAGE
    assert caught.value.hint == "did you mean retries.attempts?"
