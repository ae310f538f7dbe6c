from __future__ import annotations

import pytest

from registry_server.counted import counted


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (1200, ("tag",), "1,200 tags"),
        (1, ("repository", "repositories"), "1 repository"),
        (2, ("repository", "repositories"), "2 repositories"),
    ],
)
def test_a_number_and_its_noun_agree(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said
