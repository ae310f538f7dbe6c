"""Ratios, verdicts and the table: pure."""

from __future__ import annotations

import re

import pytest

from benchmarks.harness.report.reasons import reasons
from benchmarks.harness.report.results import DOCUMENT, README, RESULTS, in_place
from benchmarks.harness.report.rows import AtLeast, AtMost, Better, Beyond, Budget, Exactly, Row, Sample
from benchmarks.harness.report.table import HEADLINES, headlines, markdown, render
from benchmarks.harness.rounds import alternately


def _row(*ours: float, peer: tuple[float, ...] = (), more: bool = False, budget: Budget | None = None) -> Row:
    peers = {"wget": Sample(peer)} if peer else {}
    better = Better.MORE if more else Better.LESS
    return Row("pull", "a blob", "s", Sample(ours), peers, better, budget)


@pytest.mark.parametrize(
    ("row", "ratio"),
    [
        pytest.param(_row(2, peer=(4,)), 2, id="half the time is twice as good"),
        pytest.param(_row(2, peer=(4,), more=True), 0.5, id="half the speed is half as good"),
        pytest.param(_row(1, 10, 3, peer=(2, 20, 6)), 2, id="a slow round slows both"),
        pytest.param(_row(1), None, id="nobody to compare with"),
        pytest.param(_row(0, peer=(1,)), None, id="no ratio to nothing"),
    ],
)
def test_a_ratio_says_how_many_times_as_good(row: Row, ratio: float | None) -> None:
    assert row.ratio == ratio


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        pytest.param(_row(2, peer=(4,)), "", id="nothing promised"),
        pytest.param(_row(2, peer=(4,), budget=AtLeast(2)), "met", id="ratio, met"),
        pytest.param(_row(4, peer=(4,), budget=AtLeast(2)), "missed by 50%", id="ratio, missed"),
        pytest.param(_row(3, budget=AtMost(4)), "met", id="limit, met"),
        pytest.param(_row(6, budget=AtMost(4)), "missed by 50%", id="limit, missed"),
        pytest.param(_row(7, 7, budget=Exactly(7)), "met", id="number, met"),
        pytest.param(_row(7, 8, budget=Exactly(7)), "missed", id="number, missed in one round"),
        pytest.param(_row(5, peer=(4,), budget=Beyond(1)), "met", id="beyond the peer, met"),
        pytest.param(_row(6, peer=(4,), budget=Beyond(1)), "missed: 2 s on top", id="beyond, missed"),
    ],
)
def test_a_verdict_says_by_how_much(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_the_table_has_figures_with_their_spread() -> None:
    text = render([_row(1, 2, 3, peer=(2, 4, 6), budget=AtLeast(1.5))])
    assert "2 s (100%)" in text
    assert "2.00 x" in text
    assert ">= 1.5 x" in text


def test_the_document_shows_only_what_is_compared_or_promised() -> None:
    assert markdown([_row(1)]).count("\n") == 2
    assert "pull: a blob" in markdown([_row(1, budget=AtMost(2))])


def test_contenders_take_turns_and_none_is_always_first() -> None:
    calls: list[str] = []
    found = alternately(2, {name: lambda name=name: calls.append(name) for name in ("ours", "theirs")})  # type: ignore[misc] # the usual way to bind in a loop
    assert calls == ["ours", "theirs", "theirs", "ours"]
    assert found == {"ours": [None, None], "theirs": [None, None]}


@pytest.mark.parametrize(
    ("within", "rounds"),
    [
        pytest.param(100, 4, id="time for all"),
        pytest.param(31, 3, id="the fourth would end at 40"),
        pytest.param(5, 1, id="the first one is always made"),
    ],
)
def test_a_slow_machine_makes_fewer_rounds(within: float, rounds: int) -> None:
    now = 0.0

    def work() -> None:
        nonlocal now
        now += 5  # seconds

    found = alternately(4, {"ours": work, "theirs": work}, within=within, clock=lambda: now)
    assert [len(each) for each in found.values()] == [rounds, rounds]


def test_the_table_stands_between_its_marks() -> None:
    text = "a\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nb\n"
    assert in_place(text, "new\n") == "a\n<!-- benchmarks -->\nnew\n<!-- /benchmarks -->\nb\n"


def test_a_missed_budget_says_why() -> None:
    met, missed = _row(2, peer=(4,), budget=AtLeast(2)), _row(4, peer=(4,), budget=AtLeast(2))
    assert reasons([met]) == ""
    assert "- pull, a blob: " in reasons([met, missed])


def test_the_readme_shows_the_headlines_alone() -> None:
    benchmark, what = HEADLINES[0]
    told, other = (Row(benchmark, name, "s", Sample((2,))) for name in (what, "something else"))
    assert headlines([other, told]).count("\n") == 3
    assert f"| {benchmark}: {what} | 2 s |" in headlines([other, told])


_FAST, _SLOW = Sample((1.0, 1.0)), Sample((9.0,))


@pytest.mark.parametrize(
    ("peers", "best", "cells"),
    [
        pytest.param(
            {"slow": _SLOW, "fast": _FAST}, "fast", "fast 1 s | 0.50 x", id="whoever is closest to us"
        ),
        pytest.param(
            {"gone": None, "slow": _SLOW}, "slow", "slow 9 s | 4.50 x", id="of those that are there"
        ),
        pytest.param({"gone": None}, "", "gone is not on PATH", id="nobody is there, and that is said"),
        pytest.param({"slow": _SLOW, "fast": _FAST}, "fast", "| slow 9 s |", id="the others are told too"),
    ],
)
def test_a_row_names_its_best_peer(peers: dict[str, Sample | None], best: str, cells: str) -> None:
    row = Row("pull", "a blob", "s", Sample((2.0, 2.0)), peers, budget=AtLeast(1))
    assert row.best == best
    assert cells in markdown([row])
    assert bool(row.verdict) == bool(best), "without a peer a goal is neither met nor missed"


def test_figures_that_only_explain_have_no_ratio() -> None:
    row = Row("pull", "cores", "", Sample((1,)), {"wget": Sample((2,))}, Better.NEITHER)
    assert row.ratio is None
    assert "wget 2" in markdown([row])


def test_a_contender_that_takes_too_long_has_no_second_turn() -> None:
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    contenders = {"ours": lambda: work(1), "slow": lambda: work(9), "quick": lambda: work(0.1)}
    found = alternately(3, contenders, patience=3, clock=lambda: now)
    assert {name: len(each) for name, each in found.items()} == {"ours": 3, "slow": 1, "quick": 3}


def test_of_every_missed_budget_that_is_shown_the_reason_is_known() -> None:
    assert "not known yet" not in DOCUMENT.read_text()


def test_the_document_shows_the_table_of_the_results_that_are_kept() -> None:
    assert (RESULTS / "table.md").read_text() in DOCUMENT.read_text()


def test_the_readme_shows_rows_of_the_same_results() -> None:
    table = README.read_text().partition("<!-- benchmarks -->")[2].partition("<!-- /benchmarks -->")[0]
    shown = _rows(table)
    assert len(shown) == len(HEADLINES)
    assert shown <= _rows((RESULTS / "table.md").read_text())
    assert {row.split("|")[1].strip() for row in shown} == {f"{name}: {what}" for name, what in HEADLINES}


def _rows(text: str) -> set[str]:
    """The lines of the table of results: they begin with the name of a benchmark and a colon."""
    return set(re.findall(r"^\| [a-z_]+: .*$", text, re.MULTILINE))


def test_git_ignores_the_plots() -> None:
    ignored = (README.parent / ".gitignore").read_text().splitlines()
    assert "benchmarks/results/*.svg" in ignored
