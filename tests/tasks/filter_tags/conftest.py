from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tasks.filter_tags.many_tags import NAME, TAGS

if TYPE_CHECKING:
    from tests.support_misbehaving import Misbehaving


@pytest.fixture
def filled(upstream: Misbehaving) -> Misbehaving:
    for tag in TAGS:
        upstream.add_image(NAME, tag, layers=(tag.encode(),))
    return upstream
