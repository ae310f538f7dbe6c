"""Questions to an upstream wait for their turn without a thread; each turn is used or given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from profiles.model.registry_entry import RegistryEntry
from tasks.on_demand.limits.breaker import Breaker, NotAskedNow
from tasks.on_demand.limits.bulkhead import Bulkhead

if TYPE_CHECKING:
    from registry_server.oci.errors import MirrorflowError
    from tasks.on_demand.limits.bulkhead import Turn

ENTRY: Final = RegistryEntry.model_validate({"name": "r", "urls": ["https://r"], "reqConcurrent": 1})
OTHER: Final = ENTRY.model_copy(update={"name": "other"})


class Questions:
    """To upstream `r`, which is asked one question at a time."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.bulkhead = Bulkhead(self.breaker, questions=4)
        self.started: dict[str, Turn | None] = {}
        self.refused: dict[str, MirrorflowError] = {}

    def begin(self, name: str, *entries: RegistryEntry) -> None:
        def start(turn: Turn | None) -> None:
            self.started[name] = turn

        def refuse(error: MirrorflowError) -> None:
            self.refused[name] = error

        self.bulkhead.begin(entries or (ENTRY,), start, refuse)

    def ask(self, name: str, entry: RegistryEntry = ENTRY) -> None:
        """As the thread of the question does."""
        turn = self.started[name]
        assert turn is not None
        with turn.held(), self.bulkhead.asking(entry):
            pass


@pytest.fixture
def questions() -> Questions:
    return Questions()


def test_a_question_starts_when_the_one_before_it_was_answered(questions: Questions) -> None:
    for name in "abc":
        questions.begin(name)
    assert [*questions.started] == ["a"]
    questions.ask("a")
    assert [*questions.started] == ["a", "b"]
    questions.ask("b")
    questions.ask("c")
    questions.begin("d")
    assert [*questions.started] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("reason", "entry"),
    [("it ended without asking", None), ("it asked another upstream first", OTHER)],
    ids=str,
)
def test_a_turn_that_is_not_used_is_given_back(
    questions: Questions, reason: str, entry: RegistryEntry | None
) -> None:
    questions.begin("a")
    questions.begin("b")
    turn = questions.started["a"]
    assert turn is not None
    with turn.held():
        if entry is not None:
            with questions.bulkhead.asking(entry):
                assert [*questions.started] == ["a", "b"], reason
    assert [*questions.started] == ["a", "b"], reason


def test_a_turn_is_good_once(questions: Questions) -> None:
    questions.begin("a")
    questions.ask("a")
    questions.ask("a")  # a retry has to wait for a turn of its own, which is free
    questions.begin("b")
    questions.begin("c")
    assert [*questions.started] == ["a", "b"]


def test_questions_that_wait_belong_to_the_share(questions: Questions) -> None:
    for name in "abc":
        questions.begin(name)
    assert questions.bulkhead.refusal([ENTRY]) is None
    questions.begin("d")
    assert questions.bulkhead.refusal([ENTRY]) is not None
    questions.ask("a")
    assert questions.bulkhead.refusal([ENTRY]) is None


def test_questions_that_wait_for_an_upstream_that_fails_are_refused_without_a_thread(
    questions: Questions,
) -> None:
    for name in "ab":
        questions.begin(name)
    questions.begin("c", ENTRY, OTHER)
    questions.breaker.failed("r", "it does not answer")
    assert isinstance(questions.refused["b"], NotAskedNow)
    assert [*questions.started] == ["a", "c"]
    assert questions.started["c"] is None, "without a turn with `r`: it asks the other upstream"
