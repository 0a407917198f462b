"""The manual of flags is complete and says what the table of faults says."""

import pytest

from control_plane.cli.complaint import USAGE, Complaint
from control_plane.cli.flags import PAGES, FlagPage, facts_of, page_of
from sidecar import errors

FAULTS = [row for row in vars(errors).values() if isinstance(row, errors.Fault)]
CONTRACT = ["UH", "UF", "UC", "UR", "UPE", "UT", "NR", "NC", "UO", "URX", "RL", "RBAC", "DPE", "DC", "DI", "FI", "SI"]


def test_every_flag_that_can_be_met_has_a_page() -> None:
    flags = [page.flag for page in PAGES]
    assert sorted(flags) == sorted([*CONTRACT, "LR", "FB"])
    assert {row.flag for row in FAULTS} <= set(flags)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.flag)
def test_every_page_says_meaning_causes_and_what_to_do(page: FlagPage) -> None:
    assert page_of(page.flag.lower()) is page
    shown = page_of(page.flag)
    assert shown.means.endswith(".")
    assert shown.causes
    assert shown.remedies
    assert len(shown.title) <= 40
    for line in (*shown.causes, *shown.remedies):
        assert line == line.strip()
        assert not line.endswith(".")


@pytest.mark.parametrize("flag", sorted({row.flag for row in FAULTS}))
def test_statuses_come_from_the_table_of_faults(flag: str) -> None:
    assert set(facts_of(flag).statuses) == {row.status for row in FAULTS if row.flag == flag}
    assert facts_of(flag).untouched == all(row.upstream_untouched for row in FAULTS if row.flag == flag)


def test_statuses_that_a_page_names_are_real() -> None:
    for page in PAGES:
        known = {str(status) for status in facts_of(page.flag).statuses}
        named = {word.strip("(),.") for word in page.means.split()} & {str(number) for number in range(400, 600)}
        assert named <= known, page.flag


def test_flags_without_rows_have_no_facts() -> None:
    assert facts_of("DI").statuses == ()
    assert not facts_of("FI").untouched


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(Complaint) as refused:
        page_of("RBCA")
    assert (refused.value.message, refused.value.hint) == ("unknown flag 'RBCA'", "did you mean RBAC?")
    assert refused.value.status == USAGE
    with pytest.raises(Complaint, match="unknown flag 'zzzzzz'") as far:
        page_of("zzzzzz")
    assert "lists all" in far.value.hint
