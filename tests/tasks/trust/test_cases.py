"""Every verdict that sigstore, cosign, containers/image and notation expect of their own material."""

from __future__ import annotations

import pytest

from tests.tasks.trust.cases import Case, all_cases, judge_case, verdict_of
from tests.tasks.trust.material import needs_material

CASES = all_cases()

pytestmark = needs_material


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_our_verdict_is_the_one_of_the_project_that_made_the_material(case: Case) -> None:
    assert judge_case(case) == case["expect"]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["expect"] == "accept"], ids=lambda case: case["id"]
)
def test_what_is_accepted_says_who_signed(case: Case) -> None:
    verdict = verdict_of(case)
    assert verdict.who
    assert verdict.authority
    assert not verdict.reasons
